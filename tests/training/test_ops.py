from dataclasses import replace

import pytest
import torch

from recsys.training import ops
from recsys.training.ops import Catalogue, Scoring, catalogue_nll, log_sums, pair_scores

R, N, D = 7, 11, 4
ROWS = torch.tensor([0, 0, 2, 3, 3, 3, 6])  # users 1, 4 and 5 have no positive
TARGETS = torch.tensor([1, 4, 0, 10, 3, 3, 5])
MASKED_ROWS = torch.tensor([0, 1, 1, 3, 5, 6])
MASKED_ITEMS = torch.tensor([7, 1, 2, 0, 9, 4])
KINDS = [(None, "max"), (1, "max"), (1, "logsumexp"), (3, "max"), (3, "logsumexp")]


def vectors(queries):
    generator = torch.Generator().manual_seed(0)
    shape = (R, D) if queries is None else (R, queries, D)
    users = torch.randn(shape, generator=generator, requires_grad=True)
    return users, torch.randn(N, D, generator=generator, requires_grad=True)


def catalogue(combine="max", **changes):
    pairs = Catalogue(ROWS, TARGETS, MASKED_ROWS, MASKED_ITEMS, Scoring(combine))
    return replace(pairs, **changes)


def reduced(scores, combine):
    return scores.logsumexp(-1) if combine == "logsumexp" else scores.max(-1).values


def slow_nll(users, items, pairs):
    """Positive by positive, over the scores of one user at a time."""
    losses = []
    for row, target in zip(pairs.rows.tolist(), pairs.targets.tolist(), strict=True):
        queries = users[row].view(-1, D)
        scores = reduced(items @ queries.T, pairs.scoring.combine)  # (N,)
        masked = pairs.masked_items[pairs.masked_rows == row].tolist()
        counted = [item for item in range(N) if item not in masked]
        losses.append(scores[counted].logsumexp(0) - scores[target])
    return torch.stack(losses).mean()


def assert_is_slow_nll(users, items, pairs, turned=None):
    """Value and gradients; ``turned`` are the users as they lie in memory."""
    found = catalogue_nll(users if turned is None else turned, items, pairs)
    expected, inputs = slow_nll(users, items, pairs), (users, items)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found * 1.7, inputs), torch.autograd.grad(expected * 1.7, inputs)
    )


def in_blocks(monkeypatch, queries, value_bytes=4):
    """Scores of so many vectors at once."""
    monkeypatch.setattr(ops, "BLOCK_BYTES", value_bytes * N * queries)
    monkeypatch.setattr(ops, "QUERIES_WANTED", 1)


@pytest.mark.parametrize("users_a_block", [1, 2, 3, 100])
@pytest.mark.parametrize(("queries", "combine"), KINDS)
def test_the_softmax_is_that_of_plain_autograd(monkeypatch, queries, combine, users_a_block):
    in_blocks(monkeypatch, (queries or 1) * users_a_block)
    users, items = vectors(queries)
    assert_is_slow_nll(users, items, catalogue(combine))


@pytest.mark.parametrize(
    ("n_items", "n_queries", "users"),
    [(10_000, 1, 209), (10_000, 8, 26), (200_000, 1, 83), (200_000, 8, 10), (30_000_000, 8, 1)],
)
def test_large_catalogues_take_more_memory_before_they_take_fewer_users(n_items, n_queries, users):
    table = torch.empty(1).expand(n_items, 1)
    assert ops._users_at_once(n_queries, table) == users


def test_nothing_needs_to_be_masked():
    nothing = torch.empty(0, dtype=torch.int64)
    assert_is_slow_nll(*vectors(None), catalogue(masked_rows=nothing, masked_items=nothing))


def test_there_may_be_a_single_positive():
    few = (each[:1] for each in (ROWS, TARGETS, MASKED_ROWS, MASKED_ITEMS))
    assert_is_slow_nll(*vectors(None), Catalogue(*few, Scoring("max")))


def test_users_without_positives_neither_count_nor_move():
    users, items = vectors(None)
    catalogue_nll(users, items, catalogue()).backward()
    assert torch.equal(users.grad[[1, 4, 5]], torch.zeros(3, D))
    assert (users.grad[[0, 2, 3, 6]] != 0).any(dim=1).all()


