"""What may vary between trials: settings by dotted name, with ranges, choices and conditions."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from recsys.errors import BookendsError, ConfigError

Value = Any
"""What a setting may be: a number, text, a truth value, None, or a list of them."""
Params = dict[str, Value]
Check = Callable[[Mapping[str, Value]], object]
"""Takes settings by dotted name, on top of the base; raises ConfigError where they are at odds."""

MOST_CORNERS = 4096
KINDS = ("choice", "int", "float")
_KEYS = {"choice": {"with"}, "int": {"step", "log", "with"}, "float": {"step", "log", "with"}}
FIXED = {
    "data.": "trials must be compared on the same held-out interactions",
    "evaluation.": "trials must be compared alike",
    "diagnostics.": "it has no effect on a trial",
    "experiment.": "a better seed is chance, and the rest has no effect on a trial",
    "model.device": "it has no effect on the value of a trial",
    "training.num_threads": "it has no effect on the value of a trial",
    "training.refit": "trials are trained on train alone",
    "training.early_stopping.monitor": "trials must be compared alike",
}
"""Settings that may not vary, by prefix, and why not."""
_MAY_VARY = ("data.feature_params.",)


@dataclass(frozen=True)
class Dimension:
    """One setting that varies."""

    name: str  # dotted
    kind: str  # choice, int or float
    values: tuple[Value, ...]  # the choices; for a range its two ends
    log: bool = False  # ranges: draw the logarithm evenly
    step: float | None = None  # ranges: from the lower end; None for any value (floats)
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """It exists only where each of these other dimensions has one of the given values."""
    also: tuple[str, ...] = ()  # further settings that take the same value

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from; a list among the choices goes by its JSON text."""
        if self.kind == "choice":
            return CategoricalDistribution([label(value) for value in self.values])
        low, high = self.values
        if self.kind == "int":
            return IntDistribution(low, high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(low, high, log=self.log, step=self.step)

    @property
    def grid(self) -> tuple[Value, ...]:
        """All values.

        Raises:
            ConfigError: there is no end of them.
        """
        if self.kind == "choice":
            return self.values
        low, high = self.values
        if self.kind == "float" and self.step is None:
            raise ConfigError(
                f"space: '{self.name}' must be a choice or have a 'step' for the sampler 'grid'"
            )
        if self.kind == "int" and self.log:
            count = int(math.log2(high / low)) + 1
            return tuple(dict.fromkeys([*(low * 2**power for power in range(count)), high]))
        step = self.step or 1
        count = int((high - low) / step + 1e-9) + 1
        return tuple(low + step * number for number in range(count))

    def contains(self, value: Value) -> bool:
        """Whether the value can be drawn."""
        if self.kind == "choice":
            return value in self.values
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = self.values
        step = self.step or (1 if self.kind == "int" else None)
        steps = 0.0 if step is None else (value - low) / step
        return bool(low <= value <= high and abs(steps - round(steps)) < 1e-8)

    def suggest(self, trial: optuna.Trial) -> Value:
        """The trial's value, drawn where it has none yet."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return self.value(trial.suggest_categorical(self.name, choices))
            case IntDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_int(self.name, low, high, log=log, step=step)
            case FloatDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_float(self.name, low, high, log=log, step=step)
        raise AssertionError

    def value(self, kept: Value) -> Value:
        """The value that Optuna keeps as ``kept``: that of the label, where it is a choice."""
        if self.kind != "choice":
            return kept
        return self.values[[label(value) for value in self.values].index(kept)]

    def applies(self, params: Mapping[str, Value]) -> bool:
        """Whether the dimension exists beside the given values of the others."""
        return all(
            name in params and params[name] in allowed for name, allowed in self.when.items()
        )


@dataclass(frozen=True)
class Space:
    """All that may vary: dimensions, each after those that its condition names."""

    dimensions: tuple[Dimension, ...]

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Space:
        """The space that a YAML file describes, see ``docs/sweeps.md``.

        Raises:
            ConfigError: something in it is not of the language.
        """
        if not tree:
            raise ConfigError("space: must name at least one setting, got none")
        dimensions = {str(name): _dimension(str(name), spec) for name, spec in tree.items()}
        for dimension in dimensions.values():
            _check_condition(dimension, dimensions)
        _check_settings(dimensions)
        return cls(tuple(_in_order(dimensions)))

    @property
    def names(self) -> tuple[str, ...]:
        """Dotted names of all settings that vary."""
        return tuple(
            name for dimension in self.dimensions for name in (dimension.name, *dimension.also)
        )

    def suggest(self, trial: optuna.Trial, only: Sequence[str] | None = None) -> Params:
        """The trial's values of the dimensions that exist beside each other.

        Args:
            trial: to draw for.
            only: leave out all dimensions but these; None leaves out none.
        """
        params: Params = {}
        for dimension in self._wanted(only):
            if dimension.applies(params):
                params[dimension.name] = dimension.suggest(trial)
        return params

    def is_whole(self, params: Mapping[str, Value], only: Sequence[str] | None = None) -> bool:
        """Whether these are all the values that :meth:`suggest` gives a trial."""
        wanted = [each for each in self._wanted(only) if each.applies(params)]
        return all(dimension.name in params for dimension in wanted)

    def _wanted(self, only: Sequence[str] | None) -> list[Dimension]:
        return [each for each in self.dimensions if only is None or each.name in only]

    def settings(self, params: Mapping[str, Value]) -> Params:
        """The settings that a trial's values stand for, by dotted name."""
        settings: Params = {}
        for dimension in self.dimensions:
            if dimension.name in params:
                for name in (dimension.name, *dimension.also):
                    settings[name] = params[dimension.name]
        return settings

    def values(self, labels: Mapping[str, Value]) -> Params:
        """The values that Optuna keeps under these labels."""
        return {
            dimension.name: dimension.value(labels[dimension.name])
            for dimension in self.dimensions
            if dimension.name in labels
        }

    def within(self, settings: Mapping[str, Value]) -> Params:
        """Those of the given settings that a trial could draw, as a trial's values."""
        params: Params = {}
        for dimension in self.dimensions:
            value = _plain(settings.get(dimension.name))
            agree = all(_plain(settings.get(name)) == value for name in dimension.also)
            if agree and dimension.applies(params) and dimension.contains(value):
                params[dimension.name] = value
        return params

    def corners(self) -> Iterator[Params]:
        """Combinations of choices and ends of ranges, each as a trial's values.

        All of them, where there are at most ``MOST_CORNERS``; else every pair of values of two
        dimensions together, the others once at their first and once at their last value.
        """
        values = [dimension.values for dimension in self.dimensions]
        if math.prod(map(len, values)) <= MOST_CORNERS:
            yield from self._combinations(values)
            return
        for left, right in itertools.combinations(range(len(self.dimensions)), 2):
            for end in (0, -1):
                options = [(each[end],) for each in values]
                options[left], options[right] = values[left], values[right]
                yield from self._combinations(options)

    def grid(self, rng: np.random.Generator) -> list[Params]:
        """Every combination of values once, in random order.

        Raises:
            ConfigError: a dimension has no end of values, or there are too many combinations.
        """
        options = [dimension.grid for dimension in self.dimensions]
        size = math.prod(len(values) for values in options)
        if size > 1_000_000:
            raise ConfigError(
                "space: must have at most 1,000,000 combinations for the sampler 'grid', "
                f"got {size:,}"
            )
        cells = list(self._combinations(options))
        return [cells[index] for index in rng.permutation(len(cells))]

    def check(self, check: Check) -> None:
        """Try every corner on the settings.

        Args:
            check: raises ConfigError where settings are at odds.

        Raises:
            ConfigError: names the first combination that is.
        """
        for params in self.corners():
            try:
                check(self.settings(params))
            except BookendsError as error:
                shown = ", ".join(f"{name}: {value}" for name, value in params.items())
                raise ConfigError(f"{error} (with {shown})") from None

    def _combinations(self, options: Sequence[Sequence[Value]]) -> Iterator[Params]:
        """Each combination once, without the values of dimensions that do not exist in it."""
        seen = set[str]()
        for values in itertools.product(*options):
            params: Params = {}
            for dimension, value in zip(self.dimensions, values, strict=True):
                if dimension.applies(params):
                    params[dimension.name] = value
            key = json.dumps(params, sort_keys=True)
            if key not in seen:
                seen.add(key)
                yield params


def _dimension(name: str, spec: object) -> Dimension:
    if not isinstance(spec, Mapping):
        raise ConfigError(f"space: '{name}' must be a mapping such as {{choice: [...]}}: {spec!r}")
    kinds = [kind for kind in KINDS if kind in spec]
    if len(kinds) != 1:
        raise ConfigError(f"space: '{name}' must have one of {', '.join(KINDS)}, got {list(spec)}")
    kind = kinds[0]
    unknown = sorted(set(map(str, spec)) - _KEYS[kind] - {kind, "when"})
    if unknown:
        allowed = ", ".join(sorted(_KEYS[kind] | {"when"}))
        raise ConfigError(f"space: '{name}' must have only {kind}, {allowed}, got '{unknown[0]}'")
    step = None if spec.get("step") is None else _number(name, kind, spec["step"])
    dimension = Dimension(
        name=name,
        kind=kind,
        values=_choices(name, spec[kind])
        if kind == "choice"
        else _range(name, kind, spec[kind], step),
        log=bool(spec.get("log", False)),
        step=step,
        when=_condition(name, spec.get("when", {})),
        also=_names(name, spec.get("with", ())),
    )
    try:
        dimension.distribution  # noqa: B018  Optuna says what cannot be drawn from
    except ValueError as error:
        raise ConfigError(f"space: '{name}': {error}") from None
    return dimension


def _choices(name: str, given: object) -> tuple[Value, ...]:
    if not isinstance(given, list) or not given:
        raise ConfigError(f"space: '{name}.choice' must be a list of values, got {given!r}")
    labels = [label(value) for value in given]
    if len({(type(label), label) for label in labels}) < len(labels):
        raise ConfigError(f"space: '{name}.choice' must name a value once, got {given!r}")
    return tuple(given)


def _range(name: str, kind: str, given: object, step: float | None) -> tuple[Value, ...]:
    if not isinstance(given, list) or len(given) != 2:
        raise ConfigError(f"space: '{name}.{kind}' must be [lowest, highest], got {given!r}")
    low, high = (_number(name, kind, end) for end in given)
    if step is not None and 0 < step <= high - low:  # as far as whole steps lead
        start, end, by = (Decimal(str(number)) for number in (low, high, step))
        high = type(high)(start + (end - start) // by * by)
    return low, high


def _number(name: str, kind: str, given: object) -> float:
    """YAML 1.1 reads ``1e-4`` as text, so that text that is a number is one."""
    try:
        number = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(given, bool) or not math.isfinite(number):
        raise ConfigError(f"space: '{name}' must have finite numbers, got {given!r}")
    if kind == "float":
        return number
    if number != int(number):
        raise ConfigError(f"space: '{name}' must have whole numbers, got {given!r}")
    return int(number)


def _condition(name: str, given: object) -> dict[str, tuple[Value, ...]]:
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"space: '{name}.when' must be a mapping such as {{model.similarity: cosine}}, "
            f"got {given!r}"
        )
    return {
        str(key): tuple(value) if isinstance(value, list) else (value,)
        for key, value in given.items()
    }


def _names(name: str, given: object) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
        raise ConfigError(f"space: '{name}.with' must be names of settings, got {given!r}")
    return tuple(names)


def _check_condition(dimension: Dimension, dimensions: Mapping[str, Dimension]) -> None:
    for name, allowed in dimension.when.items():
        if name not in dimensions or name == dimension.name:
            raise ConfigError(
                f"space: '{dimension.name}.when' must name another setting of the space, "
                f"got '{name}'"
            )
        for value in allowed:
            if not dimensions[name].contains(value):
                raise ConfigError(
                    f"space: '{dimension.name}.when': '{name}' can never be {value!r}"
                )


def _check_settings(dimensions: Mapping[str, Dimension]) -> None:
    taken = set[str]()
    for dimension in dimensions.values():
        for name in (dimension.name, *dimension.also):
            if name in taken:
                raise ConfigError(f"space: '{name}' must be set by one entry, got two")
            taken.add(name)
            for prefix, reason in FIXED.items():
                if name.startswith(prefix) and not name.startswith(_MAY_VARY):
                    raise ConfigError(f"space: '{name}' must not vary: {reason}")


def _in_order(dimensions: Mapping[str, Dimension]) -> list[Dimension]:
    """As given, but each after those that its condition names."""
    ordered: dict[str, Dimension] = {}
    left = dict(dimensions)
    while left:
        ready = [each for each in left.values() if all(name in ordered for name in each.when)]
        if not ready:
            raise ConfigError(f"space: conditions must not go in a circle: {', '.join(left)}")
        ordered[ready[0].name] = left.pop(ready[0].name)
    return list(ordered.values())


def label(value: Value) -> Value:
    """A value as Optuna keeps it: lists and mappings as their JSON text."""
    return json.dumps(value) if isinstance(value, list | tuple | Mapping) else value


def _plain(value: Value) -> Value:
    return list(value) if isinstance(value, tuple) else value
