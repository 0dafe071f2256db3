"""The files of docs/ci: their form, their steps as plain shell, and the summary they write."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from experiments.cli import main
from experiments.settings import dump_yaml
from recsys.reporting.record import RunRecord
from tests import forked
from tracking.mirror import mirror

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / "docs/ci/github-actions.yaml"
GITLAB = ROOT / "docs/ci/gitlab-ci.yaml"
BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("github-workflows", GITHUB),
        ("github-workflows", ROOT / ".github/workflows/ci.yml"),
        ("gitlab-ci", GITLAB),
    ],
)
def test_the_form_is_that_of_the_service(schema, path):
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", path]
    done = subprocess.run(check, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def github_steps():
    """The commands of the workflow by the names of their steps, all but the installation."""
    steps = yaml.safe_load(GITHUB.read_text())["jobs"]["train"]["steps"]
    commands = {step["name"]: step["run"] for step in steps if "run" in step}
    assert "${{" not in "".join(commands.values())  # they are plain shell
    return {name: command for name, command in commands.items() if name != "Install"}


# What the shell finds as 'bookends': it hands its words to the test, which runs the command.
TOOL = f"""#!{sys.executable} -IS
import json, os, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect(os.environ["ASKED"])
asked.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
asked.shutdown(socket.SHUT_WR)
code, out, err = json.load(asked.makefile())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


class Job:
    """A checkout in which steps run as a runner would run them."""

    def __init__(self, folder, **variables):
        self.folder, self.summary = folder, folder / "summary.md"
        tool = folder / "bin" / "bookends"
        tool.parent.mkdir()
        tool.write_text(TOOL)
        tool.chmod(0o755)
        self.asked = socket.socket(socket.AF_UNIX)
        self.asked.bind(str(folder / "asked"))
        self.asked.listen()
        self.asked.settimeout(0.05)
        self.environment = os.environ | {
            "PATH": f"{tool.parent}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": "",  # as where the secret is not set
            "ASKED": str(folder / "asked"),
            "CONFIG": "config.yaml",
            "GITHUB_STEP_SUMMARY": str(self.summary),
            **variables,
        }

    def run(self, command, **variables):
        """Exit code of a step, and what it printed."""
        with tempfile.TemporaryFile("w+") as printed:
            process = subprocess.Popen(
                [*BASH, command],
                cwd=self.folder,
                env=self.environment | variables,
                stdout=printed,
                stderr=printed,
            )
            while process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    self.answer(self.asked.accept()[0])
            printed.seek(0)
            output = printed.read()
        assert "Traceback" not in output, output
        return process.returncode, output

    def answer(self, connection):
        """Run the command that the shell asks for."""
        with connection, connection.makefile("rw") as asked:
            words, cwd, environment = json.load(asked)
            done = forked.run("-m", "experiments", *words, cwd=cwd, env=environment)
            json.dump((done.returncode, done.stdout, done.stderr), asked)


@pytest.fixture(scope="module")
def job(board_config, tmp_path_factory):
    """A checkout whose job has trained a run, the first champion."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "config.yaml").write_text(dump_yaml(board_config({"experiment": {"tracking": True}})))
    job = Job(folder, RUN_NAME="ci-1", RUN="artifacts/runs/ci-1")
    steps = github_steps()
    for name in ("Train", "Promote"):
        code, printed = job.run(steps[name])
        assert code == 0, printed
    yield job
    job.asked.close()


def sent(job, name, change):
    """A run like that of the job, whose users' values are others, in the store of the job."""
    run_dir = job.folder / "artifacts/runs" / name
    shutil.copytree(job.folder / "artifacts/runs/ci-1", run_dir)
    (run_dir / "tracking.json").unlink()
    dataclasses.replace(RunRecord.read(run_dir), run_name=name).write(run_dir)
    frame = pd.read_parquet(run_dir / "per_user.parquet")
    ranked = [column for column in frame if "ndcg@10" in column]
    frame[ranked] = change(frame[ranked])
    frame.to_parquet(run_dir / "per_user.parquet")
    mirror(run_dir, f"sqlite:///{job.folder / 'mlflow.db'}")
    return f"artifacts/runs/{name}"


