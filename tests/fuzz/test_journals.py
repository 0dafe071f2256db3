"""Damaged journals of sweeps: what stands on undamaged lines is there, or one line says why not."""

import logging
import re

import optuna
import pytest

from recsys.errors import BookendsError
from sweeps.storage import open_storage

N_TRIALS = 6
OF_OLD = re.compile(rb',"crc32":\d+')
RANGE = {"x": optuna.distributions.FloatDistribution(0, 1)}


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """Lines of a journal: a study of six trials, and after it one of two."""
    path = tmp_path_factory.mktemp("journal") / "journal.log"
    storage = open_storage(str(path)).backend
    for name, n_trials in (("search", N_TRIALS), ("final", 2)):
        study = optuna.create_study(study_name=name, storage=storage)
        study.set_user_attr("settings", {"name": "é"})
        for number in range(n_trials):
            trial = study.ask(RANGE)
            trial.set_user_attr("worker", 1)
            trial.report(number / 10, 1)
            study.tell(trial, float(number))
    return path.read_bytes().splitlines(keepends=True)


def damaged(lines, rng):
    """The lines, some of them cut, glued to the next, with bytes changed, or left out."""
    lines = list(lines)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        number = rng.randrange(len(lines))
        line, at = lines[number], rng.randrange(len(lines[number]) + 1)
        match rng.randrange(5):
            case 0:
                lines[number] = line[:at] + b"\n"
            case 1:
                lines[number] = line[at:]
            case 2:
                lines[number] = line[:at]
            case 3:
                lines[number] = line[:at] + bytes([rng.randrange(256)]) + line[at + 1 :]
            case 4:
                lines[number] = b""
    whole = b"".join(lines)
    return whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.1 else whole


def trials_of(path):
    """All that the storage says of the trials, by study and number."""
    backend = open_storage(str(path)).backend
    return {
        (study.study_name, trial.number): (
            trial.state.name,
            trial.values,
            trial.params,
            trial.user_attrs,
            trial.intermediate_values,
        )
        for study in backend.get_all_studies()
        for trial in backend.get_all_trials(study._study_id)
    }


def undamaged(lines, text):
    """Trials all of whose lines stand in the file, and whether those that make something do."""
    found = [any(each.endswith(line) for each in text.splitlines(keepends=True)) for line in lines]
    makes = [b'"op_code":0,' in line or b'"op_code":4,' in line for line in lines]
    trials, study = {}, None
    for line, is_there, is_maker in zip(lines, found, makes, strict=True):
        if b"study_name" in line:
            study, number = ("final" if study else "search"), -1
        elif is_maker:
            number += 1
        if is_maker or b'"trial_id"' in line:
            trials[study, number] = trials.get((study, number), True) and is_there
    trials.pop(("search", -1), None), trials.pop(("final", -1), None)
    all_made = all(is_there for is_there, maker in zip(found, makes, strict=True) if maker)
    return {key for key, whole in trials.items() if whole}, all_made


def test_a_damaged_journal_keeps_its_undamaged_trials(tmp_path, journal, inputs, tally, caplog):
    caplog.set_level(logging.CRITICAL)
    path = tmp_path / "journal.log"
    path.write_bytes(b"".join(journal))
    before = trials_of(path)
    for rng in inputs:
        is_old = rng.random() < 0.2  # without checksums a changed digit passes for another one
        text = damaged([OF_OLD.sub(b"", line) for line in journal] if is_old else journal, rng)
        path.write_bytes(text)
        kept, all_made = undamaged(journal, text)
        try:
            found = trials_of(path)
        except BookendsError as error:
            assert str(error).isprintable()
            assert is_old or not all_made
            tally["refused"] += 1
            continue
        tally["read"] += 1
        if is_old:
            continue
        assert {key: found.get(key) for key in kept} == {key: before[key] for key in kept}
        for key, (state, values, *held) in found.items():
            if state == "COMPLETE":
                assert values == before[key][1]
                assert all(
                    part.items() <= whole.items()
                    for part, whole in zip(held, before[key][2:], strict=True)
                )
    assert tally["read"] > tally.total() // 2
