import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

from recsys.errors import ArtifactError, DataError
from recsys.evaluation.tables import Table
from recsys.reporting.comparison import compare, differing_settings
from recsys.reporting.comparison_report import build_report, description, write_comparison
from recsys.reporting.comparison_summary import verdict
from recsys.reporting.comparison_tables import comparison_tables, run_results
from recsys.reporting.past_run import Paired
from tests.judged_runs import judged_run

N = 400
METRICS = ("ndcg@10", "recall@10", "ndcg@5", "sampled_ndcg@10", "novelty@10")


def make_run(name, gain=0.0, *, per_user=None, **changes):
    """A run whose users' NDCG@10 is the same noise for every run, moved by ``gain``."""
    base = np.random.default_rng(0).uniform(0.2, 0.4, size=N)
    values = {metric: base + 0.1 * place for place, metric in enumerate(METRICS)}
    values["ndcg@10"] = base + gain
    segment = np.where(np.arange(N) < 100, "cold", "tail")
    run = judged_run(name, values, segment=segment, **changes)
    return run if per_user is None else dataclasses.replace(run, per_user=per_user)


@pytest.fixture
def noise():
    """A difference of mean 0 between users; (400,)."""
    values = np.random.default_rng(1).normal(0, 0.1, size=N)
    return values - values.mean()


def test_a_run_that_is_better_is_said_to_be_so_with_its_numbers(noise):
    comparison = compare([make_run("plain"), make_run("new", 0.05 + noise)])
    said = verdict(comparison, comparison.pairs[0])
    better = int((0.05 + noise > 0).sum())
    assert said.startswith("new is better than plain on NDCG@10. The difference is +5.00 points")
    assert f"Of {N} users {better} are served better, {N - better} worse and 0 alike" in said
    # 0.05 over a standard deviation of 0.1: half of one, which Cohen calls medium from 0.5 on
    assert re.search(r"d_z = \+0\.(4|5)\d, (small|medium)", said)


@pytest.mark.parametrize(
    ("gain", "spread", "wanted"),
    [
        (-0.05, 1, "new is worse than plain on NDCG@10. The difference is −5.00 points"),
        (0, 1, "new and plain cannot be told apart on NDCG@10. .* It may be chance"),
        (0, 0, "new and plain give every user the same NDCG@10. No other"),
    ],
)
def test_what_is_no_gain_is_said_to_be_a_loss_chance_or_nothing(noise, gain, spread, wanted):
    comparison = compare([make_run("plain"), make_run("new", gain + spread * noise)])
    assert re.match(wanted, verdict(comparison, comparison.pairs[0]))


def test_users_are_paired_by_their_id(noise):
    new = make_run("new", 0.05 + noise)
    turned = dataclasses.replace(new, per_user=new.per_user.iloc[::-1])
    ((pair,), (other,)) = (compare([make_run("plain"), run]).pairs for run in (new, turned))
    assert (pair.tested, pair.segments) == (other.tested, other.segments)
    assert pair.headline.comparison.n_better == (0.05 + noise > 0).sum()


def test_a_run_of_other_data_is_compared_on_the_users_that_are_left():
    """The last user's test item was trained on: both runs are judged by the others."""
    plain, foreign = make_run("plain"), make_run("foreign", 0.05, dataset={"fingerprint": "other"})
    ours, theirs = plain.per_user.iloc[:-1], foreign.per_user.iloc[:-1]
    paired = Paired(ours, theirs, "by its lists", n_left_out=1)
    comparison = compare([plain, dataclasses.replace(foreign, per_user=theirs, paired=paired)])
    (pair,) = comparison.pairs
    assert pair.headline.comparison.n == N - 1
    assert pair.headline.points == pytest.approx(5)
    assert "1 users are left out" in build_report(comparison).notices[1].text


def test_settings_that_differ_are_shown_and_places_are_not():
    first = make_run("a", config={"training.batch_size": 32, "experiment.run_name": "a"})
    second = make_run("b", config={"training.batch_size": 64, "experiment.run_name": "b"})
    second.record.config["model"]["novelty"] = True  # which the other's version did not have
    differing = [("model.novelty", [..., True]), ("training.batch_size", [32, 64])]
    assert sorted(differing_settings([first, second])) == differing
    table = comparison_tables(compare([first, second]))["settings"]
    assert table.columns == ("setting", "a", "b")
    assert sorted(table.rows) == [
        ("model.novelty", "not set", "true"),
        ("training.batch_size", "32", "64"),
    ]


