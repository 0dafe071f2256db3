"""Starting points: settings that a space's file names to be tried first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys.errors import BookendsError, ConfigError
from sweeps.space import Check, Dimension, Params, Space

START = "start"
"""The key beside the settings of a space's file that holds them."""


def starting_points(space: Space, given: Any, check: Check, origin: str) -> list[Params]:
    """The starting points of a space, checked; what one of them leaves out is drawn.

    Args:
        space: that holds them.
        given: mappings of setting to value, as in the YAML; None for none.
        check: raises ConfigError where settings are at odds.
        origin: the file, for errors.

    Raises:
        ConfigError: names the first entry that the space does not hold, or whose settings are at
            odds.
    """
    if given is None:
        return []
    if not isinstance(given, list):
        raise ConfigError(f"{origin}: '{START}' must be a list of mappings, got {given!r:.60}")
    for number, point in enumerate(given, start=1):
        if fault := _fault(space, point) or _odds(space, point, check):
            raise ConfigError(f"{origin}: '{START}', entry {number}: {fault}")
    return given


def _fault(space: Space, point: Any) -> str | None:
    if not isinstance(point, Mapping) or not point:
        return f"must be a mapping of settings to values, got {point!r:.60}"
    known = {dimension.name: dimension for dimension in space.dimensions}
    for name, value in point.items():
        if name not in known:
            return f"must name settings of the space ({', '.join(known)}), got '{name}'"
        if not known[name].contains(value):
            return f"'{name}' must be {_values(known[name])}, got {value!r}"
    for name in point:
        for other, allowed in known[name].when.items():
            if other not in point or point[other] not in allowed:
                found = repr(point[other]) if other in point else "nothing"
                wanted = " or ".join(map(repr, allowed))
                return f"'{name}' must stand beside '{other}' of {wanted}, got {found}"
    return None


def _odds(space: Space, point: Params, check: Check) -> str | None:
    """What one that leaves nothing out is refused for; what is drawn may make up for others."""
    try:
        if space.is_whole(point):
            check(space.settings(point))
    except BookendsError as error:
        return str(error)
    return None


def _values(dimension: Dimension) -> str:
    if dimension.kind == "choice":
        return f"one of {', '.join(map(repr, dimension.values))}"
    low, high = dimension.values
    steps = f" in steps of {dimension.step:g}" if dimension.step else ""
    whole = "a whole number" if dimension.kind == "int" else "a number"
    return f"{whole} from {low:g} to {high:g}{steps}"
