import errno
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from experiments.console import RunConsole
from experiments.run_directory import RunDirectory, check_resumable
from experiments.runner import run as run_job
from experiments.settings import dump_yaml
from experiments.signals import Interrupted
from recsys.errors import ConfigError
from recsys.models.build import usual_temperature
from tests.experiments.shop import Shop, run_words
from tracking.tracker import TrackedRun

ROOT = Path(__file__).parents[2]
CONSTANT = ("training.schedule=constant", "training.warmup_steps=null")


def end(process, *signals):
    """Send signals one after another; the exit code and what was printed."""
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)
    output = "".join(process.communicate(timeout=60))
    return process.returncode, output


@pytest.fixture
def without_times(shop, board_settings):
    """The interactions without an order, so that nothing is held out."""
    lines = Path(board_settings["data"]["interactions_path"]).read_text().splitlines()
    (shop.path / "bare.csv").write_text("\n".join(",".join(line.split(",")[:2]) for line in lines))
    return "data.interactions_path=bare.csv"


def test_a_run_leaves_a_model_a_report_and_a_tracked_run(shop):
    done = shop.in_a_process("-m", "experiments", *run_words("first", []))
    assert done.returncode == 0, done.stderr
    directory = shop.directory("first")
    assert shop.record("first").status == "finished"
    for name in ("config.yaml", "checkpoint.pt", "per_user.parquet", "report.md", "report.html"):
        assert (directory / name).stat().st_size > 0
    report = Path("artifacts/reports/recommendation_report.md")
    copied = (shop.path / report).read_text()
    assert (
        f"](../../{directory.relative_to(shop.path)}/figures/".replace("../../artifacts", "..")
        in copied
    )
    assert (
        re.sub(r"\]\([^)]+/figures/", "](figures/", copied) == (directory / "report.md").read_text()
    )
    assert str(report) in done.stdout
    assert "popularity" in done.stdout and "mlflow ui" in done.stdout
    items = shop.record("first").dataset["n_warm_items"]
    assert f"temperature {usual_temperature(items):.4g}" in " ".join(done.stdout.split())
    assert shop.tracked("first").info.status == "FINISHED"


USER = "model.user_encoder"
WITHOUT_HISTORY = (
    f"{USER}.history.pooling=none",
    "training.examples=pairs",
    "training.history_split=null",
)
METADATA = (f"{USER}.feature_encoder.type=mlp", f"{USER}.fusion=adaptive_mimic")


@pytest.mark.parametrize(
    "towers",
    [
        (f"{USER}.queries=3",),
        (f"{USER}.queries=2", f"{USER}.query_score=max", *METADATA),
        (f"{USER}.history.pooling=sequence",),
        (*WITHOUT_HISTORY, f"{USER}.id_embedding.type=embedding"),
        (*WITHOUT_HISTORY, *METADATA),
    ],
)
def test_a_run_with_towers_of_any_form_ends_with_a_report_and_a_model_that_recommends(shop, towers):
    shop.run("towers", "training.num_epochs=1", "experiment.tracking=false", *towers)
    assert "Scores and metadata" in (shop.directory("towers") / "report.md").read_text()
    model = ("--model", str(shop.directory("towers")))
    done = shop.bookends("recommend", *model, "--all-users", "--out", "lists.csv", "--k", "3")
    assert done.exit_code == 0, done.output
    assert len((shop.path / "lists.csv").read_text().splitlines()) == 1 + 40 * 3


def test_a_run_leaves_the_same_history_with_and_without_a_tracker(shop):
    shop.run("with")
    shop.run("without", "experiment.tracking=false")
    assert shop.stream("with") == shop.stream("without")
    assert shop.record("with").evaluation == shop.record("without").evaluation
    assert [run.info.run_name for run in shop.all_tracked()] == ["with"]


def test_without_an_order_the_run_ends_well_and_says_that_evaluation_was_skipped(
    shop, without_times
):
    done = shop.run("bare", without_times)
    assert "evaluation was skipped: 'leave_latest_out' needs to know" in done.stdout
    assert "Evaluation was skipped" in (shop.directory("bare") / "report.md").read_text()
    assert shop.tracked("bare").info.status == "FINISHED"
    record = shop.record("bare")
    assert record.dataset["validation"] == 0
    assert record.refit is None  # there is nothing more to learn from


