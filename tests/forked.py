"""Python's command line in processes that are forked from one that has imported what they need.

A process of its own takes seconds of a core to import PyTorch and MLflow; a forked one takes none.
It is a process all the same: of its own session, with its own files and signals.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import weakref
from multiprocessing import get_context
from pathlib import Path

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "experiments.runner",
        "experiments.register",
        "experiments.compare",
        "experiments.sweep.parent",
        "experiments.sweep.worker",
    ]
)


def _do(command, cwd, environ, output):
    os.setsid()
    for number, file in enumerate(output, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    kind, code, *words = command
    if kind == "-m":
        sys.argv = [code, *words]
        runpy.run_module(code, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *words]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


class Forked:
    """A process that does what ``python COMMAND`` does, to be used as one of ``subprocess``.

    Args:
        command: ``-m MODULE`` or ``-c CODE``, and words.
        cwd: where it runs.
        env: all of its environment.
    """

    def __init__(self, *command, cwd, env):
        self.args = list(map(str, command))
        place = Path(tempfile.mkdtemp(prefix="bookends-forked-"))
        weakref.finalize(self, shutil.rmtree, place)
        self._output = (place / "stdout", place / "stderr")
        given = (self.args, str(cwd), dict(env), self._output)
        self._process = FORKS.Process(target=_do, args=given)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """What it printed, and what it said on stderr, once it has ended."""
        self.wait(timeout)
        return tuple(path.read_text() if path.exists() else "" for path in self._output)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()


def run(*command, cwd, env, timeout=280):
    """The same as ``subprocess.run`` gives of it, with its output as text."""
    process = Forked(*command, cwd=cwd, env=env)
    try:
        output = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, *output)
