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


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError(message)`` unless the condition holds; pydantic adds the place."""
    if not condition:
        raise ValueError(message)
