"""Workers that share nothing with their parent but the network; none of it needs a cluster."""

import contextlib
import dataclasses
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pandas as pd
import pytest

from experiments.launcher import Launcher, thread_variables
from experiments.signals import Interrupted
from experiments.sweep import delivery
from experiments.sweep.console import SweepConsole
from experiments.sweep.finish import train_on_seeds
from experiments.sweep.parent import launching, sweep
from experiments.sweep.pool import life_of
from experiments.sweep.remote import Remote, put_file, served, whole_paths, work
from experiments.sweep.request import SweepRequest, read_settings
from experiments.sweep.shipping import receive, ship
from experiments.sweep.stage import requeue_lost
from experiments.sweep.state import Assignment
from recsys.config import DataConfig
from recsys.data.dataset import cache_path
from recsys.errors import ArtifactError, ConfigError, TrackingError
from sweeps.record import SweepRecord
from tracking.processes import Owner
from tracking.sweep import SweepRun

NOWHERE = {"books_path": "/nowhere/books.csv", "interactions_path": "/nowhere/users.csv"}


@pytest.fixture
def arrived():
    """Where each worker said that it is."""
    return {}


@pytest.fixture
def serve(arrived):
    """Serves a session's study and its finalists' folder; gives the address, and ends it."""
    with contextlib.ExitStack() as stack:

        def start(session):
            files = session.directory.finalists_dir
            serving = served(session.storage.backend, files, "127.0.0.1", 1, arrived)
            return f"127.0.0.1:{stack.enter_context(serving)}", stack.close

        yield start


@pytest.fixture
def far_away(tmp_path):
    """Runs a stage of a sweep as a worker without the files of the data and of the sweep does."""

    def run(session, address, stage="search", get=lambda part: part, storage=""):
        data = ship(cache_path(session.base.data, session.prepared.fingerprint), lambda a: a)
        remote = Remote(
            launch="one",
            parent=Owner.current(),
            address=address,
            data=data,
            changes={"data": NOWHERE | {"cache_dir": str(tmp_path / "far")}},
            tracking_uri=None,
        )
        work(Assignment(session.directory.name, storage, stage), remote, get, "node-7")

    return run


def test_a_worker_far_away_runs_the_same_trials(
    open_sweep, serve, far_away, work, outcome, arrived
):
    """It has neither the files of the data nor the sweep's directory."""
    near = open_sweep(name="near", n_trials=3)
    work(near)
    far = open_sweep(name="far", n_trials=3)
    far_away(far, serve(far)[0])
    assert outcome(far) == outcome(near)
    assert {trial.worker for trial in far.main.records()} == {"worker-0"}
    assert arrived == {"one": "node-7"}


def test_a_study_in_a_database_is_reached_there(open_sweep, serve, far_away, tmp_path):
    session = open_sweep(n_trials=2, storage=f"sqlite:///{tmp_path}/study.db")
    other = open_sweep(n_trials=2)  # what is served
    far_away(session, serve(other)[0], storage=session.storage.url)
    assert [trial.state for trial in session.main.records()] == ["complete"] * 2


def test_a_finalists_files_come_back(open_sweep, serve, far_away, monkeypatch):
    near, far = open_sweep(name="near"), open_sweep(name="far")
    settings = {3: {"training.learning_rate": 0.03}}
    address, _ = serve(far)
    train_on_seeds(near, settings, [1], "")
    run_stage = "experiments.sweep.finish.run_stage"
    monkeypatch.setattr(run_stage, lambda of, stage, _title: far_away(of, address, stage))
    train_on_seeds(far, settings, [1], "")
    found = [pd.read_parquet(each.directory.per_user_path(3, 1)) for each in (near, far)]
    pd.testing.assert_frame_equal(*found)
    one, other = [np.load(each.directory.vectors_path(3, 1)) for each in (near, far)]
    assert one.files == other.files
    assert all(np.array_equal(one[name], other[name]) for name in one.files)


