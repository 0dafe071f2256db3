"""`bookends register` and `rollback`: one trained run, and runs whose values are edited."""

import contextlib
import dataclasses
import json
import re
import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from experiments import register
from experiments.settings import dump_yaml
from recsys.reporting.record import RunRecord
from tests.cli import said as bookends
from tests.forked import Forked
from tests.waiting import wait_until
from tracking.champions import moves_in
from tracking.mirror import mirror

N_USERS = 40
# One that has made the version and not yet moved the alias, and stays there.
HANGING = """
import time
from pathlib import Path
from experiments.cli import main
from tracking.registry import Registry
def hang(*_):
    Path("mark").touch()
    time.sleep(600)
Registry._promote = hang
main()
"""


@pytest.fixture(scope="module")
def trained(board_config, tmp_path_factory):
    """The directory of a run on the checkerboard that no store knows."""
    shop = tmp_path_factory.mktemp("shop")
    (shop / "config.yaml").write_text(dump_yaml(board_config({"experiment": {"tracking": False}})))
    with contextlib.chdir(shop):
        assert bookends("run", "--config", "config.yaml")[0] == 0
    (run_dir,) = (shop / "artifacts" / "runs").iterdir()
    return run_dir


@pytest.fixture(autouse=True)
def few_questions(monkeypatch):
    """Latency is what these tests are not about."""
    monkeypatch.setattr("experiments.register._CALLS", 20)


@pytest.fixture
def store(copy_store, tmp_path, monkeypatch):
    """An empty store, which commands use unless told otherwise."""
    monkeypatch.chdir(tmp_path)
    return copy_store(tmp_path)


@pytest.fixture
def client(store):
    return MlflowClient(store)


@pytest.fixture
def new_run(trained, store, tmp_path):
    """Makes a run directory, in the store unless told otherwise.

    Users' values are 0.5 and rise or fall with the user's number by 0.1; popularity's are 0.
    The first ten users are cold.
    """

    def build(name, *, everyone=0.0, cold=0.0, sent=True, keeps_test=True, **changes):
        run_dir = tmp_path / "runs" / name
        shutil.copytree(trained, run_dir)
        (run_dir / "tracking.json").unlink(missing_ok=True)
        dataclasses.replace(RunRecord.read(run_dir), run_name=name, **changes).write(run_dir)
        values = 0.5 + np.linspace(-0.1, 0.1, N_USERS) + everyone
        values[:10] += cold
        frame = pd.read_parquet(run_dir / "per_user.parquet")
        segment = np.where(np.arange(N_USERS) < 10, "cold", "head")
        columns = {"ndcg@10": values, "tail_items_ndcg@10": values, "popularity_ndcg@10": 0.0}
        frame.assign(segment=segment, **columns).to_parquet(run_dir / "per_user.parquet")
        if not keeps_test:
            (run_dir / "held_out.parquet").unlink()
        if sent:
            mirror(run_dir, store)
        return run_dir

    return build


def champion(client):
    return int(client.get_model_version_by_alias("bookends", "champion").version)


def test_a_better_run_becomes_champion_and_a_worse_one_is_told_why_not(new_run, client):
    run_dir = new_run("first")
    code, output = bookends("register", run_dir)
    assert (code, champion(client)) == (0, 1)
    assert "champion is version 1 now" in output
    (delivery,) = json.loads((run_dir / "tracking.json").read_text())["deliveries"].values()
    for text in ("first", delivery["run_id"], delivery["run_id"][:8]):
        code, output = bookends("register", text, "--max-bytes", "1")
        assert (code, output) == (0, "version 1 of bookends is champion already; nothing changed")
    code, output = bookends("register", new_run("worse", everyone=-0.2, cold=-0.2))
    assert code == 1
    assert "champion stays version 1; failed: better than version 1; cold users kept" in output
    assert champion(client) == 1
    assert len(client.search_model_versions("name = 'bookends'")) == 2
    assert bookends("register", new_run("better", everyone=0.01))[0] == 0
    assert champion(client) == 3


def test_the_model_is_measured_as_it_lies_in_the_store(new_run, client):
    run_dir = new_run("first")
    code, output = bookends("register", "first", "--max-bytes", "1000")
    n_bytes = sum(path.stat().st_size for path in (run_dir / "model").rglob("*") if path.is_file())
    assert code == 1
    assert f"{n_bytes / 1024:.1f} KiB" in output
    assert bookends("register", "first", "--max-p95-ms", "0.000001")[0] == 1
    assert bookends("register", "first", "--max-bytes", n_bytes)[0] == 0


def test_without_its_test_a_run_on_other_data_cannot_be_compared(new_run, trained, client):
    bookends("register", new_run("first"))
    other = RunRecord.read(trained).dataset | {"fingerprint": "sha256:other"}
    run = new_run("other", everyone=0.01, dataset=other, keeps_test=False)
    code, output = bookends("register", run)
    assert code == 1
    assert "failed: same data as the champion" in output
    said = client.get_model_version("bookends", "2").tags["bookends.reason"]
    assert "the run keeps no test interactions (held_out.parquet)" in said


def test_a_champion_whose_run_is_gone_is_judged_by_its_model(new_run, client):
    bookends("register", new_run("first"))
    client.delete_run(client.get_model_version("bookends", "1").run_id)
    code, output = bookends("register", new_run("second"))
    assert code == 1
    assert "40 users; 0 left out" in output
    assert "failed: better than version 1" in output


