"""Runs that nobody runs any more."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from recsys.errors import TrackingError
from tracking.processes import Owner
from tracking.reconcile import reconcile
from tracking.tracker import open_run

ROOT = Path(__file__).parents[2]
TRAIN = """
import sys, time
from pathlib import Path
from tracking.tracker import open_run
print(open_run(Path(sys.argv[1]), sys.argv[2]).run_id, flush=True)
time.sleep(600)
"""


def make_run(client, owner, age=timedelta(0)):
    """A run that is RUNNING, begun so long ago, by the given process (None: by none of ours)."""
    start = int((time.time() - age.total_seconds()) * 1000)
    run = client.create_run("0", start_time=start, tags=owner.to_tags() if owner else {})
    return run.info.run_id


ELSEWHERE = Owner("another-host", "boot", 1, "1")


@pytest.mark.slow
def test_a_run_killed_by_the_system_becomes_failed(run_dir, store, client):
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(run_dir), store],
        stdout=subprocess.PIPE,
        text=True,
    )
    run_id = process.stdout.readline().strip()
    assert reconcile(store).mended == ()
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet reaped
    assert [run.run_id for run in reconcile(store).mended] == [run_id]
    process.wait()
    process.stdout.close()
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["bookends.status"]) == ("FAILED", "killed")
    assert f"process {process.pid}" in run.data.tags["bookends.reason"]
    assert reconcile(store).mended == ()


def test_a_run_that_lives_is_neither_mended_nor_listed(run_dir, store):
    open_run(run_dir, store)
    found = reconcile(store)
    assert (found.mended, found.left) == ((), ())


@pytest.mark.parametrize("change", [{"process_start": "1"}, {"pid": 2**22 + 1}])
def test_a_process_number_used_again_is_not_the_process(store, client, change):
    owner = Owner(**(vars(Owner.current()) | change))
    run_id = make_run(client, owner)
    assert [run.run_id for run in reconcile(store).mended] == [run_id]


def test_a_run_of_another_host_is_ended_only_when_older_than_asked(store, client):
    old = make_run(client, ELSEWHERE, timedelta(days=3))
    young = make_run(client, ELSEWHERE, timedelta(days=1))
    found = reconcile(store)
    assert found.mended == () and {run.run_id for run in found.left} == {old, young}
    assert client.get_run(old).info.status == "RUNNING"
    found = reconcile(store, older_than=timedelta(days=2))
    assert [run.run_id for run in found.mended] == [old]
    assert [run.run_id for run in found.left] == [young]


def test_a_run_that_no_process_took_up_is_ended_on_request_and_else_listed(store, client):
    run_id = make_run(client, None, timedelta(days=1))
    found = reconcile(store, older_than=timedelta(hours=1))
    assert found.mended == ()
    assert [(run.run_id, run.reason) for run in found.left] == [(run_id, "no process took it up")]
    young = reconcile(store, include_foreign=True, older_than=timedelta(days=2))
    assert young.mended == ()
    assert [run.run_id for run in reconcile(store, include_foreign=True).mended] == [run_id]


def test_ended_runs_are_not_touched(store, client):
    run_id = make_run(client, Owner("x", "y", 1, "z"))
    client.set_terminated(run_id, "FINISHED")
    found = reconcile(store, include_foreign=True)
    assert (found.mended, found.left) == ((), ())


def test_only_the_named_experiment_is_searched(store, client):
    make_run(client, None)
    client.create_experiment("shelf")
    assert reconcile(store, "shelf").left == ()
    with pytest.raises(TrackingError, match="experiment 'none': must be in"):
        reconcile(store, "none")
