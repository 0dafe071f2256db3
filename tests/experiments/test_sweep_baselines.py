"""Baselines with the budget of a sweep, on the checkerboard."""

import json

import pandas as pd
import pytest

from experiments.signals import Interrupted
from experiments.sweep import baselines
from experiments.sweep.finish import finish
from experiments.sweep.trial import evaluate_lists, list_metrics
from recsys.baselines.tuning import tuned_baselines
from sweeps.baselines import suggest
from sweeps.record import SweepRecord
from sweeps.study import SweepStudy

ALL = ["item_knn", "ease", "ials", "bpr", "content_knn"]
EASE = ("--evaluation.baselines", "[ease]")


@pytest.fixture
def tune(open_sweep, work):
    """Runs the search of a sweep and tunes its baselines."""

    def run(*overrides, **options):
        session = open_sweep(*overrides, **{"n_trials": 3, "baseline_trials": None} | options)
        work(session)
        baselines.tune_baselines(session)
        return session.record("running")

    return run


@pytest.fixture
def attempts(monkeypatch):
    """Of which baseline a trial began, in order."""
    seen, real = [], baselines._try

    def attempt(session, name, *rest):
        seen.append(name)
        return real(session, name, *rest)

    monkeypatch.setattr(baselines, "_try", attempt)
    return seen


def n_trials(record):
    return {each.name: each.n_trials for each in record.tuned_baselines}


def test_each_baseline_has_as_many_trials_as_the_search_and_stands_beside_it(open_sweep, work):
    session = open_sweep(n_trials=3, finalists=1, finalist_seeds=2, baseline_trials=None)
    work(session)
    finish(session)
    record = SweepRecord.read(session.directory.path)
    assert n_trials(record) == dict.fromkeys(ALL, 3)
    assert list(record.baselines) == ["popularity", *ALL]
    for each in record.tuned_baselines:
        values = pd.read_parquet(session.directory.path / "baselines" / f"{each.name}.parquet")
        assert values["ndcg@10"].mean() == pytest.approx(each.value)
        assert record.baselines[each.name]["ndcg@10"] == each.value and each.seconds > 0
    versus = record.versus_baseline
    means = {row.trial: row.mean for row in record.finalists.rows}
    best = max(each.value for each in record.tuned_baselines)
    assert versus.difference == pytest.approx(means[record.finalists.winner] - best)
    (look,) = record.test_looks
    assert {"popularity", *ALL} <= set(look.baselines)
    assert 0 < record.parts["baselines"] < record.seconds
    report = (session.directory.path / "sweep_report.md").read_text()
    assert report.count(versus.verdict.split(",")[0]) == 2  # in the summary and at the finalists
    assert "Dashed: the best trial of each baseline" in report


def test_the_first_trial_is_what_a_run_would_choose(open_sweep, work):
    names = ["item_knn", "ease"]
    session = open_sweep(n_trials=3, baseline_trials=1)
    work(session)
    baselines.tune_baselines(session)
    record = session.record("running")
    chosen = tuned_baselines(session.prepared, session.base, split="validation").scorers
    for name in names:
        found = evaluate_lists(chosen[name], session.prepared, session.base, "validation")
        assert record.baselines[name] == pytest.approx(list_metrics(found))
    options = {"direction": "maximize", "has_order": True, "seed": 0}
    assert [each.params for each in record.tuned_baselines] != [
        suggest(name, [], **options) for name in names
    ]


def test_what_was_tried_is_not_tried_again_and_a_longer_sweep_adds_to_it(tune, attempts):
    first = tune(name="mine")
    assert len(attempts) == 15
    assert tune(name="mine").tuned_baselines == first.tuned_baselines and len(attempts) == 15
    assert n_trials(tune(name="mine", n_trials=5)) == dict.fromkeys(ALL, 5)
    assert len(attempts) == 25


def test_an_interrupted_tuning_goes_on_as_if_it_had_not_been(tune, monkeypatch, sweep_shop):
    options = {"baseline_trials": 4}
    tune(*EASE, name="whole", **options)
    real, left = baselines._evaluate, [2]

    def interrupted(*given):
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted(2)
        return real(*given)

    monkeypatch.setattr(baselines, "_evaluate", interrupted)
    with pytest.raises(Interrupted):
        tune(*EASE, name="cut", **options)
    left[0] = 2  # as many as are left
    tune(*EASE, name="cut", **options)
    folders = [sweep_shop / "sweeps" / name / "baselines" for name in ("whole", "cut")]
    whole, cut = (json.loads((folder / "ease.json").read_text())["tried"] for folder in folders)
    assert [each["params"] for each in whole] == [each["params"] for each in cut]
    assert [each["value"] for each in whole] == [each["value"] for each in cut]


def test_the_user_says_how_many_trials_and_none_tunes_none(tune, attempts):
    assert n_trials(tune(*EASE, baseline_trials=2)) == {"ease": 2}
    record = tune(baseline_trials=0)
    assert len(attempts) == 2 and record.tuned_baselines == ()
    assert list(record.baselines) == ["popularity"]


def test_a_long_search_gives_each_baseline_at_most_so_many_trials(tune, monkeypatch):
    monkeypatch.setattr(baselines, "MOST_TRIALS", 2)
    assert n_trials(tune(*EASE)) == {"ease": 2}


def test_with_hours_a_baseline_takes_no_longer_than_the_search_took(tune, monkeypatch):
    monkeypatch.setattr(SweepStudy, "spent_seconds", lambda study: 0.0)
    assert n_trials(tune(*EASE, hours=1)) == {"ease": 1}
    assert n_trials(tune(*EASE)) == {"ease": 3}


def test_settings_of_a_run_come_first_where_it_has_the_baseline(tune):
    (tuned,) = tune("--evaluation.baselines", "[bpr]", baseline_trials=1).tuned_baselines
    assert tuned.params["factors"] in (32, 96) and tuned.params["epochs"] == 100


def test_a_data_set_that_is_too_large_for_a_baseline_leaves_it_out(tune, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "MOST_INTERACTIONS", 10)
    monkeypatch.setattr("recsys.baselines.tuning.ease_bytes", lambda n_items: 2**21)
    record = tune("--evaluation.baseline_memory_limit_mb", "1", baseline_trials=1)
    found = {each.name: each.left_out for each in record.tuned_baselines}
    assert "items squared need" in found["ease"] and found["item_knn"] is None
    assert "train interactions are more than 10" in found["bpr"] == found["ials"]
    assert f"iALS was left out: {found['ials']}" in capsys.readouterr().out
