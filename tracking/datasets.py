"""The data set of a run, as MLflow's input."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from recsys.errors import TrackingError

LONGEST_DIGEST = 36
_SOURCE_TYPE = "local"
Context = Literal["training", "evaluation"]


def dataset_input(
    described: Mapping[str, Any],
    filter_steps: Sequence[Mapping[str, Any]] = (),
    context: Context = "training",
) -> DatasetInput | None:
    """The prepared data set, under our own fingerprint; None where none was prepared.

    MLflow's ready-made data sets digest the first 10,000 rows only, so that two different inputs
    share a digest; ours covers the whole content of the files and the settings.

    Args:
        described: the data set as a record has it: fingerprint, sources, sizes.
        filter_steps: what each step of the filter left.
        context: what it was used for.

    Raises:
        TrackingError: the fingerprint is longer than MLflow holds.
    """
    fingerprint = described.get("fingerprint")
    if not fingerprint:
        return None
    if len(fingerprint) > LONGEST_DIGEST:
        raise TrackingError(
            f"a data set's fingerprint must have at most {LONGEST_DIGEST} characters in MLflow, "
            f"got {len(fingerprint)}: '{fingerprint}'"
        )
    sources: dict[str, Any] = described.get("sources") or {}
    summary = {key: value for key, value in described.items() if key != "sources"}
    dataset = Dataset(
        name=_name(sources),
        digest=fingerprint,
        source_type=_SOURCE_TYPE,
        source=json.dumps({"uri": next(iter(sources), ""), "files": sources}),
        profile=json.dumps(summary | {"filter_steps": list(filter_steps)}),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def _name(sources: Mapping[str, Any]) -> str:
    """The names of the two files, without their directory where they share one."""
    paths = [str(path) for path in sources]
    names = [path.rsplit("/", 1)[-1] for path in paths]
    parents = {path.rsplit("/", 2)[-2] for path in paths if path.count("/")}
    parent = f"{parents.pop()}/" if len(parents) == 1 else ""
    return (parent + "+".join(names))[:500] or "data"
