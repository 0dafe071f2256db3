"""What every group of settings is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A frozen group of settings; an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        revalidate_instances="always",  # defaults are copied, so filling one in touches no other
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_type(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what would pass for something else: true for 1, '' for the folder one is in."""
        kind = str(cls.model_fields[info.field_name or ""].annotation)
        held = list(value.values()) if isinstance(value, Mapping) and "dict[" in kind else value
        parts = held if isinstance(held, (list, tuple)) else [held]
        require(
            "bool" in kind or "Any" in kind or not any(isinstance(part, bool) for part in parts),
            f"must hold no truth value, got {value!r:.80}",
        )
        require(
            all(part.isprintable() for part in parts if isinstance(part, str)),
            f"must be printable text, got {value!a:.80}",
        )
        require("Path" not in kind or value != "", "must name a file or folder, got ''")
        require(not isinstance(value, (set, frozenset)), f"must be a list, got {value!r:.80}")
        return value


def fill(section: Section, **defaults: Any) -> None:
    """Give settings that are null the values that follow from others.

    Sections are frozen for everybody but the checks that complete them.
    """
    for name, default in defaults.items():
        if getattr(section, name) is None:
            object.__setattr__(section, name, default)


def settle(
    section: Section, has_meaning: bool, where: str, defaults: Mapping[str, Any], prefix: str = ""
) -> None:
    """Fill in settings that another one gives a meaning, and refuse them where it gives none.

    Args:
        section: holds the settings.
        has_meaning: whether they have a meaning.
        where: they would have one, and what was given instead: "with type 'mlp', got 'linear'".
        defaults: the settings, and what they are where they have a meaning and are not given.
        prefix: of their names in the error.
    """
    if has_meaning:
        fill(section, **defaults)
        return
    for name in defaults:
        require(getattr(section, name) is None, f"'{prefix}{name}' has a meaning only {where}")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A new tree: ``changes`` over ``base``, mapping by mapping."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of dotted names, which :func:`flatten` makes of it."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *groups, leaf = name.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = value
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name; lists are values, empty mappings too."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError(message)`` unless the condition holds; pydantic adds the place."""
    if not condition:
        raise ValueError(message)
