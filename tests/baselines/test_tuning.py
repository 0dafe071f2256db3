"""Which settings are chosen, what is known when test is scored, and what is left out."""

from types import SimpleNamespace

import numpy as np
import pytest
from pytest import approx

from recsys.baselines import tuning
from recsys.baselines.build import CHEAP, grid_of
from recsys.baselines.names import settings_text
from recsys.baselines.tuning import chosen_settings, climb, tuned_baselines
from recsys.config import Config
from recsys.data.arrays import Interactions
from recsys.data.histories import Histories
from recsys.evaluation.evaluation import validation_metrics
from tests.small_arrays import categories_of


class World:
    """Users take items in a circle, one step at a time, so that the last item tells the next."""

    def __init__(self, n_users=60, n_items=12, length=6):
        rng = np.random.default_rng(0)
        starts = rng.integers(n_items, size=n_users)
        items = (starts[:, None] + np.arange(length)) % n_items
        users = np.repeat(np.arange(n_users), length).reshape(n_users, length)
        times = np.tile(np.arange(length), (n_users, 1))
        self.users, self.items = range(n_users), range(n_items)
        self.split = SimpleNamespace(strategy="leave_latest_out")
        self.item_features = categories_of([[item // 3] for item in range(n_items)])

        def part(columns):
            arrays = (array[:, columns].ravel() for array in (users, items, times))
            return Interactions(*arrays, n_users, n_items)

        self.train, self.validation, self.test = part(slice(0, -2)), part([-2]), part([-1])


@pytest.fixture
def world():
    return World()


def config_of(**evaluation):
    return Config.model_validate({"evaluation": evaluation})


def column(table, name):
    return dict(zip(table.column("baseline"), table.column(name), strict=True))


def test_the_chosen_settings_are_the_best_of_those_tried(world):
    tuned = tuned_baselines(world, Config(), split="validation")
    frame = tuned.table.to_frame()
    assert list(tuned.scorers) == list(CHEAP)
    for name, tried in frame.groupby("baseline"):
        chosen = tried[tried["chosen"] == "yes"]
        assert len(chosen) == 1
        assert chosen["validation_ndcg@10"].item() == tried["validation_ndcg@10"].max(), name


def test_the_values_are_those_of_validation(world):
    config = Config()
    tuned = tuned_baselines(world, config, split="validation")
    for name, scorer in tuned.scorers.items():
        users = np.unique(world.validation.users)
        found = validation_metrics(scorer, world, config=config.evaluation, users=users)
        frame = tuned.table.to_frame()
        rows = frame[(frame["baseline"] == name) & (frame["chosen"] == "yes")]
        assert rows["validation_ndcg@10"].item() == approx(found["ndcg@10"])


def test_recency_is_chosen_where_the_last_item_tells_the_next(world):
    frame = tuned_baselines(world, Config(), split="validation").table.to_frame()
    chosen = frame[frame["chosen"] == "yes"].set_index("baseline")["recency_scale"]
    assert chosen["ease"] <= 4


def test_what_was_chosen_is_told_where_there_was_a_choice(world, caplog):
    caplog.set_level("INFO")
    tuned_baselines(world, Config(), split="validation")
    told = {message.partition(": ")[0]: message for message in caplog.messages}
    assert "popularity" not in told
    assert told["item_knn"].endswith(", recency 1")
    assert "None" not in str(caplog.messages)


def test_without_an_order_recency_is_not_tried(world):
    for name in ("train", "validation", "test"):
        part = getattr(world, name)
        timeless = Interactions(part.users, part.items, None, part.n_users, part.n_items)
        setattr(world, name, timeless)
    frame = tuned_baselines(world, Config(), split="validation").table.to_frame()
    assert frame["recency_scale"].isna().all()


def test_on_test_a_history_holds_validation_items_whether_refitted_or_not(world):
    known = Histories.of(world.train, world.validation)
    for refit in (False, True):
        scorer = tuned_baselines(world, Config(), split="test", refit=refit).scorers["ease"]
        assert scorer.history.row(3).tolist() == known.bags.row(3).tolist()
        assert scorer.history.row(3).tolist()[-1] == world.validation.items[3]


def test_without_validation_users_settings_have_no_value(world):
    world.validation = world.validation.select(np.zeros(0, dtype=np.int64))
    tuned = tuned_baselines(world, Config(), split="test")
    assert list(tuned.scorers) == list(CHEAP)
    assert set(tuned.table.column("validation_ndcg@10")) == {None}


def test_only_a_refit_learns_from_validation(world):
    tuned = {r: tuned_baselines(world, Config(), split="test", refit=r) for r in (False, True)}
    counts = np.bincount(world.train.items, minlength=12)
    both = counts + np.bincount(world.validation.items, minlength=12)
    assert tuned[False].scorers["popularity"].items[:, 0].tolist() == counts.tolist()
    assert tuned[True].scorers["popularity"].items[:, 0].tolist() == both.tolist()
    assert (tuned[False].scorers["ease"].weights != tuned[True].scorers["ease"].weights).any()


def test_what_would_take_more_than_the_limit_is_left_out(world, monkeypatch):
    monkeypatch.setattr(tuning, "ease_bytes", lambda n_items: 13.4e9)
    tuned = tuned_baselines(world, config_of(baseline_memory_limit_mb=1024), split="test")
    assert list(tuned.scorers) == ["popularity", "item_knn", "content_knn"]
    assert column(tuned.table, "settings")["ease"] == (
        "left out: 12 items squared need 13.4 GB, and "
        "'evaluation.baseline_memory_limit_mb' is 1,024"
    )
    monkeypatch.setattr(tuning, "nearest_bytes", lambda n_items, most: most * 1e7)
    tuned = tuned_baselines(world, config_of(baseline_memory_limit_mb=1024), split="test")
    assert list(tuned.scorers) == ["popularity"]
    assert column(tuned.table, "settings")["item_knn"].startswith(
        "left out: neighbours of 12 items need 10.0 GB"
    )


def test_items_that_share_too_many_users_or_words_are_not_compared(world, monkeypatch):
    of_users = 60 * 4**2  # 4 train items of each user; 3 items of each of 4 categories
    for most, left in ((of_users - 1, {"item_knn"}), (4 * 3**2 - 1, {"item_knn", "content_knn"})):
        monkeypatch.setattr(tuning, "MOST_PRODUCTS", most)
        tuned = tuned_baselines(world, Config(), split="test")
        assert set(CHEAP) - set(tuned.scorers) == left
        assert column(tuned.table, "settings")["item_knn"] == (
            f"left out: to compare 12 items takes 9.6e+02 products, over {most:.0e}"
        )


def test_content_is_no_baseline_where_nothing_but_numbers_is_known(world):
    world.item_features = categories_of([])
    tuned = tuned_baselines(world, Config(), split="test")
    assert list(tuned.scorers) == ["popularity", "item_knn", "ease"]
    assert "left out" not in str(tuned.table.rows)
    tuned = tuned_baselines(world, config_of(baselines=["content_knn"]), split="test")
    assert list(tuned.scorers) == ["popularity"]
    left = "left out: nothing but numbers is known of the items"
    assert column(tuned.table, "settings")["content_knn"] == left


@pytest.mark.parametrize("name", CHEAP)
def test_the_settings_of_a_run_are_those_told_as_chosen(world, name):
    settings = chosen_settings(name, world, Config())
    recency = settings.pop("recency")
    frame = tuned_baselines(world, Config(), split="validation").table.to_frame()
    row = frame[(frame["baseline"] == name) & (frame["chosen"] == "yes")].iloc[0]
    assert settings_text(name, settings) == row["settings"]
    assert (recency or -1) == (-1 if np.isnan(row["recency_scale"]) else row["recency_scale"])


def test_popularity_is_always_there(world):
    tuned = tuned_baselines(world, config_of(baselines=["ease"]), split="test")
    assert list(tuned.scorers) == ["popularity", "ease"]
    tuned = tuned_baselines(world, config_of(baselines=[]), split="test")
    assert list(tuned.scorers) == ["popularity"]


def test_nothing_is_fitted_where_nothing_is_held_out(world):
    world.test = world.test.select(np.empty(0, dtype=np.int64))
    assert tuned_baselines(world, Config(), split="test").scorers == {}


def test_large_catalogues_are_tuned_on_some_users(world, monkeypatch):
    monkeypatch.setattr(tuning, "TUNING_USERS", 7)
    table = tuned_baselines(world, Config(), split="validation").table
    assert "of 7 validation users" in table.note


@pytest.mark.parametrize(
    ("values", "most", "tried", "best"),
    [
        ((1, 2, 3, 4, 3), 9, [2, 3, 4], 3),
        ((1, 5, 4, 2, 1), 9, [2, 3, 1, 0], 1),
        ((9, 8, 7, 2, 1), 3, [2, 3, 1], 1),
        ((1, 2, 3, 4, 5), 9, [2, 3, 4], 4),
    ],
)
def test_climbing_follows_rising_values_and_keeps_the_best(values, most, tried, best):
    numbers = []

    def attempt(number):
        numbers.append(number)
        return SimpleNamespace(number=number, value=values[number])

    assert climb(attempt, 2, len(values), most).number == best
    assert numbers == tried


def test_large_catalogues_have_smaller_grids():
    assert grid_of("ease", 10_000).most < grid_of("ease", 1000).most
    assert len(grid_of("item_knn", 10_000).candidates) < len(grid_of("item_knn", 100).candidates)
    grid = grid_of("ease", 1000)
    assert grid.candidates[grid.start or 0] == {"l2": 100.0}
    assert {"neighbours": 50, "shrinkage": 0.0} in grid_of("item_knn", 10_000).candidates


def test_the_same_data_and_seed_give_the_same_table(world):
    first, second = (tuned_baselines(world, Config(), split="test").table for _ in range(2))
    assert first == second


def new_shelf():
    """Users keep to one of two categories, among new items too, which have a third in common."""
    rows = [[item % 2] for item in range(16)] + [[item % 2, 2] for item in range(44)]
    users, items = np.repeat(np.arange(30), 8), np.tile(np.arange(16).reshape(8, 2).T, (15, 1))
    world = World()
    world.users, world.items, world.item_features = range(30), range(60), categories_of(rows)
    world.train = Interactions(users, items.ravel(), None, 30, 60)
    new = 16 + np.arange(30) % 2
    world.validation = Interactions(np.arange(30), new, None, 30, 60)
    world.test = Interactions(np.arange(30), new + 2, None, 30, 60)
    return world


def test_content_is_tuned_anew_where_new_items_are_ranked_among_themselves():
    world = new_shelf()
    tuned = tuned_baselines(world, Config(), split="test")
    assert list(tuned.among_new) == ["content_knn"]
    frame = tuned.table.to_frame()
    anew = frame[frame["validation_new_ndcg@10"].notna()]
    assert set(anew["baseline"]) == {"content_knn"}
    chosen = anew[anew["chosen"] == "yes"]["validation_new_ndcg@10"].item()
    assert chosen == anew["validation_new_ndcg@10"].max() > 0
    (scorer,) = tuned.among_new.values()
    known = Histories.of(world.train, world.validation)
    assert scorer.history.row(3).tolist() == known.bags.row(3).tolist()


def test_nothing_is_tuned_anew_where_validation_holds_no_new_items(world):
    assert tuned_baselines(world, Config(), split="test").among_new == {}


def test_lists_of_all_items_have_baselines_tuned_by_them_whatever_training_watches():
    config = Config.model_validate({"data": {"split": {"strategy": "cold_items"}}})
    assert config.monitor == "new_ndcg@10"
    found, usual = (
        tuned_baselines(new_shelf(), each, split="test").table for each in (config, Config())
    )
    assert found == usual
