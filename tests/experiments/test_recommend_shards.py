"""Lists for many users in parts of a directory: as those of one file, and resumable."""

import json
import re
from types import SimpleNamespace

import pandas as pd
import pytest

from benchmarks.serving_bundle import build_recommender
from experiments.launcher import LOCAL, Launcher
from experiments.recommend import Request
from experiments.recommend_shards import Shard, _everywhere, answer_shard, write_shards
from experiments.signals import Interrupted
from recsys.artifacts import locked
from recsys.errors import ArtifactError, ConfigError
from tests import cli

N_USERS, SIZE, N_PARTS = 100, 30, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "model"
    build_recommender(300, N_USERS, 8, n_seen=20).save(path)
    return path


@pytest.fixture
def bookends(model, tmp_path, monkeypatch):
    """Runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*options):
        words = ["--model", model, *(() if "--users" in options else ("--all-users",)), *options]
        return cli.bookends("recommend", *words)

    return run


def parts(directory):
    return sorted(path.name for path in directory.glob("part-*"))


@pytest.mark.parametrize("options", [(), ("--users", "ids.txt", "--k", "3", "--no-exclude-seen")])
def test_a_directory_of_parts_reads_as_the_one_file(bookends, tmp_path, options):
    numbers = [7, 999, *range(50, 0, -1), 7]  # 999 is unknown
    (tmp_path / "ids.txt").write_text("".join(f"u{number:08d}\n" for number in numbers))
    done = bookends("--out", "recs", "--shard-size", SIZE, "--batch-size", 8, *options)
    assert done.exit_code == 0, done.output
    one = bookends("--out", "one.parquet", *options)
    assert one.exit_code == 0, one.output
    whole = pd.read_parquet(tmp_path / "one.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "recs"), whole)
    assert (tmp_path / "recs" / "_SUCCESS").exists()
    first = pd.read_parquet(tmp_path / "recs" / "part-00000.parquet")
    asked = numbers[:SIZE] if options else range(SIZE)
    assert first["user_id"].drop_duplicates().tolist() == list(
        dict.fromkeys(f"u{number:08d}" for number in asked)
    )
    said = [re.sub(r", [\d,]+ users a second|^\S+", "", each.output) for each in (done, one)]
    assert said[0] == said[1]


def test_the_same_command_writes_only_what_is_missing(bookends, tmp_path):
    out, options = tmp_path / "recs", ("--out", "recs", "--shard-size", SIZE)
    bookends(*options)
    assert len(parts(out)) == N_PARTS
    whole = pd.read_parquet(out)
    (out / "part-00001.parquet").unlink()
    (out / ".123.part-00001.parquet").write_text("cut off")
    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    done = bookends(*options)
    assert "300 recommendations for 30 users" in done.output
    assert "the lists of 70 other users were there already" in done.output
    assert {path: path.stat().st_mtime_ns for path in before} == before
    pd.testing.assert_frame_equal(pd.read_parquet(out), whole)
    assert not list(out.glob(".*.parquet"))


def test_what_is_written_before_a_signal_stays(model, tmp_path):
    request, out = Request(str(model), tmp_path / "recs"), tmp_path / "recs"

    def stop(n_users, total):
        if (n_users, total) == (2 * SIZE, N_USERS):
            raise Interrupted(2)

    with pytest.raises(Interrupted):
        write_shards(request, stop, SIZE)
    assert parts(out) == ["part-00000.parquet", "part-00001.parquet"]
    assert not (out / "_SUCCESS").exists()
    assert write_shards(request, stop, SIZE).n_users == N_USERS - 2 * SIZE
    assert (out / "_SUCCESS").exists()
    (out / "part-00000.parquet").unlink()
    (out / "part-00001.parquet").unlink()
    with pytest.raises(Interrupted):
        write_shards(request, lambda *_: stop(2 * SIZE, N_USERS), SIZE)
    assert not (out / "_SUCCESS").exists()


def test_a_directory_without_parts_is_nobodys(bookends, tmp_path):
    """As where no cluster answered."""
    bookends("--out", "recs", "--shard-size", SIZE)
    for part in (tmp_path / "recs").glob("part-*"):
        part.unlink()
    done = bookends("--out", "recs", "--shard-size", SIZE, "--k", 2)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "recs" / "_request.json").read_text())["k"] == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("k", ("--k", 4)),
        ("exclude_seen", ("--no-exclude-seen",)),
        ("category", ("--category", "Genre 1")),
        ("ann", ("--ann",)),
        ("shard_size", ("--shard-size", 31)),
        ("users", ("--users", "other.txt")),
        ("model", ("--model", "other")),
    ],
)
def test_parts_of_another_request_are_refused(bookends, tmp_path, name, options):
    same = ("--out", "recs", "--users", "ids.txt", "--shard-size", SIZE)
    (tmp_path / "ids.txt").write_text("u00000001\n")
    (tmp_path / "other.txt").write_text("u00000002\n")
    build_recommender(300, N_USERS, 8, seed=1).save(tmp_path / "other")
    bookends(*same)
    before = (tmp_path / "recs" / "part-00000.parquet").read_bytes()
    done = bookends(*same, *options)
    assert done.exit_code == 2
    assert f"recs: its parts must be of the same request, but '{name}' was" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "recs" / "part-00000.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "r.csv", "--shard-size", 9), "'--out' must be a directory where lists are"),
        (("--out", "r.parquet", "--launcher", "ray"), "'--out' must be a directory where lists"),
        (("--out", "r"), "got 'r' (a directory needs '--shard-size' or '--launcher ray')"),
        (("--out", "r", "--ray-address", "auto"), "'--ray-address' must be given with '--launcher"),
        (("--out", "r", "--shard-size", 9, "--k", 301), "'k' must be from 1 to 300, the catalogue"),
        (("--out", "r", "--shard-size", 9, "--category", "None"), "'categories' must name categor"),
        (("--out", "r", "--shard-size", 9, "--users", "blank"), "blank: must have a user's id on"),
        (
            ("--out", "blank", "--shard-size", 9),
            "'--out' must lie where a folder",
        ),
        (("--out", ".", "--shard-size", 9), "must be empty, or hold parts of the same request"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_leaves_no_file(
    bookends, tmp_path, options, message
):
    (tmp_path / "blank").write_text("\n")
    done = bookends(*options)
    assert done.exit_code == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["blank"]


def test_two_processes_do_not_write_to_one_directory(bookends, tmp_path):
    (tmp_path / "recs").mkdir()
    with locked(tmp_path / "recs" / ".lock"):
        done = bookends("--out", "recs", "--shard-size", SIZE)
    assert "recs: another process writes there" in done.stderr


def test_a_damaged_request_is_named(bookends, tmp_path):
    bookends("--out", "recs", "--shard-size", SIZE)
    (tmp_path / "recs" / "_request.json").write_text("[1]")
    done = bookends("--out", "recs", "--shard-size", SIZE)
    assert "_request.json: must hold the request of the parts" in done.stderr


def test_more_parts_than_names_can_sort_are_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.recommend_shards.MOST_SHARDS", 3)
    with pytest.raises(ConfigError, match="'--shard-size' must be so large that 3 parts"):
        write_shards(Request(str(model), tmp_path / "recs"), lambda *_: None, SIZE)


def test_a_machine_without_the_model_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    away = tmp_path / "away"
    build_recommender(300, N_USERS, 8).save(away)
    request = _everywhere(Request(str(model), tmp_path), away, LOCAL)
    away.rename(tmp_path / "gone")
    with pytest.raises(ArtifactError, match=r"on node7: \S+/away: must be a bundle or run"):
        answer_shard(request, Shard(0, ["u00000001"]))
    build_recommender(300, N_USERS, 8, seed=3).save(away)
    with pytest.raises(ArtifactError, match=r"on node7: .+ must be the same model on each machine"):
        answer_shard(request, Shard(0, ["u00000001"]))


def test_machines_fetch_by_address_only_what_lies_on_none_of_them(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fetched = tmp_path / "artifacts" / "cache" / "models" / "one"
    build_recommender(300, N_USERS, 8).save(fetched)
    request = Request("models:/m/1", tmp_path / "recs", tracking_uri="http://tracker:5000")
    asked = _everywhere(request, fetched, Launcher("ray", ray_cache_dir=tmp_path / "kept"))
    assert (asked.model, asked.tracking_uri) == ("models:/m/1", "http://tracker:5000")
    assert asked.downloads == tmp_path / "kept"
    assert _everywhere(request, fetched, LOCAL).downloads == fetched.parent
    here = _everywhere(request, model, LOCAL)
    assert (here.model, here.tracking_uri) == (str(model), None)


# On a cluster ------------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of two CPUs that does tasks one by one, the last given first."""
    module = pytest.importorskip("experiments.ray_cluster")
    log = SimpleNamespace(options=[], most=0, waiting=[])

    def remote(function):
        def start(*arguments):
            log.waiting.append(arguments)
            log.most = max(log.most, len(log.waiting))
            return arguments

        def options(**given):
            log.options.append(given)
            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def get(task):
        work, item = log.waiting.pop(log.waiting.index(task))
        try:
            return work(item)
        except ArtifactError as error:
            raise module.RayTaskError("work", "a page", error) from None

    fake = SimpleNamespace(
        remote=remote,
        cluster_resources=lambda: {"CPU": 2.0},
        wait=lambda tasks, timeout: (tasks[-1:], tasks[:-1]),
        get=get,
    )
    monkeypatch.setattr(module, "ray", fake)
    return module.done_on_cluster, log


def test_few_items_are_on_the_cluster_at_once_and_all_are_done(cluster, caplog):
    done_on_cluster, log = cluster
    found = list(done_on_cluster("name", str, range(20), Launcher("ray", cpus_per_worker=1.0)))
    assert sorted(found) == sorted((item, str(item)) for item in range(20))
    assert found[0] == (3, "3")
    assert log.most == 4  # two for each CPU
    (given,) = log.options
    assert given["num_cpus"] == 1 and given["max_retries"] > 0
    assert not caplog.messages
    list(done_on_cluster("name", str, range(20), Launcher("ray", cpus_per_worker=4.0)))
    assert caplog.messages == ["the Ray cluster has 2 CPUs, a worker wants 4: it waits for them"]


def test_what_a_worker_says_of_its_machine_is_said_as_it_is(cluster):
    done_on_cluster, _ = cluster

    def work(item):
        raise ArtifactError(f"on node7: {item}")

    with pytest.raises(ArtifactError, match=r"^on node7: 1$"):
        list(done_on_cluster("name", work, [1], Launcher("ray")))
