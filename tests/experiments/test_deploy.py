"""The files of docs/deploy: their form, and that what they run is there."""

import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from experiments.cli import main
from experiments.settings import check_config, parse_overrides
from recsys.errors import ConfigError
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"


def test_the_compose_file_has_the_form_of_compose():
    schema = ["--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_manifests_have_the_form_of_kubernetes():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert len(documents) == 5
    for document in documents:
        kubernetes_validate.validate(document, "1.30", strict=True)


def test_the_batch_script_has_the_form_of_bash():
    done = subprocess.run(["bash", "-n", DEPLOY / "sweep.sbatch"], check=False)
    assert done.returncode == 0


def test_the_batch_script_lets_the_parent_end_when_its_time_is_up(tmp_path):
    tool = tmp_path / "bookends"
    tool.write_text(
        "#!/bin/bash\n"
        "trap 'sleep 0.5; echo queued again > said; exit 143' TERM\n"
        "echo begun > said; while true; do sleep 0.05; done\n"
    )
    tool.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "BOOKENDS_STORAGE": "postgresql://here/sweeps",
        "MLFLOW_TRACKING_URI": "http://here",
    }
    words = ["bash", DEPLOY / "sweep.sbatch", "space.yaml", "name", "3"]
    script = subprocess.Popen(words, cwd=tmp_path, env=environment)
    wait_until((tmp_path / "said").exists, process=script)
    time.sleep(0.2)  # the script awaits it by then
    script.terminate()
    assert script.wait(timeout=20) == 143
    assert (tmp_path / "said").read_text() == "queued again\n"


def test_the_image_takes_files_and_extras_that_there_are():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert {"recsys", "tracking", "sweeps", "experiments"} <= {*copied}
    assert all((ROOT / name).exists() for name in copied)
    (extras,) = re.findall(r"'\.\[(.*)\]'", "\n".join(lines))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {*extras.split(",")} <= {*project["optional-dependencies"]}


def commands():
    """Every command of 'bookends' in the files, as words."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in compose.items():
        if service.get("image") == "bookends" and "entrypoint" not in service:
            words = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in service["command"]]
            yield pytest.param(words, id=f"compose: {name}")
    for document in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()):
        if document["kind"] in ("Deployment", "Job"):
            (container,) = document["spec"]["template"]["spec"]["containers"]
            yield pytest.param(container["args"], id=f"kubernetes: {document['metadata']['name']}")
    script = (DEPLOY / "sweep.sbatch").read_text()
    for number, line in enumerate(re.findall(r"bookends (sweep .*?)(?: \"\$@\")?(?: &|;)", script)):
        words = shlex.split(
            line.replace("$trials", "3").replace("$space", "sweeps/spaces/quick.yaml")
        )
        yield pytest.param(words, id=f"slurm: {number}")


def parsed(words, monkeypatch):
    """What the command line makes of the words: the options of the command that they name."""
    monkeypatch.setenv("BOOKENDS_STORAGE", "postgresql://here/sweeps")
    command, context = main, None
    while isinstance(command, click.Group):
        context = command.make_context(command.name, words, parent=context)
        words = [*context._protected_args, *context.args]
        name, command, words = command.resolve_command(context, words)
    return command.make_context(name, words, parent=context).params


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_is_one_of_the_command_line(words, monkeypatch):
    params = parsed(list(words), monkeypatch)
    check_config({}, parse_overrides(params.get("overrides", ())), origin="deploy")
    if "space" in params:
        assert (ROOT / str(params["space"]).removeprefix("/opt/bookends/")).is_file()


def test_a_misspelt_option_would_be_noticed(monkeypatch):
    with pytest.raises(click.UsageError):
        parsed(["serve", "--hots=0.0.0.0"], monkeypatch)
    params = parsed(["sweep", "--space=x", "--trails=3"], monkeypatch)
    with pytest.raises(ConfigError):
        check_config({}, parse_overrides(params["overrides"]), origin="deploy")
