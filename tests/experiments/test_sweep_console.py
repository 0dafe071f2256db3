"""What a terminal shows of a sweep while it goes on, and after."""

import io

from rich.console import Console

from experiments.sweep.console import SweepConsole
from sweeps.record import Objective, TrialRecord


def test_the_live_table_stays_after_the_trials():
    written = io.StringIO()
    console = SweepConsole(Console(file=written, force_terminal=True, width=100, color_system=None))
    trial = TrialRecord(
        number=7, state="complete", params={"training.learning_rate": 0.0123}, values=(0.25,)
    )
    with console.trials("search", (Objective(metric="ndcg@10", direction="maximize"),), ()):
        console.show((trial,), limit=1)
    console.say("done")
    erased = "\x1b[2K"
    kept = written.getvalue().rpartition(erased)[2]
    assert "learning_rate 0.0123" in kept
    assert "done" in kept


def test_a_finalist_is_named_by_the_trial_that_it_trains_again():
    written = io.StringIO()
    console = SweepConsole(Console(file=written, width=100))
    trial = TrialRecord(number=0, state="complete", values=(0.25,), origin="trial 5 seed 2")
    with console.trials("finalists", (Objective(metric="ndcg@10", direction="maximize"),), ()):
        console.show((trial,), limit=8)
    assert "trial 5 seed 2  complete  1/8  ndcg@10 0.25" in written.getvalue()
    assert "trial   0" not in written.getvalue()


def test_a_configuration_that_was_run_again_counts_once():
    written = io.StringIO()
    console = SweepConsole(Console(file=written, width=100))
    lost = TrialRecord(number=0, state="failed")
    again = TrialRecord(number=1, state="complete", values=(0.25,), retry_of=0)
    with console.trials("search", (Objective(metric="ndcg@10", direction="maximize"),), ()):
        console.show((lost, again), limit=1)
    assert "trial   1  complete  1/1" in written.getvalue()