def test_no_file_but_a_finalists_is_taken(open_sweep, serve, tmp_path):
    session = open_sweep()
    address, _ = serve(session)
    path = tmp_path / "best.yaml"
    path.write_text("mine")
    with pytest.raises(grpc.RpcError, match=r"no finalist's file: 'best\.yaml'"):
        put_file(address, path)
    assert not session.directory.best_path.exists()


def test_a_worker_whose_parent_is_gone_says_so(open_sweep, serve, far_away, monkeypatch):
    session = open_sweep()
    address, end = serve(session)

    def get(part):
        end()  # while the data are on their way
        return part

    with pytest.raises(TrackingError, match=f"parent at {address} no longer answers"):
        far_away(session, address, get=get)
    monkeypatch.setattr("experiments.sweep.remote.ANSWER_SECONDS", 0.1)
    with pytest.raises(ConfigError, match="but does not answer; '--ray-listen' names another"):
        far_away(session, address)


def test_a_trial_of_a_worker_that_no_longer_runs_is_run_again(open_sweep):
    session = open_sweep()
    trial = session.main.next_trial()
    launch = {"name": "one", "parent": dataclasses.asdict(Owner.current())}
    session.main.begin(trial, {"worker": "worker-0", "launch": launch})
    requeue_lost(session, session.main, running={"one"})
    assert session.main.trials()[0].state.name == "RUNNING"
    requeue_lost(session, session.main, running={"two"})
    assert session.main.trials()[0].state.name == "FAIL"
    assert [trial.user_attrs.get("retry_of") for trial in session.main.trials()][-1] == 0


def test_a_worker_lives_no_longer_than_its_parent():
    gone = dataclasses.replace(Owner.current(), process_start="0")
    other = dataclasses.replace(Owner.current(), host="another")
    notes = [
        {"launch": {"name": "one", "parent": dataclasses.asdict(each)}} for each in (gone, other)
    ]
    assert [life_of(note, {"one"}) for note in notes] == ["dead", "elsewhere"]
    assert life_of({}) is None


def test_data_arrive_once_and_whole(tmp_path, board_prepared):
    source, target = tmp_path / "source", tmp_path / "there" / "target"
    board_prepared.save(source)
    taken = []
    files = ship(source, lambda part: part.copy())
    for _ in range(2):
        receive(target, files, lambda part: taken.append(part) or part)
    assert len(taken) == sum(len(file.parts) for file in files) > 0
    names = sorted(path.name for path in source.iterdir())
    assert [path.name for path in sorted(target.iterdir())] == names
    assert all((source / n).read_bytes() == (target / n).read_bytes() for n in names)
    (target / "values.json").write_text("{}")  # damaged: fetched anew
    receive(target, files, lambda part: part)
    assert (source / "values.json").read_bytes() == (target / "values.json").read_bytes()


def test_data_that_are_there_need_no_place_to_write_to(tmp_path, board_prepared):
    board_prepared.save(tmp_path / "source")
    files = ship(tmp_path / "source", lambda part: part.copy())
    board_prepared.save(tmp_path / "target")
    (tmp_path / ".target.lock").mkdir()  # no lock can be had, as on a disk that is read-only
    receive(tmp_path / "target", files, lambda part: pytest.fail("it was fetched"))
    shutil.rmtree(tmp_path / "target")
    with pytest.raises(ArtifactError, match="must be writable"):
        receive(tmp_path / "target", files, lambda part: part)


def test_data_that_changed_on_their_way_are_refused(tmp_path, board_prepared):
    board_prepared.save(tmp_path / "source")
    files = ship(tmp_path / "source", lambda part: part.copy())
    with pytest.raises(ArtifactError, match="must have the digest"):
        receive(tmp_path / "target", files, lambda part: part ^ 1)
    assert not (tmp_path / "target").exists()


def test_a_space_that_varies_the_data_needs_its_files_everywhere(open_sweep, serve, far_away):
    space = {"data.feature_params.category_top_k": {"choice": [1, 2]}}
    session = open_sweep(space=space, n_trials=3, sampler="grid")
    with pytest.raises(ArtifactError, match=r"/nowhere/books\.csv: .* must have this file"):
        far_away(session, serve(session)[0])
    states = [trial.state for trial in session.main.records()]
    assert states == ["complete", "failed"]  # the default needs the study's data alone
    assert session.main.n_free() > 0  # the other one waits for a machine that has the file


