"""Which process a run belongs to, and whether it still lives."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import psutil

Life = Literal["alive", "dead", "elsewhere"]
_PREFIX = "bookends."
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
