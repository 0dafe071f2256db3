import dataclasses
import json

import numpy as np
import pytest

from recsys.errors import ArtifactError
from sweeps.findings import Comparison, Finalist, Finalists, Optimism, TestLook
from sweeps.record import Constraint, Objective, SweepRecord, TrialRecord


def test_a_record_read_again_equals_the_one_written(make_sweep, tmp_path):
    finalists = Finalists(
        metric="ndcg@10",
        direction="maximize",
        seeds=(1, 2),
        rows=(Finalist(3, {"a": (1, 2)}, False, 0.2, (0.1, None), 0.1, float("nan")),),
        winner=3,
        runner_up=None,
        comparisons=(
            Comparison(3, 0, "", 0.1, 0.0, 0.2, 0.95, 0.1, 0.2, None, None, None, 9, False, "no"),
        ),
        verdict="one",
        optimism=Optimism(3, 0.2, None, None, None, None, None, None, ""),
    )
    looks = (TestLook("2026-01-02T03:04:05+00:00", "winner", metrics={"ndcg@10": np.float32(0.5)}),)
    record = make_sweep(("complete", "failed", "pruned"), finalists=finalists, test_looks=looks)
    record.write(tmp_path)
    assert SweepRecord.read(tmp_path) == record


def test_what_is_not_a_number_is_none():
    trial = TrialRecord(
        number=0, state="running", metrics={"a": float("nan")}, intermediate={1: np.inf}
    )
    assert trial.metrics == {"a": None}
    assert trial.intermediate == {1: None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["trials"][0].update(colour="red"), r"'trials\.0\.colour'"),
        (lambda content: content.update(format=2), "'format' 1, got 2"),
    ],
    ids=["unknown field", "format"],
)
def test_another_format_is_refused_in_one_line(make_sweep, tmp_path, change, message):
    path = make_sweep(("complete",)).write(tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match=rf"study\.json: .*{message}") as caught:
        SweepRecord.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "study.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"study\.json: must hold JSON"):
        SweepRecord.read(tmp_path)


def test_the_file_is_strict_json(make_sweep, tmp_path):
    path = make_sweep(dataset={"rate": float("nan")}).write(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["dataset"] == {"rate": None}


def test_trials_are_ordered_by_number(make_sweep):
    trials = make_sweep().trials
    shuffled = make_sweep(trials=trials[::-1])
    assert [trial.number for trial in shuffled.trials] == list(range(12))


def test_the_best_is_first_whichever_way_is_better(make_sweep):
    values = [trial.values[0] for trial in make_sweep().ranked()]
    assert values == sorted(values, reverse=True)
    lowest = make_sweep(objectives=(Objective("loss", "minimize"),)).ranked()
    assert [trial.values[0] for trial in lowest] == sorted(values)


def test_trials_beyond_a_constraint_are_not_ranked(two_objectives):
    assert sorted(trial.number for trial in two_objectives.ranked()) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("value", "met"), [(1.0, True), (2.0, True), (2.1, False), (0.9, False), (None, False)]
)
def test_a_constraint_holds_between_its_bounds(value, met):
    assert Constraint("a", maximum=2.0, minimum=1.0).is_met(value) is met


def test_the_front_holds_what_nothing_beats(two_objectives):
    """Slow and obvious: a trial is out when another is no worse in both and better in one."""
    inside = two_objectives.ranked()

    def beats(one, other):
        (value, size), (other_value, other_size) = one.values, other.values
        no_worse = value >= other_value and size <= other_size
        return no_worse and (value > other_value or size < other_size)

    expected = {t.number for t in inside if not any(beats(other, t) for other in inside)}
    assert {trial.number for trial in two_objectives.front()} == expected
    assert 0 < len(expected) < len(inside)


def test_equal_trials_share_the_front(make_sweep):
    first, *others = make_sweep(("complete",) * 2).trials
    twins = (first, dataclasses.replace(others[0], values=first.values))
    assert len(make_sweep(trials=twins).front()) == 2