def test_the_watched_metric_decides_with_the_others_of_its_length():
    watched = {"training.early_stopping.monitor": "recall@10"}
    method = compare([make_run("a", config=watched), make_run("b")]).method
    assert method.tested == ("recall@10", "ndcg@10")
    assert compare([make_run("a"), make_run("b")]).method.tested == ("ndcg@10", "recall@10")


def test_asked_for_metrics_are_the_ones_tested():
    method = compare([make_run("a"), make_run("b")], metrics=["ndcg@5"]).method
    assert method.tested == ("ndcg@5",)
    assert method.shown == ("ndcg@10", "recall@10", "sampled_ndcg@10", "novelty@10")


@pytest.mark.parametrize("name", ["ndcg@99", "coverage@10"])
def test_a_metric_without_a_value_of_each_user_is_refused(name):
    runs = [make_run("a"), make_run("b")]
    for run in runs:
        run.record.evaluation.model.means["coverage@10"] = 0.5
    with pytest.raises(DataError, match=f"'--metric' must be one .*, got '{name}'"):
        compare(runs, metrics=[name])


def test_metrics_among_other_numbers_of_candidates_are_left_out():
    few = make_run("b", config={"evaluation.candidate_samples": 7})
    assert "sampled_ndcg@10" not in compare([make_run("a"), few]).method.shown
    assert "sampled_ndcg@10" in compare([make_run("a"), make_run("b")]).method.shown


def test_novelty_is_not_told_in_hundredths():
    other = make_run("b")
    other.per_user["novelty@10"] += 0.5
    other.per_user["ndcg@5"] += 0.5
    table = comparison_tables(compare([make_run("a"), other]))["other_differences"]
    rows = {row[0]: row[table.columns.index("difference")] for row in table.rows}
    assert rows["novelty@10"] == pytest.approx(0.5)
    assert rows["ndcg@5"] == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evaluation": None, "status": "failed"}, "its status is 'failed'"),
        ({"evaluation": {"split": "test", "skipped": "nothing held out"}}, "nothing held out"),
        ({"evaluation": {"split": "validation", "skipped": None}}, "evaluated on 'validation'"),
        ({"per_user": pd.DataFrame()}, "holds no per-user metrics"),
    ],
)
def test_a_run_without_a_test_evaluation_is_refused(changes, reason):
    with pytest.raises(DataError, match=f"run 'b': must.* {reason}"):
        compare([make_run("a"), make_run("b", **changes)])


def test_runs_on_other_data_are_refused_with_what_made_them_others():
    first = make_run("a")
    dataset = first.record.dataset | {"fingerprint": "sha256:def", "sources": {"books.csv": "11"}}
    second = make_run("b", dataset=dataset, config={"data.min_rating": 4})
    with pytest.raises(DataError) as refused:
        compare([first, second])
    said = str(refused.value)
    assert "'a' has sha256:abc, 'b' has sha256:def" in said
    assert "data.min_rating is None and 4" in said
    assert "the files' contents differ" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("users", "reason"),
    [
        ([*range(3, N), N], "3 of the 400 of 'a' are not among those of 'b', which has 1 others"),
        ([*range(N), 0], "run 'b': its per-user metrics must name every user once"),
    ],
)
def test_other_test_users_and_users_named_twice_are_refused(users, reason):
    frame = make_run("b").per_user.iloc[np.array(users) % N]
    frame = frame.assign(user_id=[f"r{user}" for user in users])
    with pytest.raises(DataError, match=reason):
        compare([make_run("a"), make_run("b", per_user=frame)])


def test_runs_of_one_name_are_told_apart_by_their_id():
    first = make_run("a", run_id="1" * 32, created="2026-01-01T00:00:00Z")
    second = make_run("a", run_id="2" * 32, created="2026-01-02T00:00:00Z")
    assert [run.name for run in compare([first, second]).runs] == ["a (11111111)", "a (22222222)"]


def test_intervals_of_a_run_are_those_of_its_own_evaluation():
    comparison = compare([make_run("a"), make_run("b")])
    found = run_results(comparison).value("a", "ndcg@10")
    assert (found.low, found.high) == (found.mean - 0.01, found.mean + 0.01)


def test_at_another_confidence_intervals_are_made_anew():
    """A wider confidence gives a wider interval, around the mean still."""
    runs = [make_run("a"), make_run("b")]
    half, most = (
        run_results(compare(runs, confidence=level)).value("a", "ndcg@10") for level in (0.5, 0.99)
    )
    assert most.low < half.low < half.mean < half.high < most.high


