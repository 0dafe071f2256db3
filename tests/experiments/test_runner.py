import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient
from safetensors.torch import load

from experiments.cli import main
from experiments.console import RunConsole
from experiments.run_directory import RunDirectory
from experiments.runner import run as run_job
from experiments.settings import dump_yaml
from experiments.signals import Interrupted
from recsys.reporting.record import RunRecord
from recsys.training.checkpoint import load_checkpoint
from recsys.training.stopping import EarlyStopping
from tracking.tracker import TrackedRun

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
CONSTANT = ("--training.schedule", "constant", "--training.warmup_steps", "null")
STREAM = ("number", "train_loss", "parts", "validation", "is_best")


@pytest.fixture
def shop(tmp_path, copy_store, board_config):
    """A directory to run in, with a config of the checkerboard and a tracker of its own."""
    config = board_config({"experiment": {"tracking_uri": copy_store(tmp_path)}})
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    return tmp_path


def bookends(shop, *arguments):
    """A command in this process: one of its own takes seconds to import what this one has."""
    with contextlib.chdir(shop):
        done = CliRunner().invoke(main, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def in_a_process(shop, *arguments):
    command = [sys.executable, "-m", "experiments", *arguments]
    return subprocess.run(
        command, cwd=shop, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )


def start(shop, *arguments):
    command = [sys.executable, "-m", "experiments", "run", "--config", "config.yaml", *arguments]
    return subprocess.Popen(
        command, cwd=shop, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def record_of(shop, name):
    return RunRecord.read(shop / "artifacts" / "runs" / name)


def stream(record):
    return [{key: epoch[key] for key in STREAM} for epoch in record.history]


def tracked_run(shop, name):
    client = MlflowClient(f"sqlite:///{shop}/mlflow.db")
    tracking = json.loads((shop / "artifacts" / "runs" / name / "tracking.json").read_text())
    run_ids = [value for value in _values(tracking) if _is_run_id(value)]
    return client.get_run(run_ids[0])


def _values(tree):
    if isinstance(tree, dict):
        return [value for item in tree.values() for value in _values(item)]
    return [value for item in tree for value in _values(item)] if isinstance(tree, list) else [tree]


def _is_run_id(value):
    return isinstance(value, str) and len(value) == 32 and set(value) <= set("0123456789abcdef")


def wait_for_epochs(shop, name, n_epochs, process):
    path = shop / "artifacts" / "runs" / name / "record.json"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and len(json.loads(path.read_text())["history"]) >= n_epochs:
            return
        time.sleep(0.02)
    raise AssertionError(process.stdout.read().decode())


def test_a_run_leaves_a_model_a_report_and_a_tracked_run(shop):
    done = in_a_process(shop, "run", "--config", "config.yaml", "--experiment.run_name", "first")
    assert done.returncode == 0, done.stderr
    directory = shop / "artifacts" / "runs" / "first"
    assert record_of(shop, "first").status == "finished"
    for name in ("config.yaml", "checkpoint.pt", "per_user.parquet", "report.md", "report.html"):
        assert (directory / name).stat().st_size > 0
    report = shop / "artifacts" / "reports" / "recommendation_report.md"
    assert report.read_bytes() == (directory / "report.md").read_bytes()
    assert str(report.relative_to(shop)) in done.stdout
    assert "popularity" in done.stdout and "mlflow ui" in done.stdout
    run = tracked_run(shop, "first")
    assert run.info.status == "FINISHED" and run.info.run_name == "first"


def test_a_run_leaves_the_same_history_with_and_without_a_tracker(shop):
    bookends(shop, "run", "--config", "config.yaml", "--experiment.run_name", "with")
    arguments = ("--experiment.run_name", "without", "--experiment.tracking", "false")
    bookends(shop, "run", "--config", "config.yaml", *arguments)
    with_tracker, without = record_of(shop, "with"), record_of(shop, "without")
    assert stream(with_tracker) == stream(without)
    assert with_tracker.evaluation == without.evaluation
    assert not (shop / "artifacts" / "runs" / "without" / "tracking.json").exists()


def test_without_an_order_the_run_ends_well_and_says_that_evaluation_was_skipped(
    shop, board_settings
):
    lines = Path(board_settings["data"]["interactions_path"]).read_text().splitlines()
    (shop / "bare.csv").write_text("\n".join(",".join(line.split(",")[:2]) for line in lines))
    arguments = ("--data.interactions_path", "bare.csv", "--experiment.run_name", "bare")
    done = bookends(shop, "run", "--config", "config.yaml", *arguments)
    assert done.exit_code == 0, done.stderr
    assert "evaluation was skipped: 'leave_latest_out' needs to know" in done.stdout
    report = (shop / "artifacts" / "runs" / "bare" / "report.md").read_text()
    assert "Evaluation was skipped" in report
    assert tracked_run(shop, "bare").info.status == "FINISHED"


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_run_that_was_stopped_is_resumed_to_what_it_would_have_been(shop, number, exit_code):
    epochs = ("--training.num_epochs", "25")
    process = start(shop, "--experiment.run_name", "stopped", *epochs)
    wait_for_epochs(shop, "stopped", 2, process)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == exit_code, output
    stopped = record_of(shop, "stopped")
    assert 2 <= len(stopped.history) < 25
    if number != signal.SIGKILL:
        assert stopped.status == "interrupted" and "--resume" in output
        run = tracked_run(shop, "stopped")
        assert run.info.status == "KILLED"
        assert run.data.tags["bookends.status"] == "interrupted"

    resumed = bookends(shop, "run", "--resume", "artifacts/runs/stopped")
    assert resumed.exit_code == 0, resumed.stderr
    bookends(shop, "run", "--config", "config.yaml", "--experiment.run_name", "whole", *epochs)
    assert stream(record_of(shop, "stopped")) == stream(record_of(shop, "whole"))
    assert record_of(shop, "stopped").evaluation == record_of(shop, "whole").evaluation
    assert tracked_run(shop, "stopped").info.status == "FINISHED"


def test_a_signal_that_falls_into_a_call_of_the_store_waits_for_its_end(
    shop, board_config, monkeypatch
):
    """Cut in a transaction, the connection would lock out the one that says how the run ended."""
    monkeypatch.chdir(shop)
    log_epoch, ended = TrackedRun.log_epoch, []

    def interrupted_log_epoch(tracked, epoch):
        os.kill(os.getpid(), signal.SIGINT)
        log_epoch(tracked, epoch)
        ended.append(epoch.number)

    monkeypatch.setattr(TrackedRun, "log_epoch", interrupted_log_epoch)
    uri = f"sqlite:///{shop}/mlflow.db"
    config = board_config({"experiment": {"tracking_uri": uri, "run_name": "cut"}})
    with pytest.raises(Interrupted):
        run_job(config, RunConsole())
    assert ended == [1]
    assert tracked_run(shop, "cut").info.status == "KILLED"


def test_a_ctrl_c_under_mlflow_run_lets_the_run_end_in_peace(shop):
    """The whole process group gets the SIGINT, and the launcher then sends a SIGTERM."""
    epochs = ("--training.num_epochs", "500")
    process = start(shop, "--experiment.run_name", "group", *CONSTANT, *epochs)
    wait_for_epochs(shop, "group", 1, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130, output
    assert tracked_run(shop, "group").info.status == "KILLED"
    resumed = bookends(
        shop, "run", "--resume", "artifacts/runs/group", "--training.num_epochs", "1"
    )
    assert resumed.exit_code == 0, resumed.stderr
    run = tracked_run(shop, "group")
    assert run.info.status == "FINISHED" and "bookends.error" not in run.data.tags


def test_a_run_that_is_stopped_leaves_the_last_good_report_in_its_place(shop):
    assert bookends(shop, "run", "--config", "config.yaml").exit_code == 0
    report = shop / "artifacts" / "reports" / "recommendation_report.md"
    before = report.read_bytes()
    process = start(shop, "--experiment.run_name", "stopped", "--training.num_epochs", "500")
    wait_for_epochs(shop, "stopped", 1, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert report.read_bytes() == before


def test_a_run_stopped_before_its_first_epoch_is_resumed_from_nothing(shop):
    name = ("--experiment.run_name", "early")
    assert bookends(shop, "run", "--config", "config.yaml", *name).exit_code == 0
    history = stream(record_of(shop, "early"))
    (shop / "artifacts" / "runs" / "early" / "checkpoint.pt").unlink()
    assert bookends(shop, "run", "--resume", "artifacts/runs/early").exit_code == 0
    assert stream(record_of(shop, "early")) == history


def test_a_run_killed_just_after_its_directory_appeared_is_resumed(shop):
    name = ("--experiment.run_name", "early")
    assert bookends(shop, "run", "--config", "config.yaml", *name).exit_code == 0
    history, directory = stream(record_of(shop, "early")), shop / "artifacts" / "runs" / "early"
    for path in directory.iterdir():
        if path.name != "config.yaml":  # with which a run's directory appears
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert bookends(shop, "run", "--resume", "artifacts/runs/early").exit_code == 0
    assert stream(record_of(shop, "early")) == history


def test_no_run_directory_appears_without_its_config(shop, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunDirectory, "write_config", full)
    name = ("--experiment.run_name", "full")
    refused = bookends(shop, "run", "--config", "config.yaml", *name)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == "bookends: No space left on device"
    assert list((shop / "artifacts" / "runs").iterdir()) == []


@pytest.mark.parametrize("file", ["report.html", "segments.json", "per_user.parquet"])
def test_a_disk_that_is_full_at_the_end_is_one_line_and_the_run_goes_on(shop, monkeypatch, file):
    whole = Path.replace

    def full(path, target):
        if str(target).endswith(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, target)

    name = ("--experiment.run_name", "full")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        refused = bookends(shop, "run", "--config", "config.yaml", *name)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1].endswith("must be writable (No space left on device)")
    assert record_of(shop, "full").status == "failed"
    assert bookends(shop, "run", "--resume", "artifacts/runs/full").exit_code == 0
    assert record_of(shop, "full").status == "finished"
    assert not [path for path in shop.rglob(".*") if not path.name.endswith(".lock")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--experiment.runs_dir", "config.yaml"), "'experiment.runs_dir' must lie where a folder"),
        (("--diagnostics.report_path", "r.html"), "must name the Markdown report"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_the_work(shop, arguments, message):
    refused = bookends(shop, "run", "--config", "config.yaml", *arguments)
    assert refused.exit_code == 2
    assert message in refused.stderr and refused.stdout == ""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_settings_that_do_not_fit_into_memory_are_one_line(shop, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("experiments.runner.build_trainer", fail)
    refused = bookends(shop, "run", "--config", "config.yaml")
    assert refused.exit_code == 2
    assert "must fit into memory, and does not" in refused.stderr.splitlines()[-1]


def test_two_processes_do_not_train_in_one_directory(shop):
    process = start(shop, "--experiment.run_name", "busy", "--training.num_epochs", "500")
    wait_for_epochs(shop, "busy", 1, process)
    second = bookends(shop, "run", "--resume", "artifacts/runs/busy")
    process.kill()
    process.communicate(timeout=60)
    assert second.exit_code == 2 and "another process is training there" in second.stderr


def test_reconcile_ends_what_a_kill_left_running(shop):
    process = start(shop, "--experiment.run_name", "killed", "--training.num_epochs", "500")
    wait_for_epochs(shop, "killed", 1, process)
    process.kill()
    process.communicate(timeout=60)
    assert tracked_run(shop, "killed").info.status == "RUNNING"
    mended = bookends(shop, "reconcile", "--tracking-uri", f"sqlite:///{shop}/mlflow.db")
    assert "runs ended: 1" in mended.stdout
    run = tracked_run(shop, "killed")
    assert (run.info.status, run.data.tags["bookends.status"]) == ("FAILED", "killed")


def test_resuming_with_more_epochs_goes_on_and_with_another_setting_is_refused(shop):
    name = ("--experiment.run_name", "short")
    bookends(shop, "run", "--config", "config.yaml", *CONSTANT, *name)
    directory = "artifacts/runs/short"
    refused = bookends(shop, "run", "--resume", directory, "--training.batch_size", "7")
    assert refused.exit_code == 2
    assert refused.stderr.strip().endswith("keep 'training.batch_size': it was 4, got 7")
    longer = bookends(shop, "run", "--resume", directory, "--training.num_epochs", "5")
    assert longer.exit_code == 0, longer.stderr
    epochs = ("--training.num_epochs", "5", "--experiment.run_name", "long")
    bookends(shop, "run", "--config", "config.yaml", *CONSTANT, *epochs)
    short, long = record_of(shop, "short"), record_of(shop, "long")
    assert stream(short) == stream(long)
    assert short.evaluation == long.evaluation  # the refit of the three epochs is let go
    assert short.refit["epochs"] == long.refit["epochs"] == long.best_epoch


def test_the_epochs_of_a_falling_step_size_cannot_change_on_resume(shop):
    bookends(shop, "run", "--config", "config.yaml", "--experiment.run_name", "falls")
    directory = "artifacts/runs/falls"
    refused = bookends(shop, "run", "--resume", directory, "--training.num_epochs", "5")
    assert refused.exit_code == 2
    assert "keep 'training.num_epochs' where 'training.schedule' is 'linear'" in refused.stderr


# The training on train and validation together --------------------------------------------------

FOUR = ("--training.num_epochs", "4")
STOPPED_IN_REFIT = """
import os, sys
from experiments import console
from experiments.cli import main
from recsys.training.stopping import EarlyStopping

update = EarlyStopping.update
EarlyStopping.update = lambda self, number, value: update(self, number, number)

say, epoch, refit = console.RunConsole.say, console.RunConsole.epoch, []

def spy_say(self, text):
    if text.startswith("training anew"):
        refit.append("begun")
    say(self, text)

def spy_epoch(self, *arguments):
    epoch(self, *arguments)
    if refit:
        refit.append("epoch")
    if len(refit) == 3:
        os.kill(os.getpid(), int(sys.argv[1]))

console.RunConsole.say, console.RunConsole.epoch = spy_say, spy_epoch
main(sys.argv[2:])
"""


def checkpoint_of(shop, name):
    return load_checkpoint(shop / "artifacts" / "runs" / name / "checkpoint.pt")


def weights_of(shop, name):
    """All files of tensors of the saved recommender."""
    folder = shop / "artifacts" / "runs" / name / "model"
    files = {path.name: load(path.read_bytes()) for path in folder.rglob("*.safetensors")}
    return {f"{file}/{key}": tensor for file, held in files.items() for key, tensor in held.items()}


def are_equal(some, others):
    assert some.keys() == others.keys() and some
    return all(torch.equal(some[key], others[key]) for key in some)


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_run_stopped_in_its_refit_is_resumed_to_the_model_it_would_have_been(
    shop, number, exit_code, monkeypatch
):
    update = EarlyStopping.update  # every epoch is the best, here and in the process that is ended
    monkeypatch.setattr(EarlyStopping, "update", lambda self, at, value: update(self, at, at))
    name = ("--experiment.run_name", "stopped")
    command = [sys.executable, "-c", STOPPED_IN_REFIT, str(int(number))]
    command += ["run", "--config", "config.yaml", *FOUR, *name]
    done = subprocess.run(
        command, cwd=shop, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == exit_code, done.stderr
    state = checkpoint_of(shop, "stopped")
    assert (len(state["trainer"]["history"]), len(state["refit"]["history"])) == (4, 2)

    assert bookends(shop, "run", "--resume", "artifacts/runs/stopped").exit_code == 0
    whole = ("--experiment.run_name", "whole")
    bookends(shop, "run", "--config", "config.yaml", *FOUR, *whole)
    stopped, undisturbed = record_of(shop, "stopped"), record_of(shop, "whole")
    assert stopped.refit["epochs"] == undisturbed.refit["epochs"] == stopped.best_epoch == 4
    assert stopped.evaluation == undisturbed.evaluation
    assert are_equal(weights_of(shop, "stopped"), weights_of(shop, "whole"))


def test_the_refit_is_on_train_and_validation_and_told_to_the_tracker(shop):
    bookends(shop, "run", "--config", "config.yaml", "--experiment.run_name", "refit")
    record = record_of(shop, "refit")
    losses = [epoch["train_loss"] for epoch in checkpoint_of(shop, "refit")["refit"]["history"]]
    assert len(losses) == record.best_epoch == record.refit["epochs"]
    assert losses[0] != record.history[0]["train_loss"]
    metrics = tracked_run(shop, "refit").data.metrics
    for name in ("epochs", "positives", "seconds"):
        assert metrics[f"refit/{name}"] == record.refit[name]


def test_without_a_refit_the_first_model_is_the_one_tested(shop):
    no_refit = ("--training.refit", "false", "--experiment.run_name", "first")
    bookends(shop, "run", "--config", "config.yaml", *no_refit)
    record, state = record_of(shop, "first"), checkpoint_of(shop, "first")
    assert record.refit is None and "refit" not in state
    best = state["trainer"]["best_weights"]["item_tower.encoder.bias"]
    assert any(torch.equal(best, tensor) for tensor in weights_of(shop, "first").values())
    assert not any(key.startswith("refit/") for key in tracked_run(shop, "first").data.metrics)


def test_without_a_validation_split_nothing_is_trained_again(shop, board_settings):
    lines = Path(board_settings["data"]["interactions_path"]).read_text().splitlines()
    (shop / "bare.csv").write_text("\n".join(",".join(line.split(",")[:2]) for line in lines))
    arguments = ("--data.interactions_path", "bare.csv", "--experiment.run_name", "bare")
    assert bookends(shop, "run", "--config", "config.yaml", *arguments).exit_code == 0
    assert record_of(shop, "bare").dataset["validation"] == 0
    assert record_of(shop, "bare").refit is None


def test_resuming_on_other_data_is_refused(shop, board_settings):
    own = shop / "users.csv"
    content = Path(board_settings["data"]["interactions_path"]).read_text()
    own.write_text(content)
    arguments = ("--data.interactions_path", str(own), "--experiment.run_name", "moved")
    assert bookends(shop, "run", "--config", "config.yaml", *arguments).exit_code == 0
    own.write_text(content.replace(",5,", ",4,", 1))
    refused = bookends(shop, "run", "--resume", "artifacts/runs/moved")
    assert refused.exit_code == 2 and "must have the data it began with" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trainig.num_epochs", "3"), "did you mean 'training.num_epochs'?"),
        (("--data.books_path", "nowhere.csv"), "nowhere.csv"),
        (("--config", "nowhere.yaml"), "nowhere.yaml: must be a readable file"),
        (("--resume", "nowhere"), "nowhere: must be a run directory"),
        (("--data.min_item_interactions", "1000"), "min_item_interactions"),
        (("--experiment.tracking_uri", "ftp://x"), "ftp://x"),
        (("--diagnostics.report_path", "/proc/nowhere/report.md"), "/proc/nowhere"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(shop, arguments, message):
    if "--config" not in arguments and "--resume" not in arguments:
        arguments = ("--config", "config.yaml", *arguments)
    done = bookends(shop, "run", *arguments)
    assert done.exit_code == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARN"))]
    assert len(lines) == 1 and lines[0].startswith("bookends: ") and message in lines[0]


def test_a_run_that_fails_says_so_everywhere(shop):
    arguments = ("--training.learning_rate", "1e300", "--experiment.run_name", "diverged")
    done = bookends(shop, "run", "--config", "config.yaml", *arguments)
    assert done.exit_code != 0
    record = record_of(shop, "diverged")
    assert record.status == "failed" and record.error
    run = tracked_run(shop, "diverged")
    assert (run.info.status, run.data.tags["bookends.status"]) == ("FAILED", "failed")


def test_a_run_name_is_not_used_twice(shop):
    arguments = ("run", "--config", "config.yaml", "--experiment.run_name", "same")
    assert bookends(shop, *arguments).exit_code == 0
    again = bookends(shop, *arguments)
    assert again.exit_code == 2 and "--resume" in again.stderr


def test_the_report_is_written_again_byte_for_byte(shop):
    bookends(shop, "run", "--config", "config.yaml", "--experiment.run_name", "first")
    path = shop / "artifacts" / "runs" / "first" / "report.html"
    before = path.read_bytes()
    path.unlink()
    assert bookends(shop, "report", "artifacts/runs/first").exit_code == 0
    assert path.read_bytes() == before


@pytest.mark.slow
def test_under_mlflow_run_the_open_run_is_used(shop):
    command = [
        *(sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local"),
        *("--experiment-name", "projects", "-P", f"config={shop}/config.yaml"),
        *("-P", "training.num_epochs=2", "-P", f"experiment.runs_dir={shop}/runs"),
        *("-P", f"diagnostics.report_path={shop}/report.md"),
    ]
    environment = ENVIRONMENT | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{shop}/mlflow.db",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        command, cwd=shop, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{shop}/mlflow.db")
    experiment = client.get_experiment_by_name("projects")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert runs[0].data.params["cfg.training.num_epochs"] == "2"
    assert len(client.get_metric_history(runs[0].info.run_id, "train/loss")) == 2
    assert yaml.safe_load((next((shop / "runs").iterdir()) / "config.yaml").read_text())
