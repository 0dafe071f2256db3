"""The generated sample, its true world, and the checkerboard of the tests."""

import json
import logging
import math
from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import DataConfig
from recsys.data.dataset import Prepared, prepare
from recsys.data.sample.bookshop import Bookshop, generate_bookshop, load_world, write_sample
from recsys.data.sample.draws import NAT, exponential_weights, pick, stream
from recsys.data.sample.world import World, slots_of
from recsys.errors import DataError
from tests.checkerboard import checkerboard

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
SMALL = {"n_users": 300, "n_items": 250}


@pytest.fixture(scope="module")
def sample() -> tuple[Prepared, World]:
    config = DataConfig(books_path=SAMPLE / "books.csv", interactions_path=SAMPLE / "users.csv")
    world = load_world(config.books_path, config.interactions_path)
    assert world is not None
    return prepare(config, seed=0), world


@pytest.fixture(scope="module")
def shop() -> Bookshop:
    return generate_bookshop(1, **SMALL)


def masked(scores: np.ndarray, prepared: Prepared) -> np.ndarray:
    """Scores of each test interaction's user, items known before test at minus infinity."""
    scores = scores.astype(np.float64)
    for part in (prepared.train, prepared.validation):
        scores[part.users, part.items] = -np.inf
    return scores[prepared.test.users]


def oracle_scores(world: World, prepared: Prepared) -> np.ndarray:
    users, items = world.oracle(prepared)
    return masked(users @ items.T, prepared)


def ndcg_of(scores: np.ndarray, prepared: Prepared, k: int) -> np.ndarray:
    """NDCG@k of each user's one test item; a plain definition."""
    own = scores[np.arange(len(scores)), prepared.test.items]
    ranks = 1 + (scores > own[:, None]).sum(axis=1)
    return np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)


# The files


def test_the_committed_sample_is_what_seed_0_gives(tmp_path):
    write_sample(tmp_path, 0)
    for name in ("books.csv", "users.csv", "world.json"):
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes(), name


def test_too_small_a_shop_is_refused():
    with pytest.raises(DataError, match="got 5 users and 10 items"):
        generate_bookshop(0, n_users=5, n_items=10)


# The evaluation that the sample is made for


def test_the_oracle_attains_what_is_expected_of_it(sample):
    """Three standard errors; the expectation does not see which item was held out."""
    prepared, world = sample
    expected = world.expected_ndcg(prepared, (5, 10, 20))
    scores = oracle_scores(world, prepared)
    for k in (5, 10, 20):
        measured = ndcg_of(scores, prepared, k)
        error = measured.std() / math.sqrt(len(measured))
        assert abs(measured.mean() - expected[f"expected_ndcg@{k}"]) < 3 * error


def test_popularity_is_better_than_chance_and_far_from_the_oracle(sample):
    prepared, world = sample
    counts = prepared.train.item_counts.astype(float)
    scores = masked(np.tile(counts, (len(prepared.users), 1)), prepared)
    popularity = ndcg_of(scores, prepared, 10).mean()
    # At random: sum over ranks to 10 of 1 / log2(rank + 1), 4.54, over the number of items.
    assert popularity > 4 * 4.54 / len(prepared.items)
    oracle = world.expected_ndcg(prepared, (10,))["expected_ndcg@10"]
    assert popularity < oracle / 3
    assert 0.15 < oracle < 0.4


def test_redrawn_choices_average_to_the_expected_ndcg(shop, tmp_path):
    """Every held-out item drawn again, 200 times, from the true distribution."""
    prepared, world = prepare_shop(tmp_path)
    expected = world.expected_ndcg(prepared, (10,))["expected_ndcg@10"]
    scores = oracle_scores(world, prepared)
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = np.rint(2.0**30 * chances).astype(np.int64)
    ranks = (-scores).argsort(axis=1).argsort(axis=1) + 1
    rng = stream(0, 99)
    means = []
    for _ in range(200):
        rank = ranks[np.arange(len(ranks)), pick(rng, weights)]
        means.append(np.where(rank <= 10, 1 / np.log2(rank + 1), 0).mean())
    assert abs(np.mean(means) - expected) < 4 * np.std(means) / math.sqrt(200)


def prepare_shop(directory: Path, **settings: object) -> tuple[Prepared, World]:
    write_sample(directory, 1, **SMALL)
    config = DataConfig(
        books_path=directory / "books.csv",
        interactions_path=directory / "users.csv",
        **settings,
    )
    world = load_world(config.books_path, config.interactions_path)
    assert world is not None
    return prepare(config, seed=0), world


