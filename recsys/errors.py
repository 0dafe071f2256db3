"""The one exception family: what a user did or gave that cannot work.

Everything a user can cause ends in a :class:`BookendsError` whose message is one line: what must
hold, what was given, and where it came from. The command line prints it and exits with 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

SHOWN_CHARACTERS = 60
"""Of what was given, in a message."""


class BookendsError(Exception):
    """Something the user can mend; its message is one line, whatever input it quotes."""

    def __str__(self) -> str:
        """The message."""
        return printable(super().__str__())


class ConfigError(BookendsError):
    """A setting that is unknown, impossible, or at odds with another."""


class DataError(BookendsError):
    """Input that cannot be read or does not hold what it must."""


class ArtifactError(BookendsError):
    """A saved file (cache, checkpoint, run directory, model) that is missing or damaged."""


class TrackingError(BookendsError):
    """A tracking store that cannot do what was asked."""


def printable(text: str) -> str:
    """The text on one line, with escapes for what a terminal would not print but obey."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def cut(text: str, quote: str = "") -> str:
    """What was given as messages show it: printable, and cut where long."""
    more = f"... ({len(text)} characters)" if len(text) > SHOWN_CHARACTERS else ""
    return f"{quote}{printable(text[:SHOWN_CHARACTERS])}{quote}{more}"


def shown(value: object) -> str:
    """The same in quotes."""
    return cut(str(value), "'")


def first_problem(error: ValidationError) -> str:
    """What is wrong first with values that pydantic refused: where, why, and what was given."""
    problem = error.errors(include_url=False)[0]
    place, said = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
    if not place:
        return said
    said = said.replace("Input should", "must", 1)
    return f"'{place}': {said[:1].lower()}{said[1:]}, got {problem['input']!r:.80}"
