"""A sweep on two hosts against one of the same cores, and with one host cut off in the middle.

    python -m benchmarks.two_hosts --trials 20

The hosts are network namespaces of Linux (so this needs root, `ip` and PostgreSQL) that reach each
other over one link and have a working directory each: no file is shared but the input. PostgreSQL
and the parent are on the first; a worker is on each, or both on the first. Prints trials an hour
while both workers run, and what became of each configuration when
the link went down: the second host's trial is silent for two minutes, and is run again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sweeps.record import SweepRecord

FIRST, SECOND = "10.77.41.1", "10.77.41.2"
PORT = 54377
SPACE = Path(__file__).parents[1] / "sweeps" / "spaces" / "quick.yaml"
SAMPLE = Path(__file__).parents[1] / "data" / "sample"


@dataclass(frozen=True)
class Host:
    """A network namespace and a working directory."""

    name: str
    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        """Run a command there."""
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "BOOKENDS_STORAGE": _storage("sweeps")}
        with (self.folder / "logs" / log).open("wb") as out:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=out,
            )
        self.running.append(process)
        return process


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with _hosts() as (first, second):
        for number in range(given.rounds):
            for name, hosts in (("one", [first, first]), ("two", [first, second])):
                record = _sweep(f"{name}-{number}", hosts, given)
                print(f"{name} host, 2 workers: {_said(record)}", flush=True)
        record = _sweep("cut", [first, second], given, cut=True)
        print(f"two hosts, one cut off: {_said(record)}", flush=True)
        _check(record, given.trials)


def _sweep(
    name: str, hosts: list[Host], given: argparse.Namespace, *, cut: bool = False
) -> SweepRecord:
    """One sweep: the parent and its worker on the first host, a worker on the second."""
    settings = [
        f"--data.books_path={SAMPLE / 'books.csv'}",
        f"--data.interactions_path={SAMPLE / 'users.csv'}",
    ]
    n_of_parent = sum(host is hosts[0] for host in hosts)
    python = (sys.executable, "-m", "experiments", "sweep")
    parent = hosts[0].start(
        *python,
        *("--name", name, "--space", str(SPACE), "--trials", str(given.trials)),
        *("--workers", str(n_of_parent), "--finalists", "0", "--no-final", "--no-stop"),
        *("--baseline-trials", "0", "--pruner", "none", "--experiment.tracking=false"),
        *(f"--training.num_epochs={given.epochs}", "--training.early_stopping.patience=null"),
        *settings,
        log=f"{name}.parent",
    )
    record_path = hosts[0].folder / "artifacts" / "sweeps" / name
    if n_of_parent < len(hosts):
        _wait((record_path / "study.json").is_file, parent)
        worker = hosts[1].start(*python, "worker", "--study", name, *settings, log=f"{name}.worker")
        if cut:
            _wait(lambda: _ran_on_second(record_path) >= 3, parent)
            _ip("link", "set", "bk-2", "down", host=hosts[1].name)
    if parent.wait() != 0:
        raise RuntimeError((hosts[0].folder / "logs" / f"{name}.parent").read_text()[-2000:])
    if cut:
        _ip("link", "set", "bk-2", "up", host=hosts[1].name)
        worker.kill()
    return SweepRecord.read(record_path)


def _ran_on_second(path: Path) -> int:
    return sum(
        trial.worker != "worker-0" for trial in SweepRecord.read(path).trials if trial.values
    )


def _said(record: SweepRecord) -> str:
    """How fast while all workers were at it, and by whom."""
    ended = [trial for trial in record.trials if trial.state == "complete"]
    spans: dict[str, list[tuple[datetime, datetime]]] = {}
    for trial in ended:
        assert trial.started is not None and trial.ended is not None
        span = datetime.fromisoformat(trial.started), datetime.fromisoformat(trial.ended)
        spans.setdefault(str(trial.worker), []).append(span)
    begin = max(each[0][0] for each in spans.values())
    end = min(each[-1][1] for each in spans.values())
    whole = sum(begin <= start and stop <= end for each in spans.values() for start, stop in each)
    seconds = (end - begin).total_seconds()
    by = ", ".join(f"{len(each)} by {worker}" for worker, each in spans.items())
    return (
        f"{len(ended)} trials ({by}); {whole} in the {seconds:.1f} s that all workers ran: "
        f"{3600 * whole / seconds:,.0f} an hour"
    )


def _check(record: SweepRecord, n_trials: int) -> None:
    """Each configuration ended once; the one that was lost, under another number."""
    ended = [trial for trial in record.trials if trial.state == "complete"]
    drawn = Counter(tuple(sorted(trial.params.items())) for trial in ended)
    lost = [trial.number for trial in record.trials if trial.state == "failed"]
    again = {trial.retry_of: trial.number for trial in ended if trial.retry_of is not None}
    print(f"lost {lost}, run again as {[again[number] for number in lost]}")
    if len(ended) != n_trials or max(drawn.values()) != 1 or {*lost} != {*again}:
        raise RuntimeError(f"a trial was lost or repeated: {len(ended)} ended, {drawn}")


@contextmanager
def _hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts with a link between them, PostgreSQL on the first."""
    folder = Path(tempfile.mkdtemp(prefix="bookends-hosts-"))
    folder.chmod(0o755)
    hosts = Host("bookends-1", folder / "1"), Host("bookends-2", folder / "2")
    with ExitStack() as ends:
        ends.callback(shutil.rmtree, folder, ignore_errors=True)
        for host in hosts:
            host.folder.mkdir()
            _ip("netns", "add", host.name)
            ends.callback(_ip, "netns", "del", host.name)
        _ip(
            "link",
            "add",
            "bk-1",
            "netns",
            hosts[0].name,
            "type",
            "veth",
            "peer",
            "name",
            "bk-2",
            "netns",
            hosts[1].name,
        )
        for host, link, address in zip(hosts, ("bk-1", "bk-2"), (FIRST, SECOND), strict=True):
            _ip("address", "add", f"{address}/24", "dev", link, host=host.name)
            for name in ("lo", link):
                _ip("link", "set", name, "up", host=host.name)
        ends.callback(_end_all, hosts)
        ends.enter_context(_postgres(hosts[0]))
        yield hosts


