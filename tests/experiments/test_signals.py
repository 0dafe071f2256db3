import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.signals import Interrupted, held, ignored, interruptible

ROOT = Path(__file__).parents[2]


def test_a_signal_within_ends_what_is_under_way_at_once():
    after = []
    with interruptible(), pytest.raises(Interrupted) as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        after.append("went on")
    assert caught.value.exit_code == 143
    assert not after


def test_a_held_signal_waits_for_the_end_of_the_block():
    done = []
    with interruptible(), pytest.raises(Interrupted) as caught:
        with held():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("within")
        done.append("after")
    assert caught.value.exit_code == 130
    assert done == ["within"]


def test_a_held_signal_is_not_lost_where_the_block_fails():
    with interruptible(), pytest.raises(Interrupted) as caught, held():
        os.kill(os.getpid(), signal.SIGINT)
        raise OSError("the store is away")
    assert isinstance(caught.value.__context__, OSError)


def test_a_block_without_a_signal_leaves_the_handlers_as_they_were():
    with interruptible():
        before = signal.getsignal(signal.SIGINT)
        with held():
            assert signal.getsignal(signal.SIGINT) is not before
        assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_a_held_block_at_once():
    code = (
        "import os, signal\n"
        "from experiments.signals import held, interruptible\n"
        "with interruptible(), held():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('never', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("still here\n", -signal.SIGINT)


def test_what_is_started_after_a_held_signal_can_be_ended():
    """A worker that inherited an ignored SIGTERM was killed after half a minute."""
    code = "import signal; print(signal.getsignal(signal.SIGTERM).name)"
    with interruptible(), pytest.raises(Interrupted), held():
        os.kill(os.getpid(), signal.SIGINT)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    assert done.stdout == "SIG_DFL\n"


def test_after_a_first_signal_nothing_is_held():
    with interruptible():
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
        with held():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
            assert signal.getsignal(signal.SIGTERM) is ignored


class Ends:
    """Interrupts in its finalizer, out of which Python lets no exception."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # the handler runs here


def test_a_signal_that_comes_upon_a_finalizer_is_not_lost():
    before = sys.unraisablehook
    with interruptible(), pytest.raises(Interrupted):
        Ends()
        time.sleep(20)
    assert sys.unraisablehook is before


def test_a_signal_that_comes_again_where_signals_are_held_is_not_lost():
    done = []
    with interruptible(), pytest.raises(Interrupted) as caught:
        Ends()
        with held():
            time.sleep(0.5)
            done.append("within")
        time.sleep(20)
    assert caught.value.exit_code == 130
    assert done == ["within"]


def test_a_signal_does_not_come_again_after_the_end(monkeypatch):
    monkeypatch.setattr("experiments.signals.AGAIN_SECONDS", 0.2)

    with interruptible():
        Ends()
    time.sleep(0.5)  # a signal now would end the tests


def test_what_else_a_finalizer_raises_is_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(str(args.exc_value)))

    class Fails:
        def __del__(self):
            raise ValueError("mine")

    with interruptible():
        Fails()
    assert told == ["mine"]