def test_a_worse_run_fails_at_the_gate_after_its_summary(job):
    run = sent(job, "worse", lambda values: values * 0)
    steps = github_steps()
    code, printed = job.run(steps["Summary"], RUN=run)
    assert code == 0, printed
    code, printed = job.run(steps["Gate"], RUN=run)
    assert code == 1
    assert "would not be champion" in printed
    summary = job.summary.read_text()
    assert "worse is worse than ci-1 on NDCG@10" in summary
    assert "would not be champion" in summary


def test_the_champion_passes_its_own_gate(job):
    code, printed = job.run(github_steps()["Gate"])
    assert code == 0, printed
    assert "would be champion" in printed


def test_the_report_and_its_pdf_are_what_is_kept(job):
    pytest.importorskip("pypdfium2")
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"WeasyPrint cannot be used: {error}")
    code, printed = job.run(github_steps()["Report"])
    assert code == 0, printed
    (keep,) = [
        step["with"]["path"].replace("${{ env.RUN }}", "artifacts/runs/ci-1").split()
        for step in yaml.safe_load(GITHUB.read_text())["jobs"]["train"]["steps"]
        if step.get("uses", "").startswith("actions/upload-artifact")
    ]
    kept = {path.name for pattern in keep for path in job.folder.glob(pattern)}
    assert kept == {"report.md", "report.html", "report.pdf", "figures", "record.json"}


def test_gitlab_runs_the_same_commands():
    train, report, summary, gate = yaml.safe_load(GITLAB.read_text())["train"]["script"]
    steps = github_steps()
    assert (train, report) == (steps["Train"], steps["Report"])
    assert steps["Summary"].startswith(summary.removesuffix("| tee summary.md"))
    assert gate in steps["Gate"]


def summary_of(job, *arguments):
    """What the command prints, in this process."""
    run = str(job.folder / "artifacts/runs/ci-1")
    return CliRunner().invoke(main, ["report", run, "--summary", *arguments])


def test_the_summary_holds_the_key_figures_of_the_record(job):
    record = RunRecord.read(job.folder / "artifacts/runs/ci-1")
    mean = record.evaluation.model.means["ndcg@10"]
    result = summary_of(job)
    assert result.exit_code == 0
    assert f"| NDCG@10 | {mean:.3f} |" in result.stdout
    assert result.stdout.startswith("# ci-1\n")


def test_a_store_that_is_not_there_leaves_the_figures(job, tmp_path):
    result = summary_of(job, "--tracking-uri", f"sqlite:///{tmp_path / 'none.db'}")
    assert result.exit_code == 0
    assert "NDCG@10" in result.stdout
    assert "The champion could not be compared: sqlite" in result.stdout


def test_the_password_of_a_store_is_not_shown(job):
    result = summary_of(job, "--tracking-uri", "postgresql://user:secret@127.0.0.1:1/none")
    assert "The champion could not be compared" in result.stdout
    assert "secret" not in result.output


def test_the_champion_itself_is_told(job):
    assert "This run is the champion, version 1 of bookends." in summary_of(job).stdout


def test_another_registered_model_has_another_champion(job):
    assert "No version of other is champion yet." in summary_of(job, "--name", "other").stdout


@pytest.mark.parametrize("option", [["--name", "x"], ["--tracking-uri", "x"]])
def test_what_is_for_the_summary_is_refused_without_it(option, tmp_path):
    result = CliRunner().invoke(main, ["report", str(tmp_path), *option])
    assert result.exit_code == 2
    assert "are for --summary" in result.output


def test_the_summary_makes_no_pdf(tmp_path):
    result = CliRunner().invoke(main, ["report", str(tmp_path), "--summary", "--pdf"])
    assert result.exit_code == 2