def _end_all(hosts: tuple[Host, Host]) -> None:
    for process in (process for host in hosts for process in host.running):
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def _postgres(host: Host) -> Iterator[None]:
    """A server that the link reaches, with a database for studies."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not installed:
        raise RuntimeError("PostgreSQL must be installed")
    home = Path(tempfile.mkdtemp(prefix="bookends-postgres-"))
    shutil.chown(home, "postgres", "postgres")

    def run(program: str, *arguments: str) -> None:
        path = installed[-1].with_name(program)
        command = ["ip", "netns", "exec", host.name, "runuser", "-u", "postgres", "--", str(path)]
        subprocess.run([*command, *arguments], check=True, cwd=home, stdout=subprocess.DEVNULL)

    data = str(home / "data")
    try:
        run("initdb", "-D", data, "-U", "postgres", "-A", "trust")
        with (home / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.77.41.0/24 trust\n")
        options = f"-p {PORT} -c listen_addresses={FIRST} -k {home}"
        run("pg_ctl", "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
        run("createdb", "-h", FIRST, "-p", str(PORT), "-U", "postgres", "sweeps")
        yield
    finally:
        with suppress(subprocess.CalledProcessError):
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


def _storage(database: str) -> str:
    return f"postgresql://postgres@{FIRST}:{PORT}/{database}"


def _ip(*words: str, host: str | None = None) -> None:
    inside = [] if host is None else ["-n", host]
    subprocess.run(["ip", *inside, *words], check=True)


def _wait(is_there: Callable[[], bool], parent: subprocess.Popen[bytes]) -> None:
    while not is_there():
        if parent.poll() is not None:
            raise RuntimeError("the parent ended before")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