def test_segments_of_items_are_held_side_by_side():
    def segments(recall):
        columns = ("kind", "segment", "n", "recall@10", "ndcg@10", "popularity_recall@10")
        rows = (("users", "cold", 9, 0.9, 0.9, 0.9), ("items", "cold", 4, recall, None, 0.9))
        return {"segments": Table("segments", "Segments", "", columns, rows)}

    runs = [make_run("a", tables=segments(0.25)), make_run("b", tables=segments(0.75))]
    table = comparison_tables(compare(runs))["item_segment_differences"]
    assert table.columns == ("segment", "metric", "n", "reference", "value", "difference")
    assert table.rows == (
        ("cold", "recall@10", 4, 0.25, 0.75, 50.0),
        ("cold", "ndcg@10", 4, None, None, None),
    )
    runs[1].record.config["evaluation"]["segments"] = {"cold_max": 99}
    assert "item_segment_differences" not in comparison_tables(compare(runs))


def test_items_outside_the_head_are_compared_only_where_all_tell_them_alike():
    runs = [make_run("a"), make_run("b"), make_run("c")]
    for run in runs[:2]:
        run.per_user["tail_items_ndcg@10"] = 0.5
    assert compare(runs[:2]).method.has_tail_items
    assert not compare(runs).method.has_tail_items
    runs[1].record.config["evaluation"]["segments"] = {"cold_max": 99}
    assert not compare(runs[:2]).method.has_tail_items


def test_several_runs_are_one_family_and_one_report(noise):
    runs = [make_run("plain"), make_run("new", 0.05 + noise), make_run("same", noise)]
    comparison = compare(runs)
    report = build_report(comparison)
    assert comparison.n_tests == 4
    assert report.summary == "On NDCG@10: new better than plain; same not told apart from it."
    assert comparison_tables(comparison)["differences"].column("run") == [
        *("new", "new", "same", "same")
    ]


def test_the_same_comparison_gives_the_same_bytes(noise, tmp_path):
    def written(place):
        comparison = compare([make_run("plain"), make_run("new", noise)])
        write_comparison(comparison, tmp_path / place)
        files = (path for path in (tmp_path / place).rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / place): path.read_bytes() for path in files}

    first = written("one")
    assert first == written("two") == written("one")
    assert {str(path) for path in first} >= {
        *("comparison.json", "comparison.md", "comparison.html"),
        *("tables/differences.json", "figures/differences.svg"),
    }


def test_what_is_written_holds_the_numbers_of_the_comparison(noise, tmp_path):
    comparison = compare([make_run("plain"), make_run("new", 0.05 + noise)], name="mine")
    write_comparison(comparison, tmp_path / "mine")
    content = json.loads((tmp_path / "mine" / "comparison.json").read_text())
    (pair,) = content["pairs"]
    assert (content["name"], content["n_users"], pair["verdict"]) == ("mine", N, "better")
    assert pair["tested"][0]["points"] == pytest.approx(5.0)
    assert pair["shown"][0]["p_corrected"] is None
    text = (tmp_path / "mine" / "comparison.md").read_text()
    assert "| NDCG@10 | better |" in text
    assert "figures/differences.svg" in text and "report.html" not in text


def test_a_name_made_from_runs_is_safe_as_a_directory():
    assert re.fullmatch(r"[\w.-]+", compare([make_run("../a/b"), make_run("c d")]).name)


def test_a_directory_of_another_comparison_or_something_else_is_left_alone(noise, tmp_path):
    place, other = tmp_path / "place", compare([make_run("a"), make_run("c", noise)])
    write_comparison(compare([make_run("a"), make_run("b")]), place)
    before = (place / "comparison.md").read_text()
    with pytest.raises(ArtifactError, match="holds another one"):
        write_comparison(other, place)
    assert (place / "comparison.md").read_text() == before
    with pytest.raises(ArtifactError, match=r"it has no comparison\.json"):
        write_comparison(other, tmp_path)


def test_the_description_begins_with_the_outcome_and_the_table(noise):
    text = description(compare([make_run("plain"), make_run("new", 0.05 + noise)]))
    lines = text.splitlines()
    assert lines[0] == "**new is better than plain on NDCG@10.**"
    assert lines[2].startswith("| metric | verdict |")
    assert lines[4].startswith("| NDCG@10 | better | ")
    assert lines[-1].startswith("new is better than plain on NDCG@10. The difference is +5.00")
