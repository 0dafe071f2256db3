from dataclasses import replace
from math import isnan
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pytest import approx

from recsys.config import EvaluationConfig, SegmentConfig
from recsys.data.splitting import SplitSummary
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.evaluation import evaluate, validation_metrics
from recsys.evaluation.ranking import Vectors
from tests.small_arrays import interactions_of

CONFIG = EvaluationConfig(
    metrics_k=(2, 5),
    candidate_samples=10,
    bootstrap_samples=200,
    segments=SegmentConfig(cold_max=3),
)


def prepared_of(train, validation, test, skipped=None, categories=("",)):
    n_users, n_items = train.n_users, train.n_items
    return SimpleNamespace(
        users=Vocabulary(pa.array([f"user {i}" for i in range(n_users)])),
        items=Vocabulary(pa.array([f"item {i}" for i in range(n_items)])),
        train=train,
        validation=validation,
        test=test,
        books=pa.table({"categories": np.resize(categories, n_items)}),
        split=SplitSummary(
            strategy="leave_latest_out",
            order="rows",
            skipped=skipped,
            train=len(train),
            validation=len(validation),
            test=len(test),
        ),
    )


@pytest.fixture
def world():
    """60 users of two kinds: even ones read even items, odd ones odd items; 40 items."""
    rng = np.random.default_rng(0)
    n_users, n_items = 60, 40
    parts = {"train": [], "validation": [], "test": []}
    for user in range(n_users):
        own = rng.permutation(np.arange(user % 2, n_items, 2))[: 4 + user % 3]
        for place, item in enumerate(own):
            part = {0: "test", 1: "validation"}.get(place, "train")
            parts[part].append((user, item))
    made = {name: interactions_of(pairs, n_users, n_items) for name, pairs in parts.items()}
    return prepared_of(**made, categories=("even", "odd"))


@pytest.fixture
def knowing():
    """Vectors that know the two kinds, and nothing else."""
    kinds = np.eye(2, dtype=np.float32)
    return Vectors(kinds[np.arange(60) % 2], kinds[np.arange(40) % 2])


def judged(vectors, prepared, config=CONFIG, seed=0, split="test", baselines=None):
    return evaluate(
        vectors, prepared, split=split, config=config, seed=seed, baselines=baselines or {}
    )


def test_known_items_are_not_recommended_again(world, knowing):
    ranking = judged(knowing, world).rankings["model"]
    for known in (world.train, world.validation):
        assert not known.by_user.contains(ranking.users[:, None], ranking.items).any()


def test_validation_items_may_be_found_on_validation(world):
    perfect = perfect_vectors(world.validation)
    assert judged(perfect, world, split="validation").model.means["recall@2"] == 1
    assert judged(perfect, world, split="test").model.means["recall@2"] < 0.5


def perfect_vectors(held_out):
    """Every user's score is 1 for what is held out and 0 for the rest."""
    scores = np.zeros((held_out.n_users, held_out.n_items), dtype=np.float32)
    scores[held_out.users, held_out.items] = 1
    return Vectors(scores, np.eye(held_out.n_items, dtype=np.float32))


def test_a_perfect_model_is_perfect_in_both_views(world):
    means = judged(perfect_vectors(world.test), world).model.means
    for name in ("recall@2", "ndcg@5", "map@2", "mrr@2", "sampled_ndcg@5", "sampled_recall@2"):
        assert means[name] == 1
    assert means["precision@2"] == approx(1 / 2)


def test_a_model_that_knows_the_kind_reaches_the_known_rate(world, knowing):
    """20 items of the kind less those known: the held-out one is equally likely at each place."""
    evaluation = judged(knowing, world)
    n_known = (world.train.user_counts + 1)[evaluation.rankings["model"].users]
    rate = (5 / (20 - n_known)).mean()
    spread = np.sqrt(rate * (1 - rate) / 60)
    assert abs(evaluation.model.means["recall@5"] - rate) < 4 * spread


def popularity(prepared):
    """A baseline: every user's score of an item is its number of train interactions."""
    users = np.ones((prepared.train.n_users, 1), dtype=np.float32)
    return Vectors(users, prepared.train.item_counts[:, None])


def test_baselines_that_are_given_and_no_others_are_judged_alike(world, knowing):
    evaluation = judged(knowing, world, baselines={"oracle": knowing})
    assert evaluation.baselines == {"oracle": evaluation.model}
    np.testing.assert_array_equal(
        evaluation.rankings["oracle"].items, evaluation.rankings["model"].items
    )
    assert "oracle_ndcg@5" in evaluation.tables["segments"].columns