MANY = "training.num_epochs=25"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, board_config):
    """The stream and the evaluation of a run that nothing stopped."""
    shop = Shop(tmp_path_factory.mktemp("undisturbed"))
    config = board_config({"experiment": {"tracking": False}})
    (shop.path / "config.yaml").write_text(dump_yaml(config))
    shop.run("whole", MANY)
    return shop.stream("whole"), shop.record("whole").evaluation


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_run_that_was_stopped_is_resumed_to_what_it_would_have_been(
    shop, number, exit_code, undisturbed
):
    with shop.training("stopped", MANY, epochs=2) as process:
        code, output = end(process, number)
    assert code == exit_code, output
    assert 2 <= len(shop.record("stopped").history) < 25
    if number != signal.SIGKILL:
        assert shop.record("stopped").status == "interrupted" and "--resume" in output
        run = shop.tracked("stopped")
        assert run.info.status == "KILLED"
        assert run.data.tags["bookends.status"] == "interrupted"
    shop.resume("stopped")
    assert (shop.stream("stopped"), shop.record("stopped").evaluation) == undisturbed
    assert shop.tracked("stopped").info.status == "FINISHED"


def test_a_signal_that_falls_into_a_call_of_the_store_waits_for_its_end(
    shop, board_config, monkeypatch
):
    """Cut in a transaction, the connection would lock out the one that says how the run ended."""
    monkeypatch.chdir(shop.path)
    log_epoch, ended = TrackedRun.log_epoch, []

    def interrupted_log_epoch(tracked, epoch):
        os.kill(os.getpid(), signal.SIGINT)
        log_epoch(tracked, epoch)
        ended.append(epoch.number)

    monkeypatch.setattr(TrackedRun, "log_epoch", interrupted_log_epoch)
    config = board_config({"experiment": {"tracking_uri": shop.uri, "run_name": "cut"}})
    with pytest.raises(Interrupted):
        run_job(config, RunConsole())
    assert ended == [1]
    assert shop.tracked("cut").info.status == "KILLED"


def test_a_ctrl_c_under_mlflow_run_lets_the_run_end_in_peace(shop):
    """The whole process group gets the SIGINT, and the launcher then sends a SIGTERM."""
    with shop.training("group", *CONSTANT, "training.num_epochs=500") as process:
        code, output = end(process, signal.SIGINT, signal.SIGTERM)
    assert code == 130, output
    assert shop.tracked("group").info.status == "KILLED"
    shop.resume("group", "training.num_epochs=1")
    run = shop.tracked("group")
    assert run.info.status == "FINISHED" and "bookends.error" not in run.data.tags


def test_a_run_that_is_stopped_leaves_the_last_good_report_in_its_place(shop):
    shop.run("good")
    report = shop.path / "artifacts" / "reports" / "recommendation_report.md"
    before = report.read_bytes()
    with shop.training("stopped", "training.num_epochs=500") as process:
        end(process, signal.SIGINT)
    assert report.read_bytes() == before


def test_a_run_stopped_early_is_resumed_from_nothing(shop):
    """Before its first epoch ended, or just after its directory appeared."""
    shop.run("early")
    history, directory = shop.stream("early"), shop.directory("early")
    (directory / "checkpoint.pt").unlink()
    shop.resume("early")
    assert shop.stream("early") == history
    for path in directory.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shop.resume("early")
    assert shop.stream("early") == history


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_no_run_directory_appears_without_its_config(shop, monkeypatch):
    monkeypatch.setattr(RunDirectory, "write_config", full)
    refused = shop.run("full", expected=2)
    assert refused.stderr.splitlines()[-1] == "bookends: No space left on device"
    assert list(shop.directory("full").parent.iterdir()) == []


