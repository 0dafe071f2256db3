import numpy as np
import pytest
import torch

from recsys.data.histories import Histories
from recsys.models.history import (
    SECONDS_A_DAY,
    SLOPE_PACE,
    HistoryRows,
    HistoryWeights,
    PooledHistory,
    SequenceHistory,
    build_history,
    latest,
)

LENGTHS = (3, 0, 1, 2)
ITEMS = (4, 0, 2, 4, 1, 3)
POSITIONS = (2, 1, 0, 0, 1, 0)
DAYS = (9.0, 0.5, 0.0, 0.0, 400.0, 0.0)
RATINGS = (5.0, 1.0, float("nan"), 3.0, 1.0, 5.0)
EDGES = np.array([2.0, 4.0], dtype=np.float32)  # between ratings 1, 3 and 5
DIM = 4


def rows(lengths=LENGTHS, **parts):
    held = {
        "items": torch.tensor(ITEMS),
        "positions": torch.tensor(POSITIONS),
        "ages": torch.tensor(DAYS) * SECONDS_A_DAY,
        "ratings": torch.tensor(RATINGS),
    }
    return HistoryRows(torch.tensor([0, *lengths]).cumsum(0), **{**held, **parts})


def random_table():
    return torch.randn(5, DIM, generator=torch.Generator().manual_seed(0), requires_grad=True)


def learned_weights(recency, *, rates=True):
    weights = HistoryWeights(recency, EDGES if rates else None)
    with torch.no_grad():
        if weights.slopes is not None:
            weights.slopes.copy_(torch.tensor([0.3, -0.1]))
        if weights.by_rating is not None:
            weights.by_rating.copy_(torch.tensor([-1.0, 0.2, 0.7]))
    return weights


def slow_logit(weights, recency, entry):
    """Logarithm of the weight of one entry, by the formulas of the docstring."""
    logit = torch.zeros(())
    if recency != "none":
        distance = float(POSITIONS[entry] if recency == "position" else DAYS[entry])
        a, b = SLOPE_PACE * weights.slopes
        logit = logit - (a * distance / 10 + b * np.log1p(distance))
    if weights.by_rating is not None and np.isfinite(RATINGS[entry]):
        logit = logit + weights.by_rating[{1.0: 0, 3.0: 1, 5.0: 2}[RATINGS[entry]]]
    return logit


def slow_pooled(encoder, recency, table):
    """User by user and item by item, (4, DIM)."""
    ends, pooled = np.cumsum(LENGTHS), []
    for length, end in zip(LENGTHS, ends, strict=True):
        total = torch.zeros(DIM)
        if length:
            entries = range(end - length, end)
            logits = torch.stack([slow_logit(encoder.weights, recency, e) for e in entries])
            if encoder.query is not None:
                own = torch.stack([table[ITEMS[entry]] @ encoder.query for entry in entries])
                shares = (logits + own).softmax(0)
            else:
                sums = {"sum": 1.0, "mean": logits.exp().sum()}
                sums["sqrt"] = logits.exp().square().sum().sqrt()
                shares = logits.exp() / sums[encoder.pooling]
            for share, entry in zip(shares, entries, strict=True):
                total = total + share * table[ITEMS[entry]]
        pooled.append(total)
    return torch.stack(pooled)


def assert_same_gradients(found, expected, inputs):
    torch.testing.assert_close(found, expected)
    slopes = torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, slopes), torch.autograd.grad(expected, inputs, slopes)
    )


@pytest.mark.parametrize("rates", [False, True], ids=["unrated", "rated"])
@pytest.mark.parametrize("recency", ["none", "position", "time"])
@pytest.mark.parametrize("pooling", ["sum", "mean", "sqrt", "attention"])
def test_pooling_is_that_of_a_loop_over_users_and_items(pooling, recency, rates):
    torch.manual_seed(0)
    encoder = PooledHistory(pooling, DIM, learned_weights(recency, rates=rates))
    table = random_table()
    found = encoder(rows(), table)
    expected = slow_pooled(encoder, recency, table)
    assert_same_gradients(found, expected, (table, *encoder.parameters()))
    assert torch.equal(found[1], torch.zeros(DIM))


def test_each_item_is_shared_out_among_the_prototypes():
    torch.manual_seed(0)
    encoder = PooledHistory("mean", DIM, learned_weights("position"), queries=3)
    table, expected = random_table(), []
    cosines = torch.cosine_similarity(table.unsqueeze(1), encoder.prototypes.unsqueeze(0), dim=2)
    shares = (cosines / PooledHistory.ASSIGNMENT_TEMPERATURE).softmax(dim=1)
    for k in range(3):
        expected.append(slow_pooled(encoder, "position", table * shares[:, k : k + 1]))
    found = encoder(rows(), table)
    assert found.shape == (4, 3, DIM)
    assert_same_gradients(
        found, torch.stack(expected, dim=1), (table, encoder.prototypes, encoder.weights.slopes)
    )


def test_the_vectors_of_all_prototypes_sum_to_what_one_would_be():
    torch.manual_seed(0)
    several = PooledHistory("sum", DIM, learned_weights("none"), queries=4)
    one = PooledHistory("sum", DIM, learned_weights("none"))
    table = random_table()
    torch.testing.assert_close(several(rows(), table).sum(dim=1), one(rows(), table))


