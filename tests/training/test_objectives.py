"""Each objective against its formula, positive by positive and negative by negative."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from recsys.config import Config
from recsys.training.batches import Batch
from recsys.training.objectives.bpr import bpr
from recsys.training.objectives.bsl import bsl
from recsys.training.objectives.candidates import score as score_batch
from recsys.training.objectives.ccl import ccl
from recsys.training.objectives.objective import build_objective
from recsys.training.objectives.sampled_bce import sampled_bce
from recsys.training.objectives.sampled_softmax import sampled_softmax
from recsys.training.objectives.softmax import softmax
from recsys.training.ops import Scoring

D, N = 4, 9  # items that the batch encodes
ROWS = [0, 0, 1, 3, 3, 4]  # row 2 has no positive
TARGETS = [2, 5, 0, 7, 1, 3]
NEGATIVES = [[1, 3, 3], [0, 8, 4], [6, 7, 1], [2, 2, 2], [5, 6, 0], [8, 0, 4]]
SHARED = [0, 3, 4, 7, 8]
MASKED = [(0, 2), (0, 3), (0, 5), (1, 0), (1, 4), (2, 8), (3, 1), (3, 7)]
MASKED += [(4, place) for place in SHARED]  # every negative is known to row 4
MAX = Scoring("max")
COMBINES = [(None, "max"), (2, "max"), (2, "logsumexp")]


def vectors(queries):
    generator = torch.Generator().manual_seed(0)
    shape = (5, D) if queries is None else (5, queries, D)
    users = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    items = torch.randn(N, D, generator=generator, dtype=torch.float64, requires_grad=True)
    return users, items


def batch(form):
    """A batch whose positives have ``own`` or ``shared`` negatives, or the whole catalogue."""
    masked_rows, masked_items = (torch.tensor(side) for side in zip(*MASKED, strict=True))
    chances = {"own": (6, 3), "shared": (5,)}.get(form)
    generator = torch.Generator().manual_seed(1)
    return Batch(
        users=torch.arange(5),
        items=N if form == "all" else torch.arange(N) + 10,
        rows=torch.tensor(ROWS),
        targets=torch.tensor(TARGETS),
        negatives=torch.tensor(NEGATIVES) if form == "own" else None,
        shared=torch.tensor(SHARED) if form == "shared" else None,
        log_chance=None if chances is None else -torch.rand(chances, generator=generator).double(),
        masked_rows=masked_rows,
        masked_items=masked_items,
        history=None,
    )


def score(queries, item, combine):
    each = [(query * item).sum() for query in queries]
    return torch.stack(each).logsumexp(0) if combine == "logsumexp" else max(each)


def examples(users, items, made, combine):
    """Score of each positive, and of its negatives with their log chance."""
    for place, (row, target) in enumerate(zip(ROWS, TARGETS, strict=True)):
        if made.negatives is not None:
            drawn = [(i, made.log_chance[place, k]) for k, i in enumerate(NEGATIVES[place])]
        else:
            drawn = [
                (i, made.log_chance[k]) for k, i in enumerate(SHARED) if (row, i) not in MASKED
            ]
        queries = users[row].view(-1, D)
        negatives = [(score(queries, items[i], combine), chance) for i, chance in drawn]
        yield row, score(queries, items[target], combine), negatives


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else torch.zeros((), dtype=torch.float64)


def assert_parts(objective, made, expected, users, items):
    """Parts by value; the gradient of their sum."""
    found = objective(users, items, made)
    assert found.keys() == expected.keys()
    for name, part in found.items():
        torch.testing.assert_close(part, expected[name], msg=lambda text, n=name: f"{n}: {text}")
    torch.testing.assert_close(
        torch.autograd.grad(sum(found.values()), (users, items)),
        torch.autograd.grad(sum(expected.values()), (users, items)),
    )


def bce(n_items, calibration, scoring=MAX):
    return partial(sampled_bce, n_items=n_items, calibration=calibration, scoring=scoring)


def bilateral(positive_temperature, scoring=MAX):
    return partial(bsl, positive_temperature=positive_temperature, scoring=scoring)


def log_sigmoid(x):
    return -torch.log1p(torch.exp(-x))


@pytest.mark.parametrize("calibration", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("form", ["own", "shared"])
@pytest.mark.parametrize(("queries", "combine"), COMBINES)
def test_sampled_bce(queries, combine, form, calibration):
    users, items = vectors(queries)
    made, n_items = batch(form), 21
    alpha = (3 if form == "own" else 5) / 20
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    positive, negative = [], []
    for _, p, negatives in examples(users, items, made, combine):
        positive.append(-beta * log_sigmoid(p) / 2)
        negative.append(mean(-log_sigmoid(-n) / 2 for n, _ in negatives))
    expected = {"bce_positive": mean(positive), "bce_negative": mean(negative)}
    objective = bce(n_items, calibration, Scoring(combine))
    assert_parts(objective, made, expected, users, items)


def test_full_calibration_raises_the_probability_to_the_share_that_was_drawn():
    """gBCE with t = 1: beta = alpha; with t = 0: beta = 1 (Petrov and Macdonald, section 5)."""
    users, items = vectors(None)
    made, n_items = batch("own"), 31
    parts = {t: bce(n_items, t)(users, items, made) for t in (0.0, 1.0)}
    ratio = parts[1.0]["bce_positive"] / parts[0.0]["bce_positive"]
    assert ratio.item() == pytest.approx(3 / 30)
    assert torch.equal(parts[1.0]["bce_negative"], parts[0.0]["bce_negative"])


def test_more_negatives_than_there_are_items_count_as_all_of_them():
    users, items = vectors(None)
    plain = bce(3, 0.0)(users, items, batch("own"))
    calibrated = bce(3, 1.0)(users, items, batch("own"))
    torch.testing.assert_close(plain, calibrated)


@pytest.mark.parametrize(("queries", "combine"), COMBINES)
def test_bpr(queries, combine):
    users, items = vectors(queries)
    made = batch("own")
    losses = [
        -log_sigmoid(p - n)
        for _, p, negatives in examples(users, items, made, combine)
        for n, _ in negatives
    ]
    assert_parts(partial(bpr, scoring=Scoring(combine)), made, {"bpr": mean(losses)}, users, items)


@pytest.mark.parametrize("log_q", [False, True])
@pytest.mark.parametrize("form", ["own", "shared"])
@pytest.mark.parametrize(("queries", "combine"), COMBINES)
def test_sampled_softmax(queries, combine, form, log_q):
    users, items = vectors(queries)
    made = batch(form)
    losses = []
    for _, p, negatives in examples(users, items, made, combine):
        weighed = [n.exp() / (chance.exp() if log_q else 1) for n, chance in negatives]
        losses.append(-(p.exp() / (p.exp() + sum(weighed))).log())
    objective = partial(sampled_softmax, log_q=log_q, scoring=Scoring(combine))
    assert_parts(objective, made, {"softmax": mean(losses)}, users, items)


@pytest.mark.parametrize(("queries", "combine"), COMBINES)
def test_sampled_softmax_with_every_item_drawn_is_the_softmax_over_the_catalogue(queries, combine):
    """With the user's other items masked, each positive in a row of its own."""
    users, items = vectors(queries)
    targets = torch.tensor([2, 5, 0, 7, 1])
    known = [(row, int(target)) for row, target in enumerate(targets)]
    others = [(0, 3), (0, 8), (2, 1), (2, 4), (4, 0)]
    every = replace(
        batch("shared"),
        rows=torch.arange(5),
        targets=targets,
        shared=torch.arange(N),
        log_chance=torch.zeros(N, dtype=torch.float64),
    )
    whole = replace(every, shared=None, log_chance=None, items=N)
    pairs = {"drawn": sorted(known + others), "whole": others}
    sides = {
        name: [torch.tensor(side) for side in zip(*pair, strict=True)]
        for name, pair in pairs.items()
    }
    every = replace(every, masked_rows=sides["drawn"][0], masked_items=sides["drawn"][1])
    whole = replace(whole, masked_rows=sides["whole"][0], masked_items=sides["whole"][1])
    drawn = sampled_softmax(users, items, every, log_q=True, scoring=Scoring(combine))
    assert_parts(partial(softmax, scoring=Scoring(combine)), whole, drawn, users, items)


