"""Names that MLflow accepts.

MLflow allows word characters, ``_ - . / :`` and space in a name, and no path that a file system
would shorten. Ours hold more (``ndcg@10``). No two names of ours become one of MLflow's, and none
is left out: ``@`` becomes ``_at_``, anything else that is not allowed becomes its code point
between colons, and so does a ``_`` of ours that would read as the start of ``_at_``.
"""

from __future__ import annotations

import re

from recsys.errors import TrackingError

_LONGEST_NAME = 250
_REFUSED = re.compile(r"_(?=at[_@])|[^\w.\- ]|\A\.\.|\A\.\Z")


def translate(name: str) -> str:
    """The name under which MLflow takes ``name``; a ``/`` in it is no border between groups.

    Raises:
        TrackingError: the name is empty.
    """
    if not name:
        raise TrackingError("a metric or parameter must have a name, got ''")
    return _REFUSED.sub(_replace, name)


def metric_key(group: str, name: str) -> str:
    """MLflow's key of a metric: charts of one group stand together in its UI."""
    return _within_length(f"{translate(group)}/{translate(name)}")


def parameter_key(setting: str, prefix: str = "cfg.") -> str:
    """MLflow's key of a setting by its dotted name, such as ``cfg.training.learning_rate``.

    The prefix keeps settings apart from the parameters that ``mlflow run`` logs by itself under
    their bare names, in its own spelling, and that cannot be logged again.
    """
    return _within_length(prefix + translate(setting))


def _replace(match: re.Match[str]) -> str:
    text = match.group()
    return "_at_" if text == "@" else f":{'.'.join(f'{ord(character):x}' for character in text)}:"


def _within_length(key: str) -> str:
    if len(key) > _LONGEST_NAME:
        raise TrackingError(
            f"a name must have at most {_LONGEST_NAME} characters in MLflow, "
            f"got {len(key)} for '{key[:40]}...'"
        )
    return key
