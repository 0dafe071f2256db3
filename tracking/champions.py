"""Who was champion when: every move of the alias, kept as tags of the registered model."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from recsys.errors import TrackingError

Way = Literal["gate", "force", "rollback"]
_PREFIX = "bookends.champion."


@dataclass(frozen=True)
class Move:
    """One move of the alias, the first with ``number`` 1.

    Attributes:
        version: where the alias went.
        previous: where it had been; None for the first champion.
        way: through the gate, by force past it, or back.
        at: when, ISO 8601, UTC.
        by: user and machine.
        reason: in the user's words; empty where none was given.
    """

    number: int
    version: int
    previous: int | None
    way: Way
    at: str
    by: str
    reason: str

    @property
    def tag(self) -> tuple[str, str]:
        """Key and value of the tag that keeps it."""
        content = asdict(self)
        return f"{_PREFIX}{content.pop('number'):04d}", json.dumps(content, ensure_ascii=False)


def moves_in(tags: Mapping[str, str]) -> list[Move]:
    """The moves that a registered model's tags hold, first to last.

    Raises:
        TrackingError: one of them cannot be read.
    """
    moves = []
    for key, text in tags.items():
        if key.startswith(_PREFIX):
            try:
                moves.append(Move(int(key.removeprefix(_PREFIX)), **json.loads(text)))
            except (ValueError, TypeError) as error:
                raise TrackingError(
                    f"tag '{key}' must hold a move of the champion, got {text!r} ({error}); "
                    "delete the tag to leave it out"
                ) from error
    return sorted(moves, key=lambda move: move.number)


def succession(moves: Iterable[Move], current: int | None) -> list[int]:
    """Versions from the first champion to the present one: what repeated rollbacks walk back.

    A rollback ends the succession at the version it went to; any other move makes it longer. The
    alias may have been moved by hand, or a process killed before it noted its move: ``current``,
    where the alias points, is then the end, after those that are noted.
    """
    versions: list[int] = []
    for move in moves:
        if move.way == "rollback" and move.version in versions:
            while versions[-1] != move.version:
                versions.pop()
        elif versions[-1:] != [move.version]:
            versions.append(move.version)
    if current is not None and versions[-1:] != [current]:
        versions.append(current)
    return versions


def rollback_target(
    moves: Iterable[Move], current: int | None, existing: Container[int], to: int | None
) -> int:
    """The version that a rollback goes to: the one before, or the former champion ``to``.

    ``current`` is where the alias points, None where the champion was deleted; ``existing`` are the
    versions that were not.

    Raises:
        TrackingError: there is no such version, or it was deleted.
    """
    noted = list(moves)
    versions = succession(noted, current)
    former = versions if current is None else versions[:-1]
    if to is not None:
        known = ({move.version for move in noted} | set(former)) - {current}
        if to not in known:
            named = ", ".join(map(str, sorted(known))) or "none"
            raise TrackingError(
                f"'--to' must be a former champion ({named}), got {to}"
                + (", which is champion now" if to == current else "")
                + "; 'bookends register --force' can make any run champion"
            )
        if to not in existing:
            raise TrackingError(f"version {to} must exist to be champion again, but was deleted")
        return to
    if current is None:  # its version was deleted: of those before it the last that is left
        former = [version for version in former if version in existing]
    if not former:
        now = "there is no champion" if current is None else f"version {current} is the first"
        raise TrackingError(f"a rollback must have a former champion to go to, but {now}")
    if former[-1] not in existing:
        left = [version for version in reversed(former) if version in existing]
        hint = f"; --to {left[0]} goes to the one before it" if left else ""
        raise TrackingError(
            f"the previous champion, version {former[-1]}, must exist, but was deleted{hint}"
        )
    return former[-1]