def test_without_its_test_a_champion_whose_run_is_gone_cannot_be_compared_with(new_run, client):
    bookends("register", new_run("first"))
    run_id = client.get_model_version("bookends", "1").run_id
    client.delete_run(run_id)
    code, output = bookends("register", new_run("better", everyone=0.01, keeps_test=False))
    assert code == 1
    said = client.get_model_version("bookends", "2").tags["bookends.reason"]
    assert f"its run {run_id} was deleted" in said, output
    assert "failed: same test users as the champion" in output


def test_a_run_that_was_not_judged_on_test_is_refused(new_run):
    evaluation = {"split": "test", "skipped": "too few interactions", "n_users": 0}
    evaluation |= {"model": {"means": {}, "intervals": {}}, "baselines": {}}
    code, output = bookends("register", new_run("unjudged", evaluation=evaluation))
    assert code == 1
    assert "failed: judged on test" in output


def test_force_takes_the_place_and_records_why(new_run, client):
    bookends("register", new_run("first"))
    code, output = bookends(
        "register", new_run("worse", everyone=-0.2), "--force", "--reason", "we promised"
    )
    assert code == 0
    assert "champion is version 2 now by force, though it failed: better than" in output
    tags = client.get_model_version("bookends", "2").tags
    assert (tags["bookends.gate"], tags["bookends.reason"]) == ("forced", "we promised")
    move = moves_in(client.get_registered_model("bookends").tags)[-1]
    assert (move.way, move.reason, move.previous) == ("force", "we promised", 1)


@pytest.mark.parametrize(
    "arguments", [["--force"], ["--force", "--reason", "  "], ["--reason", "because"]]
)
def test_force_and_reason_go_together(arguments):
    assert bookends("register", "first", *arguments)[0] == 2


def test_a_dry_run_judges_and_writes_nothing(new_run, client):
    code, output = bookends("register", new_run("first"), "--dry-run")
    assert code == 0
    assert "would be champion" in output
    assert client.search_registered_models() == []
    bookends("register", "first")
    worse = new_run("worse", everyone=-0.2)
    code, output = bookends("register", worse, "--dry-run")
    assert code == 1
    assert "would not be champion of bookends: failed better than version 1" in output
    code, output = bookends("register", worse, "--force", "--reason", "we promised", "--dry-run")
    assert code == 0
    assert "the run would be champion of bookends by force, though it failed: better" in output
    assert len(client.search_model_versions("name = 'bookends'")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "run 'nobody': must be"),
        (["first", "--metric", "ndcg@7"], "'metric' must be one that first holds"),
        (["first", "--alpha", "0.7"], "'alpha' must be"),
        (["first", "--margin", "-1"], "'margin' must be"),
        (["first", "--name", "a/b"], "the name of a registered model"),
        (["first", "--tracking-uri", "ftp://x"], "the tracking URI must start with"),
    ],
)
def test_bad_input_is_one_line_and_code_2(new_run, client, arguments, message):
    new_run("first")
    code, output = bookends("register", *arguments)
    assert code == 2
    assert output.startswith("bookends: ")
    assert message in output
    assert client.search_registered_models() == []


def test_a_run_that_was_never_sent_is_told_how_to_send_it(new_run):
    code, output = bookends("register", new_run("unsent", sent=False))
    assert code == 2
    assert re.search(r"must be tracked .* 'bookends track .*unsent", output)


def test_rollbacks_walk_back(new_run, client):
    bookends("register", new_run("first"))
    bookends("register", new_run("better", everyone=0.01))
    code, output = bookends("rollback", "--reason", "complaints")
    assert (code, output) == (0, "champion of bookends is version 1 now; it was version 2")
    assert champion(client) == 1
    code, output = bookends("rollback")
    assert code == 2
    assert "version 1 is the first" in output
    assert bookends("rollback", "--to", "2")[0] == 0
    assert champion(client) == 2


def test_a_run_whose_champion_changed_while_it_was_judged_is_judged_anew(
    new_run, client, monkeypatch
):
    """Both beat the champion that they saw; the better one overtakes the other."""
    bookends("register", new_run("first"))
    new_run("good", everyone=0.01)
    new_run("best", everyone=0.02)
    judge = register.judge

    def overtaken(*arguments):
        monkeypatch.setattr(register, "judge", judge)
        assert bookends("register", "best")[0] == 0
        return judge(*arguments)

    monkeypatch.setattr(register, "judge", overtaken)
    code, output = bookends("register", "good")
    assert (code, champion(client)) == (1, 2)
    assert "champion stays version 2; failed: better than version 2" in output
    details = json.loads(client.get_model_version("bookends", "3").tags["bookends.details"])
    assert details["held_against"] == 2
    assert [model.name for model in client.search_registered_models()] == ["bookends"]


@pytest.mark.slow
def test_a_registration_killed_in_the_middle_is_finished_by_the_next(new_run, client, tmp_path):
    new_run("first")
    words = ["register", "first", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    process = Forked("-c", HANGING, *words, cwd=tmp_path)
    try:
        wait_until((tmp_path / "mark").exists, process=process, said=process.said)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert [version.version for version in client.search_model_versions("name = 'bookends'")] == [1]
    assert client.get_registered_model("bookends").aliases == {}
    begun = time.monotonic()
    code, output = bookends("register", "first")
    assert (code, champion(client)) == (0, 1)
    assert "version 1 of bookends looked at again" in output
    assert time.monotonic() - begun < 30  # nobody waits for a process that is known to be dead