# Data with the tracker -----------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path):
    """What a worker is given on a machine that has none of the data."""
    return {"data": NOWHERE | {"cache_dir": str(tmp_path / "elsewhere")}}


@pytest.fixture
def kept_data():
    """The prepared data that a sweep's run holds in the tracker."""

    def find(session):
        run = session.tracked.run.client.get_run(session.tracked.run_id)
        return Path(run.info.artifact_uri.removeprefix("file://")) / "prepared_data"

    return find


def test_a_worker_without_the_data_fetches_them_from_the_tracker(
    open_sweep, work, outcome, elsewhere, kept_data, tmp_path
):
    near = open_sweep(name="near", n_trials=2)
    work(near)
    far = open_sweep(name="far", n_trials=2, tracking=True, upload_data=True)
    assert work(far, changes=elsewhere) == 2
    assert outcome(far) == outcome(near)
    own = cache_path(far.base.data, far.prepared.fingerprint)
    (arrived,) = [path for path in (tmp_path / "elsewhere").iterdir() if path.is_dir()]
    assert arrived.name == own.name
    for path in own.iterdir():
        assert (arrived / path.name).read_bytes() == path.read_bytes()
        assert (kept_data(far) / path.name).read_bytes() == path.read_bytes()


def test_data_are_uploaded_once(open_sweep, kept_data):
    session = open_sweep(name="one", tracking=True, upload_data=True)
    times = {path: path.stat().st_mtime_ns for path in kept_data(session).iterdir()}
    again = open_sweep(name="one", tracking=True, upload_data=True)
    assert again.state.uploaded == session.state.uploaded
    assert {path: path.stat().st_mtime_ns for path in kept_data(again).iterdir()} == times


def test_data_that_the_tracker_lost_are_uploaded_again(open_sweep, work, elsewhere, kept_data):
    options = {"name": "one", "n_trials": 1, "tracking": True, "upload_data": True}
    session = open_sweep(**options)
    names = sorted(path.name for path in kept_data(session).iterdir())
    (kept_data(session) / "train_items.npy").unlink()
    again = open_sweep(**options)
    assert sorted(path.name for path in kept_data(again).iterdir()) == names
    again.tracked.run.client.delete_run(again.tracked.run_id)
    anew = open_sweep(**options)
    assert anew.tracked.run_id != again.tracked.run_id
    assert sorted(path.name for path in kept_data(anew).iterdir()) == names
    assert work(anew, changes=elsewhere) == 1


def test_a_sweep_that_is_ended_while_it_uploads_says_so(sweep_shop, monkeypatch, capsys):
    settings = read_settings(
        sweep_shop / "space.yaml",
        sweep_shop / "config.yaml",
        ["--experiment.tracking=true"],
        {"n_trials": 2, "finalists": 0},
    )
    runs = []

    def interrupted(run, *_):
        runs.append(run)
        raise Interrupted(15)

    monkeypatch.setattr(SweepRun, "send_data", interrupted)
    with pytest.raises(Interrupted):
        request = SweepRequest(settings, "space", "one", None, sweep_shop / "sweeps", True)
        sweep(request, SweepConsole())
    assert SweepRecord.read(sweep_shop / "sweeps" / "one").status == "interrupted"
    assert runs[0].run.client.get_run(runs[0].run_id).info.status == "KILLED"
    assert "SIGTERM: 0 trials are kept; the same command goes on" in capsys.readouterr().out


def test_an_upload_that_nobody_can_use_is_told(open_sweep, monkeypatch, caplog):
    """The study is in a journal, the tracker in SQLite."""
    session = open_sweep(tracking=True, upload_data=True)
    told = [record.message for record in caplog.records if "'--upload-data'" in record.message]
    assert [line.split(" must ")[0] for line in told] == ["the study", "the tracking store"]
    caplog.clear()
    reached = "postgresql://u@h/d"
    monkeypatch.setattr(session, "storage", dataclasses.replace(session.storage, url=reached))
    monkeypatch.setattr(session.tracked, "uri", "http://tracker:5000")
    delivery.upload_data(session)
    assert "'--upload-data'" not in caplog.text
    monkeypatch.setattr(session, "tracked", None)
    delivery.upload_data(session)
    assert "the prepared data were not uploaded" in caplog.text