def test_every_metric_of_a_user_has_an_interval_around_its_mean(world, knowing):
    model = judged(knowing, world).model
    for name, (low, high) in model.intervals.items():
        assert low <= model.means[name] <= high, name
    without = {name for name in model.means if name not in model.intervals}
    assert without == {"coverage@2", "coverage@5"}


def test_all_promised_metrics_are_there(world, knowing):
    means = judged(knowing, world).model.means
    for name in ("coverage", "novelty", "popularity_lift", "intra_list_diversity"):
        assert f"{name}@5" in means
    for name in CONFIG.metric_names:
        assert {name, f"sampled_{name}"} <= set(means)


def test_without_candidate_samples_there_is_no_sampled_view(world, knowing):
    config = CONFIG.model_copy(update={"candidate_samples": 0})
    assert not any("sampled" in name for name in judged(knowing, world, config).model.means)


def test_means_are_those_of_the_per_user_frame(world, knowing):
    evaluation = judged(knowing, world, baselines={"popularity": popularity(world)})
    frame = evaluation.per_user
    assert len(frame) == evaluation.n_users == 60
    assert frame["ndcg@5"].mean() == approx(evaluation.model.means["ndcg@5"])
    popular = evaluation.baselines["popularity"].means["ndcg@5"]
    assert frame["popularity_ndcg@5"].mean() == approx(popular)
    assert frame["user_id"][7] == "user 7"
    assert frame["n_train"].tolist() == world.train.user_counts.tolist()
    assert frame["segment"][0] == "cold"


def test_where_nothing_is_head_the_tail_is_all_that_was_held_out(world, knowing):
    config = CONFIG.model_copy(update={"segments": SegmentConfig(head_share=0.01)})
    frame = judged(knowing, world, config).per_user
    for name in config.metric_names:
        assert frame[f"tail_items_{name}"].tolist() == frame[name].tolist()


def test_the_model_is_tested_against_every_baseline_but_not_the_oracle(world, knowing):
    perfect = perfect_vectors(world.test)
    baselines = {"popularity": popularity(world), "ease": knowing, "oracle": perfect}
    versus = judged(perfect, world, baselines=baselines).tables["versus_baselines"].to_frame()
    assert list(dict.fromkeys(versus["baseline"])) == ["popularity", "ease"]
    for name in ("popularity", "ease"):
        row = versus.set_index(["baseline", "metric"]).loc[(name, "ndcg@5")]
        assert row["model"] == 1
        assert row["difference"] == approx(1 - row["baseline_value"])
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["p_corrected"] < 0.01


def test_p_values_are_corrected_for_all_baselines_and_metrics_shown(world, knowing):
    baselines = {"popularity": popularity(world), "ease": perfect_vectors(world.test)}
    versus = judged(knowing, world, baselines=baselines).tables["versus_baselines"].to_frame()
    smallest = versus["p_value"].min()
    assert len(versus) == 2 * 3  # one held-out item a user: recall, ndcg and mrr say all
    assert versus.loc[versus["p_value"].idxmin(), "p_corrected"] == approx(6 * smallest)


def test_cold_items_and_users_are_compared_apart(world, knowing):
    """All users are cold but those with 4 train interactions; so are items with few users."""
    perfect = perfect_vectors(world.test)
    evaluation = judged(perfect, world, baselines={"ease": knowing, "oracle": perfect})
    rows = evaluation.tables["versus_baselines_cold"].to_frame().set_index("kind")
    assert set(rows["baseline"]) == {"ease"}
    cold = (evaluation.per_user["segment"] == "cold").to_numpy()
    assert 0 < cold.sum() < 60
    assert rows.loc["users", "n"] == cold.sum()
    assert rows.loc["users", "baseline_value"] == approx(
        evaluation.per_user["ease_ndcg@5"][cold].mean()
    )
    in_segments = evaluation.tables["segments"].to_frame().set_index(["kind", "segment"])
    assert in_segments.loc[("users", "cold"), "ease_ndcg@5"] == rows.loc["users", "baseline_value"]
    row = in_segments.loc[("items", "cold")]
    assert rows.loc["items", "n"] == row["n"]
    assert rows.loc["items", "baseline_value"] == approx(row["ease_ndcg@5"])
    assert rows.loc["items", "difference"] == approx(1 - row["ease_ndcg@5"])


def test_without_anything_cold_nothing_is_compared(world, knowing):
    config = CONFIG.model_copy(update={"segments": SegmentConfig(cold_max=0)})
    baselines = {"popularity": popularity(world)}
    rows = judged(knowing, world, config, baselines=baselines).tables["versus_baselines_cold"].rows
    assert rows == ()


