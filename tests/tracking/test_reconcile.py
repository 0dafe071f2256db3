"""Runs that nobody runs any more."""

import time
from datetime import timedelta

import pytest

from recsys.errors import TrackingError
from tracking.processes import Owner
from tracking.reconcile import reconcile
from tracking.tracker import open_run

ELSEWHERE = Owner("another-host", "boot", 1, "1")


def make_run(client, owner, age=timedelta(0)):
    """A run that is RUNNING, begun so long ago, by the given process (None: by none of ours)."""
    start = int((time.time() - age.total_seconds()) * 1000)
    run = client.create_run("0", start_time=start, tags=owner.to_tags() if owner else {})
    return run.info.run_id


def judged(*arguments, **options):
    """Of each run that does not live, whether it was ended."""
    return {run.run_id: run.is_ended for run in reconcile(*arguments, **options)}


def test_a_run_that_lives_is_neither_ended_nor_listed(run_dir, store):
    open_run(run_dir, store)
    assert judged(store) == {}


@pytest.mark.parametrize("change", [{"process_start": "1"}, {"pid": 2**22 + 1}])
def test_a_process_number_used_again_is_not_the_process(store, client, change):
    run_id = make_run(client, Owner(**(vars(Owner.current()) | change)))
    assert judged(store) == {run_id: True}
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["bookends.status"]) == ("FAILED", "killed")
    assert "is gone" in run.data.tags["bookends.reason"]
    assert judged(store) == {}


def test_a_run_of_another_host_is_ended_only_when_older_than_asked(store, client):
    old = make_run(client, ELSEWHERE, timedelta(days=3))
    young = make_run(client, ELSEWHERE, timedelta(days=1))
    assert judged(store) == {old: False, young: False}
    assert client.get_run(old).info.status == "RUNNING"
    assert judged(store, older_than=timedelta(days=2)) == {old: True, young: False}


def test_a_run_that_no_process_took_up_is_ended_on_request_and_else_listed(store, client):
    run_id = make_run(client, None, timedelta(days=1))
    (left,) = reconcile(store, older_than=timedelta(hours=1))
    assert (left.run_id, left.reason, left.is_ended) == (run_id, "no process took it up", False)
    assert judged(store, include_foreign=True, older_than=timedelta(days=2)) == {run_id: False}
    assert judged(store, include_foreign=True) == {run_id: True}


def test_ended_runs_are_not_touched(store, client):
    run_id = make_run(client, Owner("x", "y", 1, "z"))
    client.set_terminated(run_id, "FINISHED")
    assert judged(store, include_foreign=True) == {}


def test_only_the_named_experiment_is_searched(store, client):
    make_run(client, None)
    client.create_experiment("shelf")
    assert judged(store, "shelf") == {}
    with pytest.raises(TrackingError, match="experiment 'none': must be in"):
        reconcile(store, "none")
