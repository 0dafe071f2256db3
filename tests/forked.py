"""Python's command line in processes that are forked from one that has imported what they need.

A process of its own takes seconds of a core to import PyTorch and MLflow; a forked one takes none.
It is a process all the same: of its own session, with its own files and signals.

What such a process starts with the same Python is forked as well, by its twin: that was forked
before the process did anything, and forks on demand.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import pickle
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from multiprocessing import forkserver, get_context
from pathlib import Path

import torch

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "experiments.runner",
        "experiments.register",
        "experiments.compare",
        "experiments.sweep.parent",
        "experiments.sweep.worker",
        "tests.warm",
    ]
)
SET_CHILD_SUBREAPER = 36  # of prctl, in <linux/prctl.h>
MOST_BYTES = 2**20
"""Of a command with its environment."""


def _call_it(*words):
    """Have the system list this process under this command line, as far as there is room for it."""
    if sys.platform != "linux":
        return
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = map(int, fields[45:47])  # of the words of the server that was forked
    line = "".join(f"{word}\0" for word in words).encode()[: end - start]
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


def _run(kind, code, *words):
    _call_it(sys.executable, kind, code, *words)
    if kind == "-m":
        sys.argv = [code, *words]
        runpy.run_module(code, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *words]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _enter(cwd, environ, streams):
    """Be where a new process begins: standard streams are files by number."""
    for number, file in streams.items():
        os.dup2(file, number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    if "OMP_NUM_THREADS" in os.environ:  # PyTorch looked when it was imported
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def _do(command, cwd, environ, output, forks_children):
    os.setsid()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    _enter(cwd, environ, {n: os.open(file, flags) for n, file in enumerate(output, start=1)})
    if forks_children and sys.platform == "linux":
        _fork_children()
        # What it forks comes from the server that it came from; Python would begin one for it.
        forkserver._forkserver.ensure_running = forkserver.ensure_running = lambda: None
    _run(*command)


def _fork_children():
    """Have ``subprocess`` fork what is this Python, from a twin of this process as it is now."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        mine.close()
        _call_it("twin", str(os.getppid()))
        _serve(its)
        os._exit(0)
    its.close()
    # Where the one that forked a process has ended, the process is a child of this one.
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    fork_exec, one_at_a_time = subprocess._fork_exec, threading.Lock()

    def fork(args, executables, close_fds, kept_fds, cwd, environ, *rest):
        python, *command = map(os.fsdecode, args)
        stdin, _, _, stdout, _, stderr = rest[:6]
        starts_session = rest[9]
        if python != sys.executable or command[0] not in ("-m", "-c") or len(kept_fds) > 1:
            return fork_exec(args, executables, close_fds, kept_fds, cwd, environ, *rest)
        streams = {n: file for n, file in enumerate((stdin, stdout, stderr)) if file != -1}
        given = [os.fsdecode(each).split("=", 1) for each in environ or ()]
        asked = (command, cwd or os.getcwd(), dict(given or os.environ), starts_session)
        with one_at_a_time:
            socket.send_fds(mine, [pickle.dumps((*asked, list(streams)))], list(streams.values()))
            return int.from_bytes(mine.recv(8))

    subprocess._fork_exec = fork


def _serve(asker):
    """Fork what is asked for, until the one that asks is gone."""
    while True:
        asked, files, *_ = socket.recv_fds(asker, MOST_BYTES, 3)
        if not asked:
            return
        between = os.fork()
        if between == 0:
            parent = os.getpid()
            if os.fork() == 0:
                _begin(parent, asker, files, *pickle.loads(asked))
            os._exit(0)
        os.waitpid(between, 0)
        for file in files:
            os.close(file)


def _begin(parent, asker, files, command, cwd, environ, starts_session, numbers):
    """As a process that is not of ``multiprocessing`` does: to the end, with its exit code."""
    code = 1
    try:
        while os.getppid() == parent:  # that ends at once
            time.sleep(0.001)
        asker.send(os.getpid().to_bytes(8))
        asker.close()
        if starts_session:
            os.setsid()
        _enter(cwd, environ, dict(zip(numbers, files, strict=True)))
        _run(*command)
        code = 0
    except SystemExit as end:
        code = end.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Forked:
    """A process that does what ``python COMMAND`` does, to be used as one of ``subprocess``.

    Args:
        command: ``-m MODULE`` or ``-c CODE``, and words.
        cwd: where it runs.
        env: all of its environment; None for that of this process.
        forks_children: whether the processes that it starts with this Python are forked too.
    """

    def __init__(self, *command, cwd, env=None, forks_children=True):
        self.args = list(map(str, command))
        place = Path(tempfile.mkdtemp(prefix="bookends-forked-"))
        weakref.finalize(self, shutil.rmtree, place)
        self._output = (place / "stdout", place / "stderr")
        environ = dict(os.environ if env is None else env)
        given = (self.args, str(cwd), environ, self._output, forks_children)
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
        return self.said()

    def said(self):
        """The same so far."""
        return tuple(path.read_text() if path.exists() else "" for path in self._output)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()


def run(*command, cwd, env=None, timeout=280, forks_children=True):
    """The same as ``subprocess.run`` gives of it, with its output as text."""
    process = Forked(*command, cwd=cwd, env=env, forks_children=forks_children)
    try:
        output = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, *output)