@pytest.mark.parametrize("file", ["report.html", "segments.json", "per_user.parquet"])
def test_a_disk_that_is_full_at_the_end_is_one_line_and_the_run_goes_on(shop, monkeypatch, file):
    whole = Path.replace

    def replace(path, target):
        return full() if str(target).endswith(file) else whole(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        refused = shop.run("full", expected=2)
    assert refused.stderr.splitlines()[-1].endswith("must be writable (No space left on device)")
    assert shop.record("full").status == "failed"
    shop.resume("full")
    assert shop.record("full").status == "finished"
    assert not [path for path in shop.path.rglob(".*") if not path.name.endswith(".lock")]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("experiment.runs_dir=config.yaml", "'experiment.runs_dir' must lie where a folder"),
        ("diagnostics.report_path=r.html", "must name the Markdown report"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_the_work(shop, setting, message):
    refused = shop.run("nowhere", setting, expected=2)
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
    refused = shop.run("large", expected=2)
    assert "must fit into memory, and does not" in refused.stderr.splitlines()[-1]


def test_a_run_that_trains_is_nobody_elses_and_reconcile_ends_it_when_killed(shop):
    with shop.training("busy", "training.num_epochs=500") as process:
        refused = shop.resume("busy", expected=2)
        end(process, signal.SIGKILL)
    assert "another process is training there" in refused.stderr
    assert shop.tracked("busy").info.status == "RUNNING"
    assert "runs ended: 1" in shop.bookends("reconcile", "--tracking-uri", shop.uri).stdout
    run = shop.tracked("busy")
    assert (run.info.status, run.data.tags["bookends.status"]) == ("FAILED", "killed")


def test_resuming_with_more_epochs_goes_on_and_with_another_setting_is_refused(shop):
    shop.run("short", *CONSTANT)
    file = shop.directory("short") / "config.yaml"
    text = file.read_text()
    refused = [shop.resume("short", "training.batch_size=7", expected=2)]
    file.write_text(text.replace("batch_size: 4", "batch_size: 7"))
    refused.append(shop.resume("short", expected=2))
    for each in refused:
        assert each.stderr.strip().endswith("keep 'training.batch_size': it was 4, got 7")
    file.write_text(text)
    shop.resume("short", "training.num_epochs=5")
    shop.run("long", *CONSTANT, "training.num_epochs=5")
    assert shop.stream("short") == shop.stream("long")
    short, long = shop.record("short"), shop.record("long")
    assert short.evaluation == long.evaluation  # the refit of the three epochs is let go
    assert short.refit["epochs"] == long.refit["epochs"] == long.best_epoch


def test_the_epochs_of_a_falling_step_size_cannot_change_on_resume(board_config):
    before, now = (board_config({"training": {"num_epochs": n_epochs}}) for n_epochs in (3, 5))
    said = r"keep 'training\.num_epochs' where 'training\.schedule' is 'linear'"
    with pytest.raises(ConfigError, match=said):
        check_resumable(before, now)


def test_resuming_on_other_data_is_refused(shop, board_settings):
    own = shop.path / "users.csv"
    content = Path(board_settings["data"]["interactions_path"]).read_text()
    own.write_text(content)
    shop.run("moved", f"data.interactions_path={own}")
    own.write_text(content.replace(",5,", ",4,", 1))
    refused = shop.resume("moved", expected=2).stderr
    assert "must have the data it began with" in refused
    assert f"the content of '{own}' has changed" in refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data.books_path", "nowhere.csv"), "nowhere.csv"),
        (("--config", "nowhere.yaml"), "nowhere.yaml: must be a readable file"),
        (("--resume", "nowhere"), "nowhere: must be a run directory"),
        (("--experiment.tracking_uri", "ftp://x"), "ftp://x"),
        (("--diagnostics.report_path", "/proc/nowhere/report.md"), "/proc/nowhere"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(shop, arguments, message):
    if "--config" not in arguments and "--resume" not in arguments:
        arguments = ("--config", "config.yaml", *arguments)
    done = shop.bookends("run", *arguments)
    assert done.exit_code == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARN"))]
    assert len(lines) == 1 and lines[0].startswith("bookends: ") and message in lines[0]


def test_a_run_that_fails_says_so_everywhere(shop):
    words = run_words("diverged", ["training.learning_rate=1e300"])
    assert shop.bookends(*words).exit_code != 0
    record = shop.record("diverged")
    assert record.status == "failed" and record.error
    run = shop.tracked("diverged")
    assert (run.info.status, run.data.tags["bookends.status"]) == ("FAILED", "failed")
    assert run.data.tags["bookends.error"] == record.error


def test_a_run_name_is_not_used_twice_and_a_report_is_written_again_byte_for_byte(shop):
    shop.run("same")
    assert "--resume" in shop.run("same", expected=2).stderr
    path = shop.directory("same") / "report.html"
    before = path.read_bytes()
    path.unlink()
    assert shop.bookends("report", "artifacts/runs/same").exit_code == 0
    assert path.read_bytes() == before


@pytest.mark.slow
def test_under_mlflow_run_the_open_run_is_used(shop):
    here = shop.path
    parameters = [
        f"config={here}/config.yaml",
        "training.num_epochs=2",
        f"experiment.runs_dir={here}/runs",
        f"diagnostics.report_path={here}/report.md",
    ]
    words = ["-m", "mlflow", "run", str(ROOT), "--env-manager", "local"]
    words += ["--experiment-name", "projects"]
    words += [word for parameter in parameters for word in ("-P", parameter)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = shop.in_a_process(*words, MLFLOW_TRACKING_URI=shop.uri, PATH=path)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(shop.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("projects").experiment_id])
    (run_dir,) = (here / "runs").iterdir()
    assert (run.info.run_name, run.info.status) == (run_dir.name, "FINISHED")
    assert run.data.params["cfg.training.num_epochs"] == "2"
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 2
    assert yaml.safe_load((run_dir / "config.yaml").read_text())
    assert (here / "report.html").exists()