@pytest.mark.parametrize("form", ["own", "shared"])
@pytest.mark.parametrize(("queries", "combine"), COMBINES)
def test_ccl(queries, combine, form):
    users, items = vectors(queries)
    made, margin, weight = batch(form), 0.3, 2.5
    positive, negative = [], []
    for _, p, negatives in examples(users, items, made, combine):
        positive.append(1 - p)
        negative.append(weight * mean((n - margin).clamp(min=0) for n, _ in negatives))
    expected = {"ccl_positive": mean(positive), "ccl_negative": mean(negative)}
    objective = partial(ccl, margin=margin, weight=weight, scoring=Scoring(combine))
    assert_parts(objective, made, expected, users, items)


@pytest.mark.parametrize("form", ["own", "shared"])
@pytest.mark.parametrize(("queries", "combine"), COMBINES)
def test_bsl(queries, combine, form):
    users, items = vectors(queries)
    made, r = batch(form), 1.5
    scored = list(examples(users, items, made, combine))
    positive, negative = [], []
    for row, _, negatives in scored:
        own = [(p / r).exp() for other, p, _ in scored if other == row]
        positive.append(-r * mean(own).log())
        weighed = mean(n.exp() for n, _ in negatives)
        negative.append(weighed.log() if negatives else weighed)
    expected = {"bsl_positive": mean(positive), "bsl_negative": mean(negative)}
    assert_parts(bilateral(r, Scoring(combine)), made, expected, users, items)


