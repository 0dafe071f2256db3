"""Norms, dimensions, gates, cohesion and alignment on inputs whose answers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import DiagnosticsConfig
from recsys.evaluation import cohesion
from recsys.evaluation.cohesion import cohesion_table, jaccard, nearest
from recsys.evaluation.diagnostics import (
    Embeddings,
    alignment_table,
    cosines,
    diagnose,
    dimension_spread,
    dimension_table,
    gate_table,
    norm_histogram,
    norm_table,
)
from recsys.evaluation.intervals import mean_interval
from tests.small_arrays import bags_of, interactions_of


def record(table, **wanted):
    """The one row with the wanted values."""
    (found,) = [row for row in table.records() if wanted.items() <= row.items()]
    return found


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_an_interval_is_two_standard_errors_wide_on_either_side():
    found = mean_interval(np.array([1.0, 3.0, np.nan]))
    error = np.sqrt(2) / np.sqrt(2)  # deviation of 1 and 3 is sqrt(2), over sqrt(2 values)
    assert found == pytest.approx((2, 2 - 1.96 * error, 2 + 1.96 * error, 2))


def test_an_interval_of_nothing_is_nan():
    np.testing.assert_equal(tuple(mean_interval(np.array([np.nan]))), (np.nan, np.nan, np.nan, 0))
    np.testing.assert_equal(tuple(mean_interval(np.array([2.0]))), (2.0, np.nan, np.nan, 1))


def test_norms_are_euclidean_lengths():
    side = Embeddings(np.array([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]]))
    row = record(norm_table(side, Embeddings(np.ones((1, 4)))), side="user")
    assert (row["min"], row["p50"], row["max"]) == (0, 1, 5)
    assert row["mean"] == pytest.approx(6 / 3)


def test_the_histogram_counts_every_vector_once(rng):
    users = Embeddings(rng.normal(size=(50, 3)), ids=rng.normal(size=(30, 3)))
    items = Embeddings(rng.normal(size=(70, 3)) * 4)
    table = norm_histogram(users, items)
    totals = table.to_frame().groupby(["side", "vector"])["count"].sum().to_dict()
    assert totals == {("user", "tower"): 50, ("user", "id"): 30, ("item", "tower"): 70}


def test_normalised_vectors_have_one_bin_and_leave_the_other_side_its_own(rng):
    unit = rng.normal(size=(40, 5))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    table = norm_histogram(
        Embeddings(unit.astype(np.float32)), Embeddings(unit * np.arange(40)[:, None])
    )
    sides = table.column("side")
    assert sides.count("user") == 1
    assert sides.count("item") > 10


def test_vectors_that_do_not_exist_are_left_out():
    table = norm_table(Embeddings(np.ones((2, 2))), Embeddings(np.ones((2, 2))))
    assert table.column("vector") == ["tower", "tower"]


def test_a_space_with_equal_directions_uses_all_of_them():
    cross = np.vstack([np.eye(4), -np.eye(4)])
    row = record(dimension_table(Embeddings(cross), Embeddings(np.ones((2, 4)))), side="user")
    assert row["effective_rank"] == pytest.approx(4)
    assert row["participation_ratio"] == pytest.approx(4)
    assert row["largest_share"] == pytest.approx(1 / 4)
    assert row["for_90_percent"] == 4


def test_a_space_on_a_line_uses_one_direction_whatever_its_dimensions():
    line = np.linspace(-1, 1, 9)[:, None] * np.array([[1.0, 2.0, 3.0]])
    row = record(dimension_table(Embeddings(line), Embeddings(line)), side="item")
    assert row["effective_rank"] == pytest.approx(1)
    assert row["dead"] == 0


def test_dimensions_are_dead_below_a_hundredth_of_the_root_mean_square():
    signs = np.array([[1.0], [-1.0]])
    stds = np.array([[1.0, 1.0, 0.009 * np.sqrt(2 / 4), 0.011 * np.sqrt(2 / 4)]])
    table = dimension_spread(Embeddings(signs * stds), Embeddings(np.ones((1, 1))))
    assert [row[-1] for row in table.rows if row[0] == "user"] == ["no", "no", "yes", "no"]


def test_a_collapsed_space_is_all_dead_and_has_no_rank():
    same = np.full((6, 3), 0.1, dtype=np.float32)
    row = record(dimension_table(Embeddings(same), Embeddings(same)), side="user")
    assert (row["dead"], row["effective_rank"], row["for_90_percent"]) == (3, 0, 0)


def test_gates_are_means_by_number_of_train_interactions_of():
    train = interactions_of([(0, 1), (1, 1), (2, 1), (0, 2)] + [(u, 3) for u in range(7)], 7, 4)
    gates = np.array([[0.0, 0.0], [0.2, 0.4], [0.4, 0.6], [0.9, 0.7]])
    users, items = Embeddings(np.ones((7, 2))), Embeddings(np.ones((4, 2)), gates=gates)
    table = gate_table(users, items, train=train)
    assert table.column("train_interactions") == ["0", "1–5", "6–10"]
    assert table.column("n") == [1, 2, 1]
    assert table.column("mean_gate") == pytest.approx([0, (0.3 + 0.5) / 2, 0.8])
    assert table.column("leaning_on_id") == pytest.approx([0, 1 / 4, 1])


def test_no_gates_no_gate_table(rng):
    plain = Embeddings(rng.normal(size=(6, 3)))
    train = interactions_of([(u, u) for u in range(6)], 6, 6)
    tables = diagnose(
        plain, plain, train=train, categories=None, config=DiagnosticsConfig(), rng=rng
    )
    names = {table.name for table in tables}
    assert "gates_by_popularity" not in names
    assert "category_cohesion" not in names
    assert {"embedding_norms", "embedding_dimensions", "alignment"} <= names


@given(
    st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=10),
)
def test_jaccard_equals_that_of_python_sets(sets, pairs):
    bags = bags_of([sorted(row) for row in sets], 6)
    pairs = [(a % len(sets), b % len(sets)) for a, b in pairs]
    left, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    expected = [len(sets[a] & sets[b]) / max(len(sets[a] | sets[b]), 1) for a, b in pairs]
    assert jaccard(bags, left, right) == pytest.approx(expected)


def test_neighbours_equal_those_of_a_full_sort_in_every_block(rng, monkeypatch):
    monkeypatch.setattr(cohesion, "BLOCK_CELLS", 100)  # several blocks
    vectors, pool = rng.normal(size=(60, 4)), np.arange(0, 60, 2)
    found = nearest(vectors, pool[::3], pool, k=5, rng=rng)
    for item, neighbours in zip(pool[::3], found, strict=True):
        similarity = {
            other: vectors[item] @ vectors[other] / np.linalg.norm(vectors[other])
            for other in pool
            if other != item
        }
        assert set(neighbours) == set(sorted(similarity, key=similarity.get)[-5:])


def test_ties_among_neighbours_go_by_a_random_order(rng):
    """By index, items that lie together in the file would look like neighbours."""
    found = nearest(np.ones((400, 3)), np.arange(400), np.arange(400), k=1, rng=rng)
    other = nearest(np.ones((400, 3)), np.arange(400), np.arange(400), k=1, rng=rng)
    assert (found != other).any()


def test_items_that_lie_with_their_category_have_full_cohesion(rng):
    category = np.arange(90) % 3
    vectors = np.eye(3)[category] + rng.normal(size=(90, 3)) * 0.01
    table = cohesion_table(
        {"tower": vectors}, bags_of([[c] for c in category], 3), k=5, sample_size=600, rng=rng
    )
    row = record(table, vector="tower")
    assert row["cohesion"] == 1
    assert row["chance"] == pytest.approx(29 / 89, abs=0.1)


def test_no_book_is_its_own_neighbour_or_its_own_stranger(rng):
    bags = bags_of([[b] for b in range(40)], 40)  # only with itself has an item anything in common
    table = cohesion_table({"id": rng.normal(size=(40, 2))}, bags, k=39, sample_size=600, rng=rng)
    row = record(table, vector="id")
    assert (row["cohesion"], row["chance"], row["times_chance"]) == (0, 0, None)


def test_random_vectors_have_the_cohesion_of_chance(rng):
    bags = bags_of([[c] for c in rng.integers(4, size=600)], 4)
    row = record(
        cohesion_table({"id": rng.normal(size=(600, 8))}, bags, k=10, sample_size=600, rng=rng),
        vector="id",
    )
    assert row["low"] - 0.02 < row["chance"] < row["high"] + 0.02


def test_items_without_category_and_rows_without_vector_take_no_part(rng):
    bags = bags_of([[0], [], [0], [0], [0]], 1)
    table = cohesion_table({"id": rng.normal(size=(4, 2))}, bags, k=10, sample_size=600, rng=rng)
    row = record(table, vector="id")
    assert (row["items"], row["neighbours"]) == (3, 2)


def test_cosine_of_known_angles():
    left = np.array([[1.0, 0], [1, 0], [0, 0]])
    right = np.array([[1.0, 1], [-2, 0], [1, 0]])
    assert cosines(left, right) == pytest.approx([np.sqrt(0.5), -1, np.nan], nan_ok=True)


def test_users_that_are_the_mean_of_their_items_align_and_strangers_do_not(rng):
    items = np.eye(6)
    train = interactions_of([(u, b) for u in range(3) for b in (2 * u, 2 * u + 1)], 4, 6)
    users = np.vstack([items[[2 * u, 2 * u + 1]].mean(axis=0) for u in range(3)] + [np.ones(6)])
    row = record(
        alignment_table(
            Embeddings(users), Embeddings(items), train=train, n_users=9, n_items=9, rng=rng
        ),
        n=3,
    )
    assert row["cosine"] == pytest.approx(1)
    assert row["shuffled"] == 0  # nobody keeps their own items


def test_id_and_metadata_are_compared_where_a_tower_has_both(rng):
    ids = rng.normal(size=(5, 3))
    metadata = np.vstack([-ids, rng.normal(size=(2, 3))])  # two rows never seen in training
    items = Embeddings(rng.normal(size=(7, 3)), ids=ids, metadata=metadata)
    users = Embeddings(rng.normal(size=(4, 3)))
    train = interactions_of([(0, 0), (1, 1)], 4, 7)
    table = alignment_table(users, items, train=train, n_users=9, n_items=9, rng=rng)
    assert table.column("pair") == ["user and mean of train items", "item: id and metadata"]
    assert table.rows[1][table.columns.index("cosine")] == pytest.approx(-1)


def test_the_same_seed_gives_the_same_tables():
    def tables():
        rng = np.random.default_rng(3)
        items = Embeddings(rng.normal(size=(30, 4)), gates=rng.random((30, 4)))
        train = interactions_of([(b % 5, b) for b in range(30)], 5, 30)
        bags = bags_of([[b % 3] for b in range(30)], 3)
        users = Embeddings(rng.normal(size=(5, 4)))
        return diagnose(
            users, items, train=train, categories=bags, config=DiagnosticsConfig(), rng=rng
        )

    assert tables() == tables()


def test_as_many_rows_are_compared_as_the_settings_say(rng):
    items = Embeddings(rng.normal(size=(30, 4)), metadata=rng.normal(size=(30, 4)))
    items = Embeddings(items.vectors, ids=items.vectors, metadata=items.metadata)
    train = interactions_of([(u, u) for u in range(20)], 20, 30)
    bags = bags_of([[b % 3] for b in range(30)], 3)
    config = DiagnosticsConfig(item_sample_size=7, user_sample_size=5, neighbor_k=2)
    users = Embeddings(rng.normal(size=(20, 4)))
    tables = diagnose(users, items, train=train, categories=bags, config=config, rng=rng)
    by_name = {table.name: table for table in tables}
    assert by_name["alignment"].column("n") == [5, 7]
    assert set(by_name["category_cohesion"].column("items")) == {7}
    assert set(by_name["category_cohesion"].column("neighbours")) == {2}
