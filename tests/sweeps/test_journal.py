"""Journals that a full disk, a killed process or a damaged line must not cost more than a trial."""

import json
import multiprocessing
import os
import re
import signal
import time

import optuna
import pytest
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult

from recsys.errors import TrackingError
from sweeps.journal import locked
from sweeps.storage import open_storage


@pytest.fixture
def path(tmp_path):
    """Of a journal that is to be made."""
    return tmp_path / "journal.log"


def study_at(path):
    """The study of a journal, as another process opens it."""
    backend = open_storage(str(path)).backend
    return optuna.create_study(study_name="s", storage=backend, load_if_exists=True)


def test_optuna_writes_and_replays_its_journal_as_when_ours_was_written(path):
    moved = (
        f"Optuna {optuna.__version__} keeps its journal otherwise than 5.0.0 did, for which "
        "sweeps/journal.py was written: look at optuna/storages/journal/_storage.py again"
    )
    operations = {operation.name: int(operation) for operation in JournalOperation}
    written = {
        "CREATE_STUDY": 0, "SET_STUDY_USER_ATTR": 2, "CREATE_TRIAL": 4, "SET_TRIAL_STATE_VALUES": 6
    }  # fmt: skip
    assert written.items() <= operations.items(), moved
    replayed = JournalStorageReplayResult("")
    assert (replayed._studies, replayed._trials, replayed._next_study_id) == ({}, {}, 0), moved
    study = study_at(path)
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.report(0.5, step=1)
    trial.set_user_attr("a", 1)
    study.tell(trial, 1.0)
    fields = set().union(*map(json.loads, path.read_text().splitlines()))
    assert {
        "study_name", "study_id", "trial_id", "datetime_start", "datetime_complete", "param_name",
        "param_value_internal", "distribution", "step", "intermediate_value", "user_attr",
        "state", "values",
    } <= fields, moved  # fmt: skip
    replayed.apply_logs(map(json.loads, path.read_text().splitlines()))
    assert list(replayed._studies) == [0] and list(replayed._trials) == [0], moved


def hold_lock(path, taken):
    with locked(path):
        taken.set()
        time.sleep(60)


def test_a_lock_does_not_outlive_the_process_that_holds_it(tmp_path):
    context = multiprocessing.get_context("fork")
    taken = context.Event()
    process = context.Process(target=hold_lock, args=(tmp_path / "lock", taken))
    process.start()
    assert taken.wait(10)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    started = time.monotonic()
    with locked(tmp_path / "lock"):
        pass
    assert time.monotonic() - started < 5  # Optuna's own would wait for 30 seconds


def test_an_entry_that_a_power_failure_cut_short_is_left_out(path, caplog):
    study_at(path).add_trial(optuna.trial.create_trial(value=1.0))
    with open(path, "ab") as file:
        file.write(b'{"op_code": 4, "wor')
    mended = study_at(path)
    assert [trial.value for trial in mended.trials] == [1.0]
    mended.add_trial(optuna.trial.create_trial(value=2.0))
    assert [trial.value for trial in mended.trials] == [1.0, 2.0]
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert "the last entry was unfinished" in caplog.text


def values_of(path):
    return {trial.number: trial.value for trial in study_at(path).trials}


def journal_of_three(path):
    """Trials 0, 1 and 2 with values 0.0, 1.0 and 2.0, asked and told."""
    study = study_at(path)
    for value in (0.0, 1.0, 2.0):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        study.tell(trial, value)
    return study


def test_an_entry_glued_to_half_of_another_is_kept(path, caplog):
    journal_of_three(path)
    lines = path.read_text().splitlines()
    lines[4] = lines[4][:20] + lines[4]
    path.write_text("\n".join(lines) + "\n")
    assert values_of(path) == {0: 0.0, 1: 1.0, 2: 2.0}
    assert "line 5 is damaged; the entry at its end is kept" in caplog.text


def change_journal(path, number, change):
    """Puts what ``change`` makes of a line, counted from 1, in its place."""
    lines = path.read_text().splitlines(keepends=True)
    lines[number - 1] = change(lines[number - 1])
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (7, lambda line: line.replace('"values":[1.0]', '"values":[9.0]')),  # by its checksum
        (6, lambda line: line[:150] + "\n"),  # what it drew
    ],
)
def test_a_trial_with_a_damaged_line_is_not_complete(path, caplog, number, change):
    journal_of_three(path)
    change_journal(path, number, change)
    assert values_of(path) == {0: 0.0, 1: None, 2: 2.0}
    assert f"line {number} is damaged" in caplog.text


def test_a_trial_whose_first_entry_is_gone_keeps_its_number_and_all_others(path):
    params = [trial.params for trial in journal_of_three(path).trials]
    change_journal(path, 5, lambda _: "")
    assert values_of(path) == {0: 0.0, 1: 1.0, 2: 2.0}
    assert [trial.params for trial in study_at(path).trials] == params


@pytest.mark.parametrize("change", [lambda line: line[:-20] + "\n", lambda _: ""])
def test_a_journal_that_lost_its_study_is_refused(path, change):
    journal_of_three(path)
    change_journal(path, 1, change)
    with pytest.raises(TrackingError, match="the entry that made a study must be whole"):
        open_storage(str(path))


def test_a_journal_without_checksums_is_read(path):
    journal_of_three(path)
    path.write_text(re.sub(r',"crc32":\d+', "", path.read_text()))
    assert values_of(path) == {0: 0.0, 1: 1.0, 2: 2.0}
