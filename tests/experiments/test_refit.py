"""The training on train and validation together."""

import signal

import pytest
import torch

from recsys.training.stopping import EarlyStopping
from tests.experiments.shop import run_words

FOUR = "training.num_epochs=4"
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


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_run_stopped_in_its_refit_is_resumed_to_the_model_it_would_have_been(
    shop, number, exit_code, monkeypatch
):
    update = EarlyStopping.update  # every epoch is the best, here and in the process that is ended
    monkeypatch.setattr(EarlyStopping, "update", lambda self, at, value: update(self, at, at))
    words = run_words("stopped", [FOUR])
    done = shop.in_a_process("-c", STOPPED_IN_REFIT, str(int(number)), *words)
    assert done.returncode == exit_code, done.stderr
    state = shop.checkpoint("stopped")
    assert (len(state["trainer"]["history"]), len(state["refit"]["history"])) == (4, 2)
    shop.resume("stopped")
    shop.run("whole", FOUR)
    stopped, undisturbed = shop.record("stopped"), shop.record("whole")
    assert stopped.refit["epochs"] == undisturbed.refit["epochs"] == stopped.best_epoch == 4
    assert stopped.evaluation == undisturbed.evaluation
    weights, expected = shop.weights("stopped"), shop.weights("whole")
    assert weights.keys() == expected.keys() and weights
    assert all(torch.equal(weights[key], expected[key]) for key in weights)


def test_the_refit_is_on_train_and_validation_and_told_to_the_tracker(shop):
    shop.run("refit")
    record = shop.record("refit")
    losses = [epoch["train_loss"] for epoch in shop.checkpoint("refit")["refit"]["history"]]
    assert len(losses) == record.best_epoch == record.refit["epochs"]
    assert losses[0] != record.history[0].train_loss
    metrics = shop.tracked("refit").data.metrics
    assert metrics["refit/seconds"] == record.refit["seconds"]
    report = (shop.directory("refit") / "report.md").read_text()
    assert f"trained anew for {record.best_epoch} epochs on train and validation" in report


def test_without_a_refit_the_first_model_is_the_one_tested(shop):
    shop.run("first", "training.refit=false")
    record, state = shop.record("first"), shop.checkpoint("first")
    assert record.refit is None and "refit" not in state
    best = state["trainer"]["best_weights"]["item_tower.encoder.bias"]
    assert any(torch.equal(best, tensor) for tensor in shop.weights("first").values())
    assert not any(key.startswith("refit/") for key in shop.tracked("first").data.metrics)
