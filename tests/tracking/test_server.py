"""A tracking server that goes away in the middle of a training, and comes back."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from tracking.mirror import mirror
from tracking.store import connect
from tracking.tracker import open_run


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_up(uri):
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=1) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def serving(port, directory, store):
    """A real server, in a process group of its own that is ended with it."""
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--backend-store-uri", store]
    command += ["--artifacts-destination", str(directory / "artifacts")]
    environ = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (directory / "server.log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 90
        while not is_up(uri):
            assert process.poll() is None, (directory / "server.log").read_text()
            assert time.monotonic() < deadline, (directory / "server.log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_of_a_run_gets_all_of_it_later(
    run_dir, store, tmp_path, epochs, finish, bundle, contents, caplog
):
    port = free_port()
    with serving(port, tmp_path, store) as uri:
        tracked = open_run(run_dir, uri)
        tracked.log_epoch(epochs[0])
        assert tracked.is_live
    begun = time.monotonic()
    tracked.log_epoch(epochs[1])
    tracked.log_epoch(epochs[2])
    finish(run_dir)
    bundle.save(run_dir / "model")
    assert tracked.close() is None
    assert time.monotonic() - begun < 30
    assert "bookends track" in caplog.text
    with serving(port, tmp_path, store) as uri:
        sent = mirror(run_dir)
        assert sent.run_id == tracked.run_id
        client = connect(uri)
        before = contents(client, sent.run_id)
        assert mirror(run_dir) == sent
        assert contents(client, sent.run_id) == before
    assert [step for step, *_ in before["points"]["train/loss"]] == [1, 2, 3]
    assert before["points"]["test/novelty_at_10"][0][2] == "nan"
    assert before["status"] == "FINISHED"
    assert before["tags"]["bookends.status"] == "finished"
    assert len(before["files"]) == 9
    assert before["models"] == [sent.model_id]
