"""Versions, the champion's alias and what is noted of it, in a real store."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException

from recsys.errors import ConfigError, TrackingError
from recsys.evaluation.gate import Criterion, Verdict
from tracking.champions import moves_in
from tracking.registry import ChampionChangedError, Registry
from tracking.registry_page import Candidate
from tracking.store import connect, ensure_experiment

LARGE = Criterion("bytes", "size of the bundle", "at most 1 B", "2 B", False)
PASSED = Verdict((dataclasses.replace(LARGE, found="1 B", passed=True),))
REFUSED = Verdict((LARGE,))


@pytest.fixture
def registry(client, store):
    return Registry(store)


@pytest.fixture
def new_run(client):
    """Makes a run with a model that nothing is kept of but its name."""
    return lambda **options: make_run(client, **options)


def make_run(client, *, with_model=True):
    experiment_id = ensure_experiment(client, "bookends")
    run_id = client.create_run(experiment_id).info.run_id
    if with_model:
        add_model(client, experiment_id, run_id)
    return run_id


def add_model(client, experiment_id, run_id):
    model = client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model.model_id


@pytest.fixture
def candidate(new_run, registry, finished_record):
    """A candidate for the place of the present champion."""

    def build(verdict=PASSED, run_id=None, **values):
        champion = registry.champion()
        against = None if champion is None else int(champion.version)
        values = {"against": against} | values
        return Candidate(run_id or new_run(), finished_record, verdict, **values)

    return build


@pytest.fixture
def promote(registry, candidate):
    """Makes so many champions, one after another."""

    def build(count):
        return [registry.register(candidate()).version for _ in range(count)]

    return build


def alias_of(client):
    return int(client.get_model_version_by_alias("bookends", "champion").version)


def test_the_first_that_passes_becomes_champion_also_by_a_user_without_a_name(
    registry, candidate, monkeypatch, client
):
    def fail():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", fail)
    done = registry.register(candidate())
    assert (done.version, done.is_new, done.has_moved, done.champion) == (1, True, True, 1)
    assert alias_of(client) == 1


def test_one_that_is_refused_is_registered_and_the_champion_stays(registry, candidate, client):
    assert registry.register(candidate(REFUSED)).champion is None
    assert registry.champion() is None
    registry.register(candidate())
    done = registry.register(candidate(REFUSED))
    assert (done.version, done.has_moved, done.champion) == (3, False, 2)
    assert alias_of(client) == 2


def test_the_version_loads_what_the_run_logged_and_the_models_page_names_it(
    registry, candidate, client
):
    made = candidate()
    registry.register(made)
    (output,) = client.get_run(made.run_id).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert client.get_model_version_download_uri("bookends", "1") == model.artifact_location
    assert client.get_model_version("bookends", "1").run_id == made.run_id
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "bookends", "version": 1}]


def test_a_version_says_where_it_comes_from_and_what_the_gate_said(registry, candidate, client):
    first = candidate()
    registry.register(first)
    tags = client.get_model_version("bookends", "1").tags
    details = json.loads(tags.pop("bookends.details"))
    assert tags == {
        "bookends.run_name": "sample-adaptive_mimic-1",
        "bookends.dataset": "sha256:0123456789abcdef01234567",
        "bookends.test/ndcg_at_10": "0.3",
        "bookends.popularity/ndcg_at_10": "0.1",
        "bookends.gate": "passed",
        "bookends.reason": "all criteria hold against the popularity baseline",
        "bookends.previous_champion": "none",
    }
    assert (details["run_id"], details["held_against"]) == (first.run_id, None)
    assert details["criteria"] == {
        "bytes": {"passed": True, "required": "at most 1 B", "found": "1 B"}
    }
    registry.register(candidate(REFUSED))
    version = client.get_model_version("bookends", "2")
    assert version.tags["bookends.gate"] == "failed"
    reason = "against version 1: failed size of the bundle (2 B)"
    assert version.tags["bookends.reason"] == reason
    assert "bookends.previous_champion" not in version.tags
    assert version.description.startswith("Did not pass the gate against version 1: failed size")
    assert "| size of the bundle | at most 1 B | 2 B | failed |" in version.description
    registry.register(candidate())
    assert client.get_model_version("bookends", "3").tags["bookends.previous_champion"] == "1"


def test_a_description_fits_its_column_whatever_the_run_says(registry, candidate, client):
    long = dataclasses.replace(candidate().record, run_name="a" * 6000, error="b" * 6000)
    registry.register(dataclasses.replace(candidate(), record=long))
    assert len(client.get_model_version("bookends", "1").description) <= 5000


def test_a_run_registered_again_makes_no_second_version_and_its_old_verdict_is_gone(
    registry, candidate, client
):
    first = candidate(REFUSED)
    registry.register(first)
    other = Verdict((dataclasses.replace(LARGE, key="latency"),))
    registry.register(candidate(other, run_id=first.run_id))
    tags = client.get_model_version("bookends", "1").tags
    assert set(json.loads(tags["bookends.details"])["criteria"]) == {"latency"}
    again = registry.register(candidate(run_id=first.run_id))
    assert (again.version, again.is_new, again.has_moved) == (1, False, True)
    version = client.get_model_version("bookends", "1")
    assert version.tags["bookends.gate"] == "passed"
    assert version.description.startswith("Passed")


def test_a_run_that_is_champion_stays_so_whatever_is_asked(registry, candidate, client):
    first = candidate()
    registry.register(first)
    before = client.get_model_version("bookends", "1").tags
    done = registry.register(candidate(REFUSED, run_id=first.run_id))
    assert (done.version, done.has_moved, done.champion) == (1, False, 1)
    assert client.get_model_version("bookends", "1").tags == before


def test_a_run_whose_model_was_made_anew_gets_a_version_of_its_own(registry, candidate, client):
    first = candidate()
    registry.register(first)
    add_model(client, client.get_run(first.run_id).info.experiment_id, first.run_id)
    assert registry.version_of(first.run_id) is None
    assert registry.register(candidate(run_id=first.run_id)).version == 2


def test_force_that_was_not_needed_went_through_the_gate(registry, candidate, client):
    registry.register(candidate(reason="to be sure"))
    tags = client.get_model_version("bookends", "1").tags
    assert tags["bookends.gate"] == "passed"
    assert json.loads(tags["bookends.details"])["force_reason"] == "to be sure"
    assert moves_in(client.get_registered_model("bookends").tags)[-1].way == "gate"


def race(uri, rivals):
    """Versions that became champion, of rivals that register at the same time."""

    def attempt(rival):
        try:
            return Registry(uri).register(rival).version
        except ChampionChangedError:
            return None

    with ThreadPoolExecutor(len(rivals)) as pool:
        return [version for version in pool.map(attempt, rivals) if version is not None]


def test_of_many_that_beat_the_same_champion_one_takes_its_place(
    registry, candidate, client, store
):
    registry.register(candidate())
    assert race(store, [candidate() for _ in range(6)]) == [2]
    assert (
        len(client.search_model_versions("name = 'bookends'")) == 2
    )  # the late ones wrote nothing
    assert alias_of(client) == 2
    moves = moves_in(client.get_registered_model("bookends").tags)
    assert [move.version for move in moves] == [1, 2]


def test_a_run_registered_by_many_at_once_makes_one_version(registry, candidate, client, store):
    rival = candidate(REFUSED)
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: Registry(store).register(rival), range(6)))
    assert [one.version for one in done] == [1] * 6
    assert sum(one.is_new for one in done) == 1


def test_rollbacks_walk_back_and_are_recorded(registry, promote, client):
    promote(3)
    moves = [registry.roll_back(), registry.roll_back(reason="complaints")]
    assert [(move.previous, move.version) for move in moves] == [(3, 2), (2, 1)]
    assert alias_of(client) == 1
    model = client.get_registered_model("bookends")
    assert [move.way for move in moves_in(model.tags)] == ["gate"] * 3 + ["rollback"] * 2
    assert moves_in(model.tags)[-1].reason == "complaints"
    with pytest.raises(TrackingError, match="version 1 is the first"):
        registry.roll_back()
    registry.roll_back(to=3)
    assert alias_of(client) == 3


def test_a_rollback_to_a_deleted_version_leaves_all_as_it_is(registry, promote, client):
    promote(2)
    client.delete_model_version("bookends", "1")
    before = client.get_registered_model("bookends").tags
    with pytest.raises(TrackingError, match="version 1, must exist, but was deleted"):
        registry.roll_back()
    assert alias_of(client) == 2
    assert client.get_registered_model("bookends").tags == before


def test_a_champion_that_was_deleted_can_be_rolled_back_from(registry, promote, client):
    promote(2)
    client.delete_model_version("bookends", "2")
    assert registry.champion() is None
    registry.roll_back()
    assert alias_of(client) == 1


def test_there_is_nothing_to_roll_back_in_an_empty_registry(registry):
    with pytest.raises(TrackingError, match="'bookends': must exist to be rolled back"):
        registry.roll_back()


def test_a_promotion_killed_before_it_was_noted_can_be_rolled_back(
    registry, promote, candidate, client, monkeypatch
):
    promote(2)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "_note", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.register(candidate())
    assert alias_of(client) == 3
    monkeypatch.undo()
    assert registry.roll_back().version == 2


def test_the_models_page_tells_who_was_champion_when_below_what_a_user_wrote(
    registry, promote, client
):
    promote(1)
    present = client.get_registered_model("bookends").description
    assert "`models:/bookends@champion`" in present
    client.update_registered_model("bookends", "Ask Ada first.\n\n" + present)
    promote(1)
    registry.roll_back(reason="too bold")
    description = client.get_registered_model("bookends").description
    assert description.startswith("Ask Ada first.")
    assert description.count("### Champions") == 1
    rows = [row for row in description.splitlines() if "version" in row and row.startswith("|")]
    assert [row.split(" | ")[1] for row in rows] == ["version 1", "version 2", "version 1"]
    assert "rolled back" in rows[0] and "too bold" in rows[0]


def test_a_run_that_is_not_there_or_has_no_model_cannot_be_registered(
    registry, new_run, candidate, client
):
    with pytest.raises(TrackingError, match="must hold a model"):
        registry.register(candidate(run_id=new_run(with_model=False)))
    with pytest.raises(TrackingError, match="is not there"):
        registry.register(candidate(run_id="0" * 32))
    assert client.search_registered_models() == []


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a'b", "a" * 201])
def test_a_name_that_mlflow_would_refuse_is_refused(store, name):
    with pytest.raises(ConfigError, match="the name of a registered model"):
        Registry(store, name)


def test_a_store_that_fails_is_told_in_one_line(registry, candidate, monkeypatch):
    made = candidate()

    def refuse(*_, **__):
        raise MlflowException("disk full\nand a long trace")

    monkeypatch.setattr(registry._client, "create_registered_model", refuse)
    with pytest.raises(TrackingError, match=r"could not take up run .*\(disk full\)$"):
        registry.register(made)


@pytest.mark.slow
def test_a_registry_in_postgresql_is_the_same(postgres, finished_record):
    """Two registrations and a rollback, then two that beat the same champion at once."""
    uri = postgres("registry")
    client = connect(uri)
    registry = Registry(uri)
    runs = [make_run(client) for _ in range(4)]
    registry.register(Candidate(runs[0], finished_record, PASSED, None))
    registry.register(Candidate(runs[1], finished_record, PASSED, 1))
    assert alias_of(client) == 2
    assert registry.roll_back().version == alias_of(client) == 1
    assert race(uri, [Candidate(run, finished_record, PASSED, 1) for run in runs[2:]]) == [3]
    assert alias_of(client) == 3
    moves = moves_in(client.get_registered_model("bookends").tags)
    assert [(move.version, move.previous) for move in moves] == [(1, None), (2, 1), (1, 2), (3, 1)]
    assert [model.name for model in client.search_registered_models()] == ["bookends"]


def test_the_baseline_that_the_first_champion_was_held_against_is_named(finished_record):
    row = dataclasses.replace(LARGE, key="better", name="better than content_knn")
    for rows, wanted in (([row, LARGE], "ContentKNN"), ([LARGE], "popularity")):
        held = Candidate("run", finished_record, Verdict(tuple(rows)), None)
        assert held.opponent == f"the {wanted} baseline"
