"""Sweeps whose processes are really killed, and sweeps that are really started together."""

import contextlib
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from benchmarks.serving_bundle import build_recommender
from sweeps.record import SweepRecord
from tests.forked import Forked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
OPTIONS = (
    *("--space", "space.yaml", "--config", "config.yaml"),
    *("--sampler", "random", "--baseline-trials", "0"),
)
LONG = ("--pruner", "none", "--training.num_epochs", "60", "--finalists", "0", "--no-final")
N_TRIALS = 10
PATIENCE = 250
"""Seconds for a command to end, on a machine that has more to do."""


@pytest.fixture
def start(sweep_shop):
    """Starts a sweep in a session of its own; what is left of it is killed in the end."""
    started = []

    def run(*arguments):
        command = ["-m", "experiments", "sweep", *OPTIONS, *LONG, *arguments]
        command += ["--trials", str(N_TRIALS), "--workers", "2", "--name", "mine"]
        process = Forked(*command, cwd=sweep_shop)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


_never_stopped = {}


@pytest.fixture
def whole(open_sweep, work):
    """The same sweep, never stopped: {what was drawn: what came of it}; made once."""
    if _never_stopped:
        return _never_stopped
    options = {"sampler": "random", "pruner": "none", "n_trials": N_TRIALS, "startup_trials": 10}
    session = open_sweep("--training.num_epochs", "60", name="whole", **options)
    work(session)
    trials = session.main.records()
    _never_stopped.update({key_of(trial): trial.values for trial in trials})
    return _never_stopped


def key_of(trial):
    return tuple(sorted(trial.params.items()))


def wait_for(shop, process, is_enough):
    """The record, once there is enough in it."""
    directory = shop / "artifacts" / "sweeps" / "mine"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if (directory / "study.json").exists():
            record = SweepRecord.read(directory)
            if is_enough(record):
                return record
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def some_complete(record):
    return len(record.in_state("complete")) >= 3


def workers_of(shop):
    """The processes that say what they do to the log of a worker of this shop."""
    logs = {str(path) for path in shop.rglob("*worker*.txt")}
    others = psutil.Process().children(recursive=True)
    return [each for each in others if logs & {file.path for file in each.open_files()}]