def test_without_being_asked_none_are_uploaded(open_sweep, work, elsewhere, kept_data):
    session = open_sweep(tracking=True)
    assert not kept_data(session).exists()
    with pytest.raises(ArtifactError, match=r"/nowhere/books\.csv: .* '--upload-data'"):
        work(session, changes=elsewhere)


def test_data_that_the_tracker_lost_are_prepared_from_files_where_there_are_any(
    open_sweep, work, elsewhere, kept_data, tmp_path, caplog
):
    session = open_sweep(n_trials=1, tracking=True, upload_data=True)
    shutil.rmtree(kept_data(session))
    with pytest.raises(TrackingError, match="must hold the prepared data"):
        work(session, changes=elsewhere)
    assert [trial.state.name for trial in session.main.trials()] == ["WAITING"]
    own = {"data": {"cache_dir": str(tmp_path / "elsewhere")}}
    assert work(session, changes=own) == 1
    assert "they are prepared from their files" in caplog.text


def test_without_a_tracker_data_cannot_be_uploaded(open_sweep):
    with pytest.raises(ConfigError, match="'--upload-data' must have a tracker"):
        open_sweep(upload_data=True)


# The launcher ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus_per_worker": 2.0}, "'--cpus-per-worker' must be given with '--launcher ray'"),
        ({"name": "ray", "cpus_per_worker": -1.0}, "'--cpus-per-worker' must be a whole number"),
        ({"name": "ray", "gpus_per_worker": 1.5}, "'--gpus-per-worker' must be a whole number"),
        ({"name": "ray", "ray_listen": "192.0.2.254"}, "'--ray-listen' must be one address"),
        ({"name": "ray", "ray_listen": "0.0.0.0"}, "'--ray-listen' must be one address"),
    ],
)
def test_options_without_a_meaning_are_refused(options, message):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=message), launching(Launcher(**options)):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_does_not_answer_is_named(scheme, free_port):
    pytest.importorskip("ray")
    address = f"{scheme}127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError, match=f"must answer at '{address}'"):
        launching(Launcher("ray", address)).__enter__()


def test_without_the_extra_one_is_told_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "experiments.sweep.ray_cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="needs the extra 'ray'"):
        launching(Launcher("ray")).__enter__()


