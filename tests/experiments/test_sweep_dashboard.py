"""Optuna's own dashboard on the study of a sweep, as docs/sweeps.md shows it."""

import json
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def dashboard():
    """Starts it on a storage; gives what it answers for a path."""
    started = []

    def start(storage):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()"]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), str(storage)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)

        def ask(path):
            deadline = time.monotonic() + 120
            while True:
                try:
                    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                        return json.load(answer)
                except URLError:
                    assert time.monotonic() < deadline and process.poll() is None
                    time.sleep(0.2)

        return ask

    yield start
    for process in started:
        process.terminate()
        process.wait()


def test_the_dashboard_lists_the_trials_of_a_sweep(open_sweep, work, dashboard):
    session = open_sweep(n_trials=4, name="seen")
    work(session)
    before = session.directory.journal_path.read_bytes()
    ask = dashboard(session.directory.journal_path)
    (study,) = ask("/api/studies")["study_summaries"]
    assert study["study_name"] == "seen"
    trials = ask(f"/api/studies/{study['study_id']}?after=0")["trials"]
    ours = session.main.records()
    assert [trial["number"] for trial in trials] == [trial.number for trial in ours]
    assert [trial["state"].lower() for trial in trials] == [trial.state for trial in ours]
    values = [trial["values"][0] for trial in trials if trial["state"] == "Complete"]
    assert values == [trial.values[0] for trial in ours if trial.values is not None]
    assert session.directory.journal_path.read_bytes() == before  # looking changes nothing