def test_oracle_and_expectation_do_not_depend_on_what_the_order_is_taken_from(tmp_path):
    by_time, world = prepare_shop(tmp_path)
    by_rows = prepare_shop(tmp_path, split={"order": "rows"})[0]
    np.testing.assert_array_equal(by_time.test.items, by_rows.test.items)
    assert world.expected_ndcg(by_time, (5,)) == world.expected_ndcg(by_rows, (5,))
    for first, second in zip(world.oracle(by_time), world.oracle(by_rows), strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_oracle_scores_are_the_true_utilities_when_the_held_out_item_was_chosen(tmp_path):
    prepared, world = prepare_shop(tmp_path)
    users, items = world.oracle(prepared)
    scores = users @ items.T
    held_out = prepared.test
    everyone = prepared.users.ids.to_pylist()
    columns = [world.item_ids.index(item_id) for item_id in prepared.items.ids.to_pylist()]
    for user, time in zip(held_out.users, held_out.times, strict=True):
        row = np.array([world.user_ids.index(everyone[user])])
        slot = slots_of(np.array([time]))
        utilities = world.utilities(row, slot)[0, columns]
        np.testing.assert_array_equal(scores[user], utilities / NAT)


@pytest.mark.parametrize(
    "settings",
    [
        {"split": {"strategy": "leave_random_out"}},
        {"split": {"strategy": "random"}},
        {"min_rating": 4.0},
    ],
    ids=["random one", "random", "rating"],
)
def test_nothing_is_expected_where_held_out_items_are_not_the_next_choice(tmp_path, settings):
    prepared, world = prepare_shop(tmp_path, **settings)
    assert world.expected_ndcg(prepared, (10,)) == {}


def test_the_expectation_holds_on_the_first_rows_of_the_log(tmp_path):
    prepared, world = prepare_shop(tmp_path, interactions_limit=5000)
    assert set(world.expected_ndcg(prepared, (5, 10))) == {"expected_ndcg@5", "expected_ndcg@10"}


# The world beside the files


def test_a_loaded_world_is_the_one_that_was_written(tmp_path):
    written = write_sample(tmp_path, 1, **SMALL).world
    loaded = load_world(tmp_path / "books.csv", tmp_path / "users.csv")
    assert loaded is not None
    for name in ("first_tastes", "last_tastes", "item_factors", "season"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(written, name))
    for name in ("users", "items", "times"):
        np.testing.assert_array_equal(getattr(loaded.history, name), getattr(written.history, name))
    assert (loaded.user_ids, loaded.item_ids) == (written.user_ids, written.item_ids)


@pytest.mark.parametrize("name", ["books.csv", "users.csv"])
def test_a_changed_file_has_no_world_and_the_log_names_it(tmp_path, caplog, name):
    write_sample(tmp_path, 1, **SMALL)
    with (tmp_path / name).open("ab") as file:
        file.write(b"\n")
    with caplog.at_level(logging.WARNING):
        assert load_world(tmp_path / "books.csv", tmp_path / "users.csv") is None
    assert f"'{tmp_path / name}' is not the file it describes" in caplog.text


def test_a_world_of_another_version_is_refused(tmp_path, caplog):
    write_sample(tmp_path, 1, **SMALL)
    world = json.loads((tmp_path / "world.json").read_text())
    (tmp_path / "world.json").write_text(json.dumps(world | {"version": 0}))
    with caplog.at_level(logging.WARNING):
        assert load_world(tmp_path / "books.csv", tmp_path / "users.csv") is None
    assert "made by bookshop 0" in caplog.text


@pytest.mark.parametrize("content", ["[]", "{}", "not JSON", None])
def test_real_data_and_a_world_that_describes_nothing_have_none(tmp_path, content):
    if content is not None:
        (tmp_path / "world.json").write_text(content)
    assert load_world(tmp_path / "books.csv", tmp_path / "users.csv") is None


def test_other_interactions_than_the_items_own_have_no_world(tmp_path):
    write_sample(tmp_path, 1, **SMALL)
    (tmp_path / "mine.csv").write_text("user_id,item_id\n")
    assert load_world(tmp_path / "books.csv", tmp_path / "mine.csv") is None


# Draws


def test_weights_are_rounded_exponentials():
    utilities = np.array([[0, -1, -NAT, -5 * NAT - 3, -20 * NAT, -(10**6)]])
    expected = [round(2**30 * (Decimal(deficit) / NAT).exp()) for deficit in (0, -1, -1024, -5123)]
    assert exponential_weights(utilities)[0].tolist() == [*expected, 0, 0]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any), st.integers(0, 2**32 - 1))
def test_nothing_without_weight_is_ever_picked(weights, seed):
    rows = np.tile(np.array(weights, dtype=np.int64), (20, 1))
    assert all(weights[column] > 0 for column in pick(stream(seed, 0), rows))


def test_picks_are_in_proportion_to_the_weights():
    weights = np.tile(np.array([1, 0, 3], dtype=np.int64), (40_000, 1))
    share = (pick(stream(0, 0), weights) == 2).mean()
    assert abs(share - 3 / 4) < 4 * math.sqrt(3 / 16 / 40_000)


# The checkerboard


def test_users_of_a_checkerboard_have_all_items_of_their_parity_the_withheld_one_last(tmp_path):
    board = checkerboard(40, 12)
    for user_id, theirs in board.interactions.to_pandas().groupby("user_id"):
        assert len(theirs) == theirs["item_id"].nunique() == 6
        assert {int(item_id[1:]) % 2 for item_id in theirs["item_id"]} == {int(user_id[1:]) % 2}
    books_path, interactions_path = board.write(tmp_path)
    prepared = prepare(DataConfig(books_path=books_path, interactions_path=interactions_path), 0)
    users, items = prepared.test.users, prepared.test.items
    held_out = zip(prepared.users.id_of(users), prepared.items.id_of(items), strict=True)
    assert dict(held_out) == board.withheld
    assert set(Counter(board.withheld.values()).values()) == {3, 4}  # 40 users, 12 items