def test_a_masked_item_gets_nothing_from_the_user_that_masks_it():
    users, items = vectors(None)
    only = Catalogue(ROWS[:2], TARGETS[:2], MASKED_ROWS[:1], MASKED_ITEMS[:1], Scoring("max"))
    catalogue_nll(users, items, only).backward()
    assert torch.equal(items.grad[7], torch.zeros(D))
    assert (items.grad != 0).any(dim=1).sum() == N - 1


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
def test_large_scores_neither_overflow_nor_vanish(combine):
    users, items = ((100 * each.detach().double()).requires_grad_() for each in vectors(2))
    assert_is_slow_nll(users, items, catalogue(combine))


@pytest.mark.parametrize("users_a_block", [2, 100])
@pytest.mark.parametrize(("queries", "combine"), KINDS)
def test_products_in_bfloat16_differ_by_its_rounding_alone(
    monkeypatch, queries, combine, users_a_block
):
    in_blocks(monkeypatch, (queries or 1) * users_a_block, value_bytes=2)
    users, items = vectors(queries)
    pairs = catalogue(scoring=Scoring(combine, bfloat16=True))
    found, expected = catalogue_nll(users, items, pairs), slow_nll(users, items, pairs)
    assert found.dtype == torch.float32
    assert found != expected
    # Three roundings to 8 bits of values of about 1, summed over a few of them.
    for one, other in zip(
        (found, *torch.autograd.grad(found, (users, items))),
        (expected, *torch.autograd.grad(expected, (users, items))),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.02)


def test_vectors_need_not_lie_in_one_piece():
    users, items = vectors(3)
    turned = users.transpose(0, 1).contiguous().transpose(0, 1)
    assert not turned.is_contiguous()
    assert_is_slow_nll(users, items, catalogue(), turned)


@pytest.mark.parametrize("by_bags", [True, False])
@pytest.mark.parametrize(("queries", "combine"), KINDS)
def test_pair_scores_are_those_of_einsum(monkeypatch, queries, combine, by_bags):
    """On the CPU by bags, and as on a GPU."""
    monkeypatch.setattr(ops, "_by_bags", lambda vectors: by_bags)
    users, items = vectors(queries)
    columns = torch.randint(N, (len(ROWS), 5), generator=torch.Generator().manual_seed(1))
    slopes = torch.randn(len(ROWS), 5, generator=torch.Generator().manual_seed(2))
    several = users if queries is not None else users.unsqueeze(1)
    products = torch.einsum("pkd,pcd->pck", several[ROWS], items[columns])
    expected = products[..., 0] if queries is None else reduced(products, combine)
    found = pair_scores(users, items, ROWS, columns, combine)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, (users, items), slopes),
        torch.autograd.grad(expected, (users, items), slopes),
    )


@pytest.mark.parametrize("n_positives", [0, 1, 8, 9, 40])
def test_a_positive_may_name_an_item_twice_and_there_may_be_more_pairs_than_cells(n_positives):
    torch.manual_seed(0)
    users, items = torch.randn(4, 3), torch.randn(6, 3)  # 24 cells; 3 items a positive
    rows = torch.randint(4, (n_positives,)).sort().values
    columns = torch.randint(6, (n_positives, 3))
    expected = (users[rows].unsqueeze(1) * items[columns]).sum(dim=2)
    torch.testing.assert_close(pair_scores(users, items, rows, columns), expected)


@pytest.mark.parametrize("chance", [None, (5,), (4, 5)])
@pytest.mark.parametrize("masks", [True, False])
def test_log_sums_are_those_of_plain_autograd(chance, masks):
    generator = torch.Generator().manual_seed(0)
    scores = (30 * torch.randn(4, 5, generator=generator)).requires_grad_()
    log_chance = None if chance is None else torch.randn(chance, generator=generator)
    masked = (torch.tensor([0, 0, 3]), torch.tensor([1, 4, 0])) if masks else None
    slopes = torch.randn(4, generator=generator)
    plain = scores if log_chance is None else scores - log_chance
    if masked is not None:
        plain = plain.index_put(masked, torch.tensor(-torch.inf))
    expected = plain.logsumexp(dim=1)
    found = log_sums(scores, log_chance, masked)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, scores, slopes), torch.autograd.grad(expected, scores, slopes)
    )


def test_a_row_that_is_wholly_masked_sums_to_next_to_nothing_and_does_not_move():
    scores = torch.ones(1, 2, requires_grad=True)
    found = log_sums(scores, None, (torch.tensor([0, 0]), torch.tensor([0, 1])))
    assert found.item() < -1e30
    assert torch.autograd.grad(found, scores)[0].tolist() == [[0, 0]]
