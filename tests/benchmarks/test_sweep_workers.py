import json

import pytest

from benchmarks.bars.sweep_workers import rows_of, span_of_trials
from benchmarks.sides import Timing


def timing(seconds, trial_seconds):
    counted = {"trials": 12, "trial_seconds": trial_seconds}
    return Timing([seconds], [seconds], [1.0], [counted])


def test_trials_an_hour_leave_out_what_a_sweep_does_before_and_after_them():
    sides = {"two workers": timing(20.0, 10.0), "one worker, one thread": timing(28.0, 18.0)}
    (row,) = rows_of("sweep", sides)
    assert row.value == pytest.approx(1.8)
    assert "1.40x" in str(row.counted)


def test_the_span_goes_from_the_first_start_to_the_last_end(tmp_path):
    trials = [
        {"started": "2026-01-01T00:00:05+00:00", "ended": "2026-01-01T00:00:09+00:00"},
        {"started": "2026-01-01T00:00:02+00:00", "ended": "2026-01-01T00:00:30+00:00"},
    ]
    (tmp_path / "study.json").write_text(json.dumps({"trials": trials}))
    assert span_of_trials(tmp_path / "study.json") == 28