def test_workers_share_the_threads_unless_the_user_set_them(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    found = thread_variables(2.5)
    assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"]) == ("7", "2")
    assert thread_variables(0)["MKL_NUM_THREADS"] == "1"


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of one other machine with one CPU, that only takes note of what is started."""
    module = pytest.importorskip("experiments.sweep.ray_cluster")
    started = []

    def options(**given):
        return SimpleNamespace(remote=lambda *arguments: started.append((given, *arguments)))

    fake = SimpleNamespace(
        remote=lambda function: SimpleNamespace(options=options),
        cluster_resources=lambda: {"CPU": 1.0},
        nodes=lambda: [{"Alive": True, "NodeManagerAddress": "127.0.0.9"}],
        put=lambda array: array,
    )
    monkeypatch.setattr(module, "ray", fake)
    monkeypatch.setattr(module, "_is_ours", lambda address: address == "127.0.0.1")
    with contextlib.ExitStack() as stack:
        yield lambda **given: module.Cluster(Launcher("ray", **given), stack), started


def test_each_worker_reserves_what_it_was_given(cluster, open_sweep, capsys):
    build, started = cluster
    session = open_sweep(workers=2)
    pool = build(cpus_per_worker=2.0, gpus_per_worker=0.5).pool(session, "search")
    pool.start(5)
    assert [(each[0]["num_cpus"], each[0]["num_gpus"]) for each in started] == [(2.0, 0.5)] * 2
    assert [each[1].index for each in started] == [0, 1]
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "has 1 CPUs, 2 workers want 4" in printed and "has 0 GPUs, 2 workers want 1" in printed


def test_inputs_at_an_address_are_the_same_from_any_directory():
    config = DataConfig(books_path="s3://shop/books.csv", interactions_path="users.csv")
    assert whole_paths(config, Path("/kept")) == {
        "books_path": "s3://shop/books.csv",
        "interactions_path": str(Path("users.csv").absolute()),
        "cache_dir": "/kept",
    }


def test_other_machines_are_sent_the_data_and_told_of_no_file_of_this_one(
    cluster, open_sweep, sweep_shop, monkeypatch
):
    build, started = cluster
    session = open_sweep(tracking=True)
    build().pool(session, "search").start(1)
    _, assignment, remote = started.pop()
    assert assignment.storage == "" and remote.address.startswith("127.0.0.1:")
    kept = str(session.base.data.cache_dir.absolute())
    assert remote.data and remote.changes["data"]["cache_dir"] == kept
    assert remote.tracking_uri is None  # a SQLite file
    session.storage = dataclasses.replace(session.storage, lock_path=None, url="postgresql://u@h/d")
    monkeypatch.setattr(session, "tracked", SimpleNamespace(uri="http://tracker:5000"))
    build(ray_cache_dir=Path("/kept")).pool(session, "search").start(1)
    _, assignment, remote = started.pop()
    assert (assignment.storage, remote.tracking_uri) == (
        "postgresql://u@h/d",
        "http://tracker:5000",
    )
    assert remote.changes["data"]["cache_dir"] == "/kept"


def test_the_last_words_of_a_worker_are_kept(cluster, tmp_path, monkeypatch):
    module, log = sys.modules["experiments.sweep.ray_cluster"], tmp_path / "worker.txt"
    ends = iter([module.RayTaskError("work", "a page", ArtifactError("a full disk")), None])

    def get(task):
        if error := next(ends):
            raise error

    monkeypatch.setattr(module.ray, "wait", lambda tasks, timeout: (tasks, []), raising=False)
    monkeypatch.setattr(module.ray, "get", get, raising=False)
    worker = module.RayWorker("one", object(), log, lambda: None)
    assert [worker.ended(), worker.ended()] == ["a full disk", ""]
    assert log.read_text() == "a full disk\n"


def test_a_worker_whose_node_is_gone_is_not_awaited(cluster, tmp_path, monkeypatch):
    """Ray awaits its answer for minutes where the network, not the process, is gone."""
    module, node = sys.modules["experiments.sweep.ray_cluster"], [None]
    monkeypatch.setattr(module.ray, "wait", lambda tasks, timeout: ([], tasks), raising=False)
    monkeypatch.setattr(module.ray, "nodes", lambda: [{"Alive": True, "NodeID": "here"}])
    worker = module.RayWorker("one", object(), tmp_path / "worker.txt", lambda: node[0])
    assert worker.ended() is None  # it has not said yet where it is
    node[0] = "here"
    assert worker.ended() is None
    node[0] = "there"
    assert worker.ended() == "its node, there, is gone"


def test_a_worker_that_still_begins_is_not_asked_but_ended(cluster, tmp_path, monkeypatch):
    """It has no trial to give back, and what it is asked among imports is lost."""
    module, node, forced = sys.modules["experiments.sweep.ray_cluster"], [None], []
    monkeypatch.setattr(
        module.ray, "cancel", lambda _task, force: forced.append(force), raising=False
    )
    worker = module.RayWorker("one", object(), tmp_path / "worker.txt", lambda: node[0])
    worker.terminate()
    node[0] = "here"
    worker.terminate()
    assert forced == [True, False]


@pytest.mark.parametrize("seconds", [0, 7200, -12_600])
def test_workers_have_the_parents_time_of_day(seconds, monkeypatch):
    module = pytest.importorskip("experiments.sweep.ray_cluster")
    monkeypatch.setenv("TZ", module.zone(seconds))
    try:
        time.tzset()
        assert time.localtime(1_700_000_000).tm_gmtoff == seconds
    finally:
        monkeypatch.undo()
        time.tzset()
