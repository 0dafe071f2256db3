"""A directory in which commands run, on the checkerboard and with a tracker of its own."""

import contextlib
import json
import os

from mlflow import MlflowClient
from safetensors.torch import load

from recsys.reporting.record import RunRecord
from recsys.training.checkpoint import load_checkpoint
from tests import cli, forked
from tests.waiting import wait_until

STREAM = ("number", "train_loss", "parts", "validation", "is_best")


class Shop:
    """A directory to run in, with a config of the checkerboard and a tracker of its own."""

    def __init__(self, path):
        self.path, self.uri = path, f"sqlite:///{path}/mlflow.db"

    def bookends(self, *words):
        with contextlib.chdir(self.path):
            return cli.bookends(*words)

    def run(self, name, *settings, expected=0):
        words = run_words(name, settings)
        return _ended_with(expected, self.bookends(*words))

    def resume(self, name, *settings, expected=0):
        words = ["run", "--resume", f"artifacts/runs/{name}", *(f"--{word}" for word in settings)]
        return _ended_with(expected, self.bookends(*words))

    def in_a_process(self, *command, **environment):
        return forked.run(*command, cwd=self.path, env=os.environ | environment)

    @contextlib.contextmanager
    def training(self, name, *settings, epochs=1):
        """A run in a process of its own, from when so many epochs are done until it has ended."""
        words = ["-m", "experiments", *run_words(name, settings)]
        process = forked.Forked(*words, cwd=self.path)
        path = self.directory(name) / "record.json"

        def has_begun():
            return path.exists() and len(json.loads(path.read_text())["history"]) >= epochs

        try:
            wait_until(has_begun, 240, process=process, said=process.said)
            yield process
        finally:
            process.kill()
            process.wait(60)

    def directory(self, name):
        return self.path / "artifacts" / "runs" / name

    def record(self, name):
        return RunRecord.read(self.directory(name))

    def stream(self, name):
        return [{key: getattr(epoch, key) for key in STREAM} for epoch in self.record(name).history]

    def tracked(self, name):
        (run,) = (run for run in self.all_tracked() if run.info.run_name == name)
        return run

    def all_tracked(self):
        client = MlflowClient(self.uri)
        found = [experiment.experiment_id for experiment in client.search_experiments()]
        return client.search_runs(found)

    def checkpoint(self, name):
        return load_checkpoint(self.directory(name) / "checkpoint.pt")

    def weights(self, name):
        """All tensors of the saved recommender."""
        return {
            f"{path.name}/{key}": tensor
            for path in (self.directory(name) / "model").rglob("*.safetensors")
            for key, tensor in load(path.read_bytes()).items()
        }


def run_words(name, settings):
    words = [f"--{word}" for word in (f"experiment.run_name={name}", *settings)]
    return ["run", "--config", "config.yaml", *words]


def _ended_with(expected, done):
    assert done.exit_code == expected, done.output
    return done