def check_whole(shop, whole, n_sessions):
    """Every configuration came out once, and the tracker says of every trial how it ended."""
    record = SweepRecord.read(shop / "artifacts" / "sweeps" / "mine")
    complete = record.in_state("complete")
    assert {key_of(trial): trial.values for trial in complete} == whole
    assert len(complete) == N_TRIALS
    assert (record.status, record.sessions) == ("finished", n_sessions)
    client = MlflowClient(f"sqlite:///{shop}/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "bookends"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags.get("bookends.kind") == "sweep"]
    assert [run.info.status for run in parents] == ["FINISHED"]
    children = {int(r.data.tags["optuna.trial"]): r for r in runs if r not in parents}
    wanted = {"complete": "FINISHED", "failed": "FAILED"}
    for trial in record.trials:
        if trial.number in children:
            assert children[trial.number].info.status == wanted[trial.state]
    assert all(trial.number in children for trial in complete)
    assert not [run for run in runs if run.info.status == "RUNNING"]
    return record


def test_a_sweep_outlives_a_worker_that_is_killed(start, sweep_shop, whole):
    process = start()
    wait_for(sweep_shop, process, some_complete)
    os.kill(workers_of(sweep_shop)[0].pid, signal.SIGKILL)
    output = "".join(process.communicate(timeout=PATIENCE))
    assert process.returncode == 0, output
    assert "ended with signal 9" in output
    record = check_whole(sweep_shop, whole, n_sessions=1)
    lost = record.in_state("failed")
    assert {trial.retry_of for trial in record.trials} - {None} == {trial.number for trial in lost}


@pytest.mark.parametrize("with_workers", [True, False])
def test_a_sweep_whose_parent_was_killed_goes_on(start, sweep_shop, whole, with_workers):
    process = start()
    wait_for(sweep_shop, process, some_complete)
    workers = workers_of(sweep_shop)
    process.kill()  # the parent first, so that it mends nothing
    for each in workers if with_workers else ():
        each.kill()
    process.wait()
    again = start()
    output = "".join(again.communicate(timeout=PATIENCE))
    assert again.returncode == 0, output
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
    assert not alive
    record = check_whole(sweep_shop, whole, n_sessions=2)
    assert record.in_state("failed") or not with_workers


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of a Ray cluster, one CPU each; none of its processes outlives it."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    made.add_node(**node)
    yield made
    processes = psutil.Process().children(recursive=True)
    # the server of our forks has Ray's folders on its path
    is_rays = re.compile(r"(?!.*forkserver).*(/ray/|ray::)", re.DOTALL)
    ours = [each for each in processes if is_rays.match(command_of(each))]
    assert len(ours) > 2
    made.shutdown()
    _, alive = psutil.wait_procs(ours, timeout=60)
    assert not alive


def command_of(process):
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def tasks_of(name):
    """The processes that run tasks of this name for Ray."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if f"ray::{name}" in command_of(each)]


def test_lists_over_a_cluster_go_on_after_a_ctrl_c_and_outlive_a_worker(cluster, tmp_path):
    n_users, out = 2000, tmp_path / "recs"
    build_recommender(300, n_users, 8, n_seen=20).save(tmp_path / "model")

    def recommend(*options):
        words = ["-m", "experiments", "recommend", "--model", "model", "--all-users", *options]
        return Forked(*words, cwd=tmp_path)

    def wait_for_parts(process, n_more):
        n_wanted = len(list(out.glob("part-*"))) + n_more
        while process.poll() is None and len(list(out.glob("part-*"))) < n_wanted:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()

    def on_ray():
        address = ("--launcher", "ray", "--ray-address", cluster.address)
        return recommend("--out", "recs", *address, "--shard-size", "50", "--batch-size", "1")

    process = on_ray()
    wait_for_parts(process, 1)
    process.send_signal(signal.SIGINT)
    output = "".join(process.communicate(timeout=PATIENCE))
    assert "recs: the same command writes the rest" in output
    assert process.returncode == 130
    assert not (out / "_SUCCESS").exists()
    again = on_ray()
    wait_for_parts(again, 1)
    while not (tasks := tasks_of("bookends recommend")):  # between two parts
        assert again.poll() is None
    tasks[0].kill()
    output = "".join(again.communicate(timeout=PATIENCE))
    assert again.returncode == 0, output
    assert "other users were there already" in output and (out / "_SUCCESS").exists()
    assert recommend("--out", "recs.parquet").wait(timeout=PATIENCE) == 0
    whole = pd.read_parquet(tmp_path / "recs.parquet")
    assert len(whole) == 10 * n_users
    pd.testing.assert_frame_equal(pd.read_parquet(out), whole)


def test_a_sweep_on_a_cluster_goes_on_after_a_ctrl_c_and_outlives_a_node(
    start, sweep_shop, whole, cluster
):
    on_ray = ("--launcher", "ray", "--ray-address", cluster.address)
    elsewhere = sweep_shop / "elsewhere"
    process = start(*on_ray)
    wait_for(sweep_shop, process, some_complete)
    workers = tasks_of("mine search")
    assert len(workers) == 2
    process.send_signal(signal.SIGINT)
    output = "".join(process.communicate(timeout=PATIENCE))
    assert process.returncode == 130, output
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    interrupted = SweepRecord.read(sweep_shop / "artifacts" / "sweeps" / "mine")
    assert not interrupted.in_state("running")
    again = start(*on_ray, "--ray-cache-dir", str(elsewhere))
    wait_for(sweep_shop, again, lambda record: len(record.in_state("running")) == 2)
    cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
    output = "".join(again.communicate(timeout=PATIENCE))
    assert again.returncode == 0, output
    assert "node it was running on is dead" in output
    record = check_whole(sweep_shop, whole, n_sessions=2)
    assert any(trial.retry_of is not None for trial in record.trials)
    assert len(list(elsewhere.glob("sha256-*"))) == 1


def test_a_sweep_that_was_interrupted_goes_on(start, sweep_shop, whole):
    process = start()
    wait_for(sweep_shop, process, some_complete)
    children = workers_of(sweep_shop)
    process.send_signal(signal.SIGINT)
    output = "".join(process.communicate(timeout=PATIENCE))
    assert process.returncode == 130, output
    assert "the same command goes on" in output
    assert not any(child.is_running() for child in children)
    record = SweepRecord.read(sweep_shop / "artifacts" / "sweeps" / "mine")
    assert record.status == "interrupted"
    again = start()
    assert again.wait(timeout=PATIENCE) == 0
    check_whole(sweep_shop, whole, n_sessions=2)


@pytest.mark.parametrize("names", [("one", "two"), ("same", "same")])
def test_two_sweeps_started_together_on_a_fresh_directory_both_finish(sweep_shop, bookends, names):
    def run(name):
        return bookends(
            "sweep", *OPTIONS, "--trials", "4", "--finalists", "1", "--finalist-seeds", "1",
            "--name", name,
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(run, names))
    for done in both:
        assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        record = SweepRecord.read(sweep_shop / "artifacts" / "sweeps" / name)
        assert record.status == "finished" and len(record.in_state("complete")) >= 1
        assert len([t for t in record.trials if t.state != "failed"]) == 4
        assert len(record.test_looks) == 2  # the finalists, and the winner in full
    client = MlflowClient(f"sqlite:///{sweep_shop}/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "bookends"]
    parents = [
        run.info.run_name
        for run in client.search_runs([experiment.experiment_id])
        if run.data.tags.get("bookends.kind") == "sweep"
    ]
    assert sorted(parents) == sorted(set(names))
