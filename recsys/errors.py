"""The one exception family: what a user did or gave that cannot work.

Everything a user can cause ends in a :class:`BookendsError` whose message is one line: what must
hold, what was given, and where it came from. The command line prints it and exits with 2.
"""

from __future__ import annotations


class BookendsError(Exception):
    """Something the user can mend; its message is one line."""


class ConfigError(BookendsError):
    """A setting that is unknown, impossible, or at odds with another."""


class DataError(BookendsError):
    """Input that cannot be read or does not hold what it must."""


class ArtifactError(BookendsError):
    """A saved file (cache, checkpoint, run directory, model) that is missing or damaged."""


class TrackingError(BookendsError):
    """A tracking store that cannot do what was asked."""


def shown(value: object, limit: int = 60) -> str:
    """What was given, as messages show it: in quotes, on one line, printable, cut where long."""
    text = str(value)
    printable = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[:limit]
    )
    return f"'{printable}'" + (f"... ({len(text)} characters)" if len(text) > limit else "")