@pytest.mark.parametrize("recency", ["position", "time"])
def test_recency_begins_by_favouring_what_is_recent_a_little(recency):
    weights = HistoryWeights(recency, None)(rows()).exp()
    assert weights[2] > weights[1] > weights[0] > 0.5
    assert weights[2] == 1


def test_what_the_data_does_not_know_changes_nothing():
    weights = learned_weights("position")
    assert weights(rows(positions=None, ages=None, ratings=None)) is None


def sequence(layers=2, max_length=6, weights=None):
    torch.manual_seed(0)
    return SequenceHistory(
        DIM,
        max_length,
        layers=layers,
        heads=2,
        dropout=0.5,
        weights=weights or HistoryWeights("none", None),
    ).eval()


def of_items(*histories):
    offsets = torch.tensor([0, *map(len, histories)]).cumsum(0)
    items = torch.tensor([item for history in histories for item in history], dtype=torch.int64)
    return HistoryRows(offsets, items)


@pytest.mark.parametrize("training", [False, True])
def test_a_sequence_is_not_changed_by_the_rows_beside_it(training):
    encoder = sequence().train(training)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    table = random_table()
    alone = encoder(of_items([3, 1]), table)
    beside = encoder(of_items([0, 1, 2, 3, 4, 0], [3, 1], []), table)
    torch.testing.assert_close(beside[1:2], alone)
    assert torch.equal(beside[2], torch.zeros(DIM)) and (beside[0] != 0).any()


def test_a_sequence_knows_its_order():
    encoder, table = sequence(), random_table()
    first, other = encoder(of_items([0, 1, 2], [1, 0, 2]), table)
    assert (first - other).abs().max() > 1e-3


def test_a_sequence_counts_positions_from_its_end():
    encoder, table = sequence(), random_table()
    found = encoder(of_items([3], [4, 0, 2]), table)
    for history, output in zip(([3], [4, 0, 2]), found, strict=True):
        n = len(history)
        places = [encoder.positions[n - 1 - place] for place in range(n)]
        entered = table[history] * DIM**0.5 + torch.stack(places)
        hidden = torch.tensor([[later > own for later in range(n)] for own in range(n)])
        expected = encoder.encoder(entered.unsqueeze(0), mask=hidden)[0, -1]
        torch.testing.assert_close(output, expected)


def test_a_sequence_weighs_items_by_rating():
    weights, table = learned_weights("none"), random_table()
    encoder = sequence(weights=weights)
    before = encoder(rows(), table)
    weights.by_rating.data[0] = 2.0  # of rating 1: users 0 and 3
    changed = (encoder(rows(), table) != before).any(dim=1)
    assert changed.tolist() == [True, False, False, True]


def test_every_part_of_a_sequence_learns_and_no_gradient_is_lost_in_empty_rows():
    encoder, table = sequence(max_length=3), random_table()
    encoder(rows(), table).square().sum().backward()
    still = [n for n, p in encoder.named_parameters() if not (p.grad != 0).any()]
    assert still == []
    assert all(p.grad.isfinite().all() for p in (*encoder.parameters(), table))


def test_histories_of_nobody_give_no_vectors():
    table = random_table()
    for encoder in (sequence(), PooledHistory("mean", DIM, learned_weights("position"))):
        assert encoder(of_items(), table).shape == (0, DIM)


@pytest.mark.parametrize("pooling", ["none", "sum", "mean", "sqrt", "attention", "sequence"])
def test_every_encoder_is_built_by_its_name(pooling):
    built = build_history(
        pooling,
        DIM,
        HistoryWeights("none", None),
        queries=1,
        max_length=5,
        sequence=(1, 2, 0.1),
    )
    kinds = {"none": type(None), "sequence": SequenceHistory}
    assert type(built) is kinds.get(pooling, PooledHistory)
    assert getattr(built, "pooling", pooling) == pooling


def histories(*, ordered=True):
    """Three users with 4, 0 and 2 of 9 items."""
    return Histories(
        np.array([0, 4, 4, 6]),
        np.array([7, 1, 5, 2, 8, 0], dtype=np.int32),
        np.array([10, 20, 50, 60, 5, 5]) if ordered else None,
        np.arange(6, dtype=np.float32),
        9,
    )


def test_the_most_recent_items_are_kept_with_distance_age_and_rating():
    kept = latest(histories(), 3)
    assert kept.offsets.tolist() == [0, 3, 3, 5]
    assert kept.items.tolist() == [1, 5, 2, 8, 0]
    assert kept.positions.tolist() == [2, 1, 0, 1, 0]
    assert kept.ages.tolist() == [40, 10, 0, 0, 0]
    assert kept.ratings.tolist() == [1, 2, 3, 4, 5]


def test_without_an_order_there_are_neither_positions_nor_ages():
    kept = latest(histories(ordered=False), 9)
    assert kept.items.tolist() == [7, 1, 5, 2, 8, 0]
    assert kept.positions is None and kept.ages is None