def test_the_same_seed_gives_the_same_evaluation(world, knowing):
    baselines = {"popularity": popularity(world)}
    first, second = (judged(knowing, world, baselines=baselines) for _ in range(2))
    assert first.model == second.model
    assert first.tables["segments"] == second.tables["segments"]
    assert first.tables["versus_baselines"] == second.tables["versus_baselines"]


def test_users_without_held_out_items_are_not_judged(world, knowing):
    world.test = world.test.select(world.test.users < 10)
    evaluation = judged(knowing, world)
    assert evaluation.n_users == 10
    assert evaluation.rankings["model"].users.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("skipped", "said"),
    [
        ("there is no order in time", "there is no order in time"),
        (None, "no interaction is held out for test"),
    ],
)
def test_a_split_that_holds_nothing_out_says_why(world, knowing, skipped, said):
    nothing = world.test.select(np.empty(0, dtype=np.int64))
    evaluation = judged(knowing, prepared_of(world.train, nothing, nothing, skipped=skipped))
    assert evaluation.skipped == said
    assert (evaluation.n_users, evaluation.model.means, evaluation.tables) == (0, {}, {})


def test_lists_longer_than_the_catalogue_are_judged(world, knowing):
    config = CONFIG.model_copy(update={"metrics_k": (2, 100)})
    assert judged(perfect_vectors(world.test), world, config).model.means["recall@100"] == 1


def test_validation_metrics_are_those_of_the_full_evaluation(world, knowing):
    everyone = np.arange(60)
    cheap = validation_metrics(knowing, world, config=CONFIG, users=everyone)
    full = judged(knowing, world, split="validation").model.means
    assert set(cheap) == set(CONFIG.metric_names)
    for name, value in cheap.items():
        assert value == approx(full[name])


def test_validation_metrics_among_new_items_are_those_of_a_catalogue_without_others(world):
    """No new item is known, so that nothing but the other items is left out."""
    everyone, n_items = np.arange(60), len(world.items)
    half = world.train.select(world.train.items < n_items // 2)
    summary = replace(world.split, strategy="cold_items")
    world = SimpleNamespace(**vars(world) | {"train": half, "split": summary})
    is_new = np.bincount(world.train.items, minlength=n_items) == 0
    numbers = np.random.default_rng(0).normal(size=(60 + n_items, 4)).astype(np.float32)
    vectors = Vectors(numbers[:60], numbers[60:])
    values = validation_metrics(vectors, world, config=CONFIG, users=everyone)
    users, items = world.validation.users, world.validation.items
    expected = []
    for user in everyone:
        own = items[(users == user) & is_new[items]]
        if len(own):
            scores = np.where(is_new, vectors.users[user] @ vectors.items.T, -np.inf)
            expected.append(np.isin(np.argsort(-scores, kind="stable")[:5], own).sum() / len(own))
    assert is_new.sum() > 5
    assert values["new_recall@5"] == approx(np.mean(expected))


def test_where_whole_items_are_held_out_metrics_are_of_new_items_alone_as_well(world):
    half = len(world.items) // 2
    known = {name: getattr(world, name) for name in ("train", "validation")}
    parts = {name: part.select(part.items < half) for name, part in known.items()}
    parts["test"] = world.test.select(world.test.items >= half)
    parts["split"] = replace(world.split, strategy="cold_items")
    world = SimpleNamespace(**vars(world) | parts)
    numbers = np.random.default_rng(0).normal(size=(60 + 2 * half, 4)).astype(np.float32)
    vectors, other = Vectors(numbers[:60], numbers[60:]), Vectors(-numbers[:60], numbers[60:])
    found = judged(vectors, world, baselines={"popularity": other})
    names = {f"new_{name}" for name in CONFIG.metric_names}
    assert names < set(found.model.means) and names < set(found.model.intervals)
    assert names < set(found.baselines["popularity"].means)
    per_user = found.per_user
    assert "tail_items_new_ndcg@5" not in per_user  # no new item is of the head
    assert (per_user["new_ndcg@5"] >= per_user["ndcg@5"]).all()
    assert per_user["popularity_new_ndcg@5"].mean() == approx(
        found.baselines["popularity"].means["new_ndcg@5"]
    )


def test_validation_metrics_of_some_users_are_means_over_them(world):
    validation = world.validation
    scores = perfect_vectors(validation)
    scores.users[30:] = 0
    some = validation_metrics(scores, world, config=CONFIG, users=np.arange(30))
    assert some["mrr@5"] == 1
    assert validation_metrics(scores, world, config=CONFIG, users=np.arange(60))["mrr@5"] < 1


def test_validation_metrics_of_nobody_are_nan(world, knowing):
    nobody = np.empty(0, dtype=np.int64)
    values = validation_metrics(knowing, world, config=CONFIG, users=nobody)
    assert all(isnan(value) for value in values.values())
