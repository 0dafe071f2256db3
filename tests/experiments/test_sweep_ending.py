"""Searches that end before their trials are used up: by time, in noise, by Ctrl-C."""

import os
import signal
import threading
import time

import pandas as pd
import pytest

from experiments.signals import Interrupted, first_sigint_to, interruptible
from experiments.sweep.finish import finish, measure_error
from sweeps.ending import difference_error
from sweeps.record import SweepRecord
from sweeps.study import ERROR
from tests.forked import Forked

RUN_STAGE = "experiments.sweep.finish.run_stage"
STOPPING = {"n_trials": 60, "sampler": "random", "finalists": 1, "finalist_seeds": 2}


def test_the_noise_is_measured_on_the_default_once_and_its_trainings_stay_finalists(
    open_sweep, work, monkeypatch
):
    session = open_sweep(**STOPPING)
    measure_error(session)
    error = session.main.kept()[ERROR]
    again = open_sweep(**STOPPING)
    with monkeypatch.context() as patch:
        patch.setattr(RUN_STAGE, lambda *_: pytest.fail("it is known"))
        measure_error(again)
    study = session.stage("finalists")
    assert [(t.user_attrs["trial"], t.user_attrs["seed"]) for t in study.trials()] == [
        (0, 1),
        (0, 2),
    ]
    session.main.keep(ERROR, 1.0)  # everything is noise then
    assert work(session) == 11
    finish(session)
    record = SweepRecord.read(session.directory.path)
    default = next(row for row in record.finalists.rows if row.is_default)
    assert default.values == tuple(trial.value for trial in study.trials())[:2]
    assert len(study.trials()) == 2 * len(record.finalists.rows)
    frames = [pd.read_parquet(session.directory.per_user_path(0, seed)) for seed in (1, 2)]
    assert error == difference_error([f.set_index("user_id")["ndcg@10"] for f in frames], 2)


def test_where_nothing_may_end_in_noise_nothing_is_trained_for_it(open_sweep, monkeypatch):
    monkeypatch.setattr(RUN_STAGE, lambda *_: pytest.fail("not asked for"))
    for options in ({"stop": False}, {"finalists": 0}, {"n_trials": 5}):
        session = open_sweep(**STOPPING | options)
        measure_error(session)
        assert ERROR not in session.main.kept()


def test_the_first_sigint_is_noted_and_the_second_interrupts():
    noted = threading.Event()
    with interruptible(), first_sigint_to(noted.set):
        os.kill(os.getpid(), signal.SIGINT)
        assert noted.wait(5)
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)


@pytest.mark.slow
def test_hours_and_ctrl_c_lead_to_finalists_and_the_same_command_goes_on(sweep_shop, bookends):
    options = [
        *("sweep", "--space", "space.yaml", "--config", "config.yaml", "--name", "mine"),
        *("--sampler", "random", "--finalists", "1", "--finalist-seeds", "1", "--no-final"),
        *("--experiment.tracking", "false", "--baseline-trials", "0"),
        *("--workers", "2", "--trials", "1000"),
    ]
    done = bookends(*options, "--hours", "0.001")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its 0.001 hours were over" in done.stdout
    directory = sweep_shop / "artifacts" / "sweeps" / "mine"
    first = SweepRecord.read(directory)
    assert (first.status, first.search_end.why) == ("finished", "hours")
    assert first.finalists is not None and len(first.trials) < 1000
    report = (directory / "sweep_report.md").read_text()
    assert "its 0.001 hours were over" in report

    process = Forked("-m", "experiments", *options, cwd=sweep_shop)
    try:
        deadline = time.monotonic() + 120
        while len(SweepRecord.read(directory).in_state("complete")) < len(first.trials) + 3:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output = "".join(process.communicate(timeout=120))
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    assert "Ctrl-C ended the search" in output
    second = SweepRecord.read(directory)
    assert (second.status, second.search_end.why) == ("finished", "asked")
    assert len(first.trials) < len(second.in_state("complete")) < 1000
    assert second.finalists is not None
