"""A store with a few real runs and a sweep, one MLflow server over it, and a browser.

What the pages look like is kept in ``BOOKENDS_SCREENSHOTS``, else in ``artifacts/screenshots``.
"""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests import cli, forked

ROOT = Path(__file__).parents[2]
SHOTS = Path(os.environ.get("BOOKENDS_SCREENSHOTS") or ROOT / "artifacts" / "screenshots")
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_ASSISTANT = """try {
    localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')
    localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')
    localStorage.setItem('mlflow.workflowType_v1', '"machine_learning"')
} catch (refused) {}  // in a frame without an origin"""
PATIENCE_MS = 20_000
SPACE = {
    "training.learning_rate": {"float": [0.001, 0.02], "log": True},
    "model.temperature": {"float": [0.05, 0.3]},
}
SWEEP, COMPARISON = "learning-rates", "summed-or-concatenated"
RUNS = {  # by name; None is named by the job itself
    None: [],
    "concatenated": [
        *("--model.item_encoder.fusion", "concat"),
        *("--training.learning_rate", "0.001"),
    ],
    "wide-towers": [
        "--model.user_encoder.id_embedding.params.embedding_dim",
        "64",
        "--training.learning_rate",
        "0.01",
    ],
}


@dataclasses.dataclass(frozen=True)
class World:
    """What the store holds.

    Attributes:
        run_dir: the directory of "wide-towers".
        uri: of the store.
        address: of the server that shows it.
        experiment_id: of all runs.
        run_ids: of the single runs, by name, in the order they were made.
        sweep_id: of the sweep's run.
        sweep_name: of the sweep.
        trials: names of the runs below it.
        comparison: name of the run that compares the first two.
    """

    run_dir: Path
    uri: str
    address: str
    experiment_id: str
    run_ids: dict[str, str]
    sweep_id: str
    sweep_name: str
    trials: tuple[str, ...]
    comparison: str


@pytest.fixture(scope="module")
def world(tmp_path_factory, tracking_server):
    """Three runs of different settings on the sample and a sweep, shown by an ``mlflow server``.

    Processes that share the suite share the store, and each has a server of its own over it.
    """
    _require_browser()
    from tracking.store import connect

    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ui"
    directory.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        client = connect(f"sqlite:///{directory}/mlflow.db")
        with FileLock(directory / "world.lock"):
            made = _read(directory) or _fill(directory, client)
        with tracking_server(f"sqlite:///{directory}/mlflow.db", directory) as address:
            yield dataclasses.replace(made, address=address)


@pytest.fixture(scope="module")
def context(world):
    """A browser that has MLflow's own panels closed; it is in the server's address alone."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        made = browser.new_context(
            base_url=world.address,
            viewport={"width": 1920, "height": 1080},
            reduced_motion="reduce",
        )
        made.add_init_script(NO_ASSISTANT)
        made.set_default_timeout(PATIENCE_MS)
        yield made
        browser.close()


@pytest.fixture(scope="module")
def tab(context, world):
    """A page, what it asked of elsewhere, and what failed in it. To load it anew takes seconds."""
    page, outside, failures = context.new_page(), [], []

    def note(request):
        if not request.url.startswith((world.address, "data:", "blob:")):
            outside.append(request.url)

    page.on("request", note)
    page.on("pageerror", lambda error: failures.append(str(error)))
    return page, outside, failures


@pytest.fixture
def visit(tab):
    """Opens an address of the UI; at the end nothing must have failed or come from elsewhere."""
    page, *noted = tab

    def go(address):
        page.goto("/#/nowhere")  # from one artifact to another MLflow does not follow the address
        page.goto(f"/{address}")
        return page

    yield go
    try:
        page.goto("/#/nowhere")
        assert noted == [[], []]
    finally:
        for each in noted:
            each.clear()


@pytest.fixture
def keep():
    """Keeps a picture of a page, to be looked at."""
    SHOTS.mkdir(parents=True, exist_ok=True)

    def save(page, name):
        page.screenshot(path=SHOTS / f"{name}.png")

    return save


def _require_browser():
    if not CHROMIUM.exists():
        pytest.skip(f"pages are seen with {CHROMIUM}, which is not here: apt-get install chromium")


def _read(directory):
    """What another process made."""
    path = directory / "world.json"
    if not path.exists():
        return None
    made = json.loads(path.read_text())
    return World(**made | {"run_dir": Path(made["run_dir"]), "trials": tuple(made["trials"])})


def _fill(directory, client):
    from experiments.console import RunConsole
    from experiments.runner import run
    from experiments.settings import load_config

    uri = f"sqlite:///{directory}/mlflow.db"
    (directory / "base.yaml").write_text(yaml.safe_dump(_settings(directory, uri)))
    run_ids = {}
    for name, overrides in RUNS.items():
        named = [] if name is None else ["--experiment.run_name", name]
        record = run(load_config(directory / "base.yaml", [*overrides, *named]), RunConsole())
        run_ids[record.run_name] = _run_id(client, record.run_name)
    _sweep(directory)
    sweep_id = _run_id(client, SWEEP)
    experiment_id = client.get_run(sweep_id).info.experiment_id
    below = client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{sweep_id}'")
    own, summed, _ = run_ids.values()
    _command(["register", own, "--tracking-uri", uri], 0)
    _command(["register", summed, "--tracking-uri", uri], 1)  # no better: the champion stays
    _command(["compare", own, summed, "--tracking-uri", uri, "--name", COMPARISON], 0)
    made = World(
        run_dir=directory / "runs" / "wide-towers",
        uri=uri,
        address="",
        experiment_id=experiment_id,
        run_ids=run_ids,
        sweep_id=sweep_id,
        sweep_name=SWEEP,
        trials=tuple(trial.info.run_name for trial in below),
        comparison=COMPARISON,
    )
    (directory / "world.json").write_text(json.dumps(dataclasses.asdict(made), default=str))
    return made


def _command(words, expected):
    result = cli.bookends(*words)
    assert result.exit_code == expected, result.output


def _settings(directory, uri):
    quick = yaml.safe_load((ROOT / "experiments" / "configs" / "quick.yaml").read_text())
    return quick | {
        "data": {
            "books_path": str(ROOT / "data" / "sample" / "books.csv"),
            "interactions_path": str(ROOT / "data" / "sample" / "users.csv"),
            "cache_dir": str(directory / "cache"),
        },
        "experiment": {"runs_dir": str(directory / "runs"), "tracking_uri": uri},
    }


def _sweep(directory):
    (directory / "space.yaml").write_text(yaml.safe_dump(SPACE))
    done = forked.run(
        *("-m", "experiments", "sweep", "--space", "space.yaml", "--config", "base.yaml"),
        *("--trials", "3", "--startup-trials", "2", "--finalists", "0", "--no-final"),
        *("--baseline-trials", "0", "--name", SWEEP, "--training.num_epochs", "2"),
        cwd=directory,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _run_id(client, name):
    experiments = [found.experiment_id for found in client.search_experiments()]
    (run,) = client.search_runs(experiments, f"attributes.run_name = '{name}'")
    return run.info.run_id