def test_bsl_tends_to_the_softmax_loss_for_a_large_r():
    """That is: without the positive in its own denominator, over the mean of the negatives."""
    users, items = vectors(None)
    made = batch("own")
    losses = [
        -p + torch.stack([n for n, _ in negatives]).logsumexp(0) - math.log(3)
        for _, p, negatives in examples(users, items, made, "max")
    ]
    gaps = [
        abs(sum(bilateral(r)(users, items, made).values()) - mean(losses)).item()
        for r in (1.0, 10.0, 100.0, 10_000.0)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1 and gaps[-1] < 1e-3


def test_shared_negatives_are_scored_in_bfloat16_where_that_is_asked_for():
    users, items = (each.detach().float() for each in vectors(None))
    found = score_batch(users, items, batch("shared"), Scoring("max", bfloat16=True)).negatives
    wanted = (users.bfloat16() @ items[SHARED].bfloat16().T).float()
    assert found.dtype == torch.float32 and torch.equal(found, wanted)
    assert not torch.allclose(found, users @ items[SHARED].T, rtol=1e-4)


SAMPLED = pytest.mark.parametrize(
    "objective",
    [
        bce(20, 0.5),
        partial(sampled_softmax, log_q=True, scoring=MAX),
        partial(ccl, margin=0.4, weight=20.0, scoring=MAX),
        bilateral(2.0),
    ],
    ids=lambda objective: objective.func.__name__,
)


@SAMPLED
def test_a_last_user_without_positives_changes_nothing(objective):
    users, items = vectors(None)
    made = batch("shared")
    more = torch.cat([users, users[:1]]), items, replace(made, users=torch.arange(6))
    torch.testing.assert_close(objective(*more), objective(users, items, made))


@SAMPLED
@pytest.mark.parametrize("form", ["own", "shared"])
def test_large_scores_cost_in_float32_what_they_cost_in_float64(objective, form):
    users, items = (each.detach() * 12 for each in vectors(None))
    assert (users @ items.T).max() > 200  # whose exponential is infinite in float32
    made = batch(form)
    wanted = objective(users, items, made)
    made = replace(made, log_chance=made.log_chance.float())
    found = objective(users.float(), items.float(), made)
    for name, part in found.items():
        assert part.item() == pytest.approx(wanted[name].item(), rel=1e-4), name


@SAMPLED
@pytest.mark.parametrize("queries", [None, 2])
def test_a_user_who_knows_all_that_was_drawn_costs_a_finite_loss_in_float32(objective, queries):
    users, items = (each.detach().float().requires_grad_() for each in vectors(queries))
    made = batch("shared")
    made = replace(made, log_chance=made.log_chance.float())
    loss = sum(objective(users, items, made).values())
    loss.backward()
    assert abs(loss.item()) < 1e4
    assert users.grad.isfinite().all() and items.grad.isfinite().all()


BUILT = Scoring("logsumexp", bfloat16=True)


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        ("sampled_bce", {"calibration": 0.25}, bce(100, 0.25, BUILT)),
        ("sampled_bce", {"calibration": 0.0}, bce(100, 0.0, BUILT)),
        ("bpr", {}, partial(bpr, scoring=BUILT)),
        ("sampled_softmax", {"log_q": True}, partial(sampled_softmax, log_q=True, scoring=BUILT)),
        ("sampled_softmax", {"log_q": False}, partial(sampled_softmax, log_q=False, scoring=BUILT)),
        ("softmax", {"softmax_max_items": 100}, partial(softmax, scoring=BUILT)),
        ("softmax", {"softmax_max_items": 99}, partial(sampled_softmax, log_q=True, scoring=BUILT)),
        (
            "ccl",
            {"margin": 0.3, "negative_weight": 7.0},
            partial(ccl, margin=0.3, weight=7.0, scoring=BUILT),
        ),
        ("bsl", {"positive_temperature": 1.5}, bilateral(1.5, BUILT)),
    ],
)
def test_an_objective_is_made_of_its_settings(name, settings, wanted):
    """Above its limit the whole catalogue is stood in for by drawn items."""
    config = Config.model_validate({"training": {"objective": name} | settings})
    built = build_objective(config.training, 100, BUILT)
    assert (built.func, built.keywords) == (wanted.func, wanted.keywords)
