"""The process that makes a run: whether it still lives, whose it is, and which code it runs."""

from __future__ import annotations

import getpass
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import psutil

from recsys.addresses import hide_passwords

Life = Literal["alive", "dead", "elsewhere"]
_PREFIX = "bookends."
_LONGEST_COMMAND = 5000
_OUTERMOST = "pid:[4026531836]"
_REAL = "machine:"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Owner:
    """A process, told apart from any other that has or had the same number.

    Attributes:
        host: name of the machine.
        boot_id: changes when the machine starts again; empty where the system has none.
        pid: process number.
        process_start: when the process started, as the system counts it.
        machine: tells machines of one name apart; empty where the system cannot.
    """

    host: str
    boot_id: str
    pid: int
    process_start: str
    machine: str = ""

    @classmethod
    def current(cls) -> Self:
        """This process."""
        pid = os.getpid()
        return cls(platform.node(), _boot_id(), pid, _process_start(pid) or "", _machine())

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self | None:
        """The owner written by ``to_tags``; None where the tags do not name one."""
        values = [tags.get(_PREFIX + name) for name in ("host", "boot_id", "pid", "process_start")]
        host, boot_id, pid, start = values
        if host is None or boot_id is None or start is None or pid is None or not pid.isdigit():
            return None
        return cls(host, boot_id, int(pid), start, tags.get(_PREFIX + "machine", ""))

    def to_tags(self) -> dict[str, str]:
        """One tag a field."""
        return {_PREFIX + name: str(value) for name, value in asdict(self).items()}

    def life(self) -> Life:
        """Whether the process lives; "elsewhere" where another machine would have to be asked.

        Containers share names: a process started before the last boot is dead only where it was
        provably on this very machine, and a number means nothing in another container.
        """
        if self.host != platform.node() or self.machine not in ("", _machine()):
            return "elsewhere"
        if self.boot_id != _boot_id():
            return "dead" if self.machine.startswith(_REAL) else "elsewhere"
        return "alive" if _process_start(self.pid) == self.process_start else "dead"


def source_tags(environment: Mapping[str, Any], name: str | None = None) -> dict[str, str]:
    """Where the code came from; ``mlflow run`` has set these already, in its own way.

    MLflow's UI shows what follows the last slash of a source's name, so that has no options.

    Args:
        environment: with git_commit, command and python of the process, as far as known.
        name: of the source; None takes the command up to its first option.
    """
    commit = environment.get("git_commit") or ""
    command = hide_passwords(environment.get("command") or "")
    values = {
        "bookends.command": command[:_LONGEST_COMMAND],
        "bookends.python": environment.get("python"),
        "mlflow.source.name": name or command.partition(" -")[0] or "bookends run",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit.removesuffix("-dirty"),
        "mlflow.source.git.dirty": str(commit.endswith("-dirty")) if commit else "",
    }
    return {key: str(value) for key, value in values.items() if value}


def maker_tags() -> dict[str, str]:
    """Who made it, and with which version of the package."""
    try:
        version = importlib.metadata.version("bookends")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    return {"bookends.version": version, "mlflow.user": user_name()}


def user_name() -> str:
    """Who runs this process: the name, or the number of a container's user that has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _machine() -> str:
    """The machine itself outside of containers, else the container that counts processes anew."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
        if numbers != _OUTERMOST:
            return numbers
        content = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        return ""
    return _REAL + hashlib.sha256(content).hexdigest()[:16] if content else ""


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """None where no such process runs; one that ended and was not yet reaped does not run."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if not _BOOT_ID.exists():
            return f"{process.create_time():.0f}"
        # Ticks since boot: unlike a time of day, they do not move when the clock is set.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (psutil.Error, OSError):
        return None
