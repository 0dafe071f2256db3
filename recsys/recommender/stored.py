"""The recommender's parts as they lie in a bundle, and what must hold of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from recsys.config import ModelConfig
from recsys.data.arrays import Bags
from recsys.data.columns import ITEM_ID, TEXT_FIELDS, USER_ID
from recsys.data.features import Features, ItemFeaturizer
from recsys.data.user_features import UserFeaturizer
from recsys.data.vocabulary import Vocabulary, whole
from recsys.errors import ArtifactError, BookendsError, first_problem
from recsys.evaluation.scorers import Combine, Vectors
from recsys.recommender.books import Books
from recsys.recommender.bundle import Arrays, Bundle
from recsys.recommender.cold_start import ColdStart, towers_without_ids
from recsys.recommender.parts import Parts


class _ColdStart(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: dict[str, Any]
    item_featurizer: ItemFeaturizer
    user_featurizer: UserFeaturizer
    has_order: bool


class _Values(BaseModel):
    """What is beside tensors and tables: of these types and in these ranges, or not read."""

    model_config = ConfigDict(extra="forbid")

    provenance: dict[str, str | int | FiniteFloat | bool | None]
    combine: Combine
    cold_start: _ColdStart | None


VECTORS, FEATURES, TOWERS = "vectors", "item_features", "towers"


def to_bundle(model: Parts) -> Bundle:
    """The parts of a recommender, from which :func:`from_bundle` makes them again."""
    vectors, seen, cold_start = model.vectors, model.seen, model.cold_start
    tensors: dict[str, Arrays] = {
        VECTORS: {
            "user_vectors": vectors.users,
            "item_vectors": vectors.items,
            "seen_offsets": seen.offsets.astype(np.int64, copy=False),
            "seen_indices": seen.indices.astype(np.int32, copy=False),
            "popularity": model.popularity.astype(np.int64, copy=False),
        }
    }
    values: dict[str, Any] = {
        "provenance": dict(model.provenance),
        "combine": vectors.combine,
        "cold_start": None,
    }
    if cold_start is not None:
        tensors[TOWERS] = {name: tensor.numpy() for name, tensor in cold_start.state.items()}
        tensors[FEATURES] = cold_start.item_features.arrays
        if cold_start.item_table is not None:
            tensors[VECTORS] = {**tensors[VECTORS], "item_table": cold_start.item_table}
        values["cold_start"] = _ColdStart(
            model=cold_start.settings.model_dump(mode="json"),
            item_featurizer=cold_start.item_featurizer,
            user_featurizer=cold_start.user_featurizer,
            has_order=cold_start.has_order,
        ).model_dump(mode="json")
    tables = {"users": pa.table({USER_ID: model.users.ids}), "items": model.books.table}
    return Bundle(tensors, tables, values)


def from_bundle(bundle: Bundle, path: Path) -> dict[str, Any]:
    """What a recommender is made of, by name.

    Raises:
        ArtifactError: parts are missing or do not fit one another.
    """
    try:
        return _parts(bundle)
    except (KeyError, TypeError, ValueError, AttributeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"{path}: must hold a whole recommender ({type(error).__name__}: {reason})"
        ) from error
    except BookendsError as error:
        raise ArtifactError(f"{path}: {error}") from error


def _parts(bundle: Bundle) -> dict[str, Any]:
    users = Vocabulary(_texts(bundle.tables["users"], USER_ID))
    table = bundle.tables["items"]
    for name in (ITEM_ID, *TEXT_FIELDS):
        _texts(table, name)
    books = Books(table)
    held = bundle.tensors[VECTORS]
    values = _validated(bundle.values)
    several = (None,) * (held["user_vectors"].ndim - 2)  # K, where a user has several
    user_vectors = _checked(held, "user_vectors", np.float32, (len(users), *several, None))
    dim = user_vectors.shape[-1]
    vectors = Vectors(
        users=user_vectors,
        items=_checked(held, "item_vectors", np.float32, (len(books), dim)),
        combine=values.combine,
    )
    vectors.check_finite(np.arange(len(users)))
    popularity = _checked(held, "popularity", np.int64, (len(books),))
    if (popularity < 0).any():
        raise ArtifactError(f"'popularity' must hold counts, got {popularity.min()}")
    return {
        "users": users,
        "books": books,
        "vectors": vectors,
        "seen": _bags(held, "seen", len(users), len(books)),
        "popularity": popularity,
        "provenance": values.provenance,
        "cold_start": _cold_start(bundle, values.cold_start, len(books), dim),
    }


def _validated(values: Mapping[str, Any]) -> _Values:
    try:
        return _Values.model_validate_json(json.dumps(dict(values)), strict=True)
    except ValidationError as error:
        raise ArtifactError(first_problem(error)) from None


def _cold_start(
    bundle: Bundle, values: _ColdStart | None, n_items: int, dim: int
) -> ColdStart | None:
    if values is None:
        return None
    settings = ModelConfig.model_validate(values.model)
    tower = settings.user_encoder
    expected = tower.dim + bool(settings.popularity) + bool(tower.query_prior)
    if expected != dim:
        raise ArtifactError(f"vectors must have {expected} dimensions, got {dim}")
    table = None
    if tower.history.pooling != "none":
        table = _finite(bundle.tensors[VECTORS], "item_table", (n_items, tower.dim))
    featurizer, users = values.item_featurizer, values.user_featurizer
    if tower.fusion == "identity":
        n_items = 0
    features = _features(bundle.tensors[FEATURES], featurizer, n_items)
    n_dense = 1 + len(featurizer.dense_names)
    if not len(users.means) == len(users.deviations) == n_dense:
        raise ArtifactError(f"the users' scales must be {n_dense} numbers each")
    state = {name: torch.from_numpy(array) for name, array in _towers(bundle).items()}
    return ColdStart(
        model=towers_without_ids(settings, featurizer, state, values.has_order),
        settings=settings,
        item_featurizer=featurizer,
        user_featurizer=users,
        item_features=features,
        item_table=table,
        has_order=values.has_order,
    )


def _towers(bundle: Bundle) -> Arrays:
    held = bundle.tensors.get(TOWERS, {})  # a model of two identity towers and 'dot' has none
    for name, array in held.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise ArtifactError(f"'{name}' must hold finite float32 numbers")
    return held


def _features(held: Arrays, featurizer: ItemFeaturizer, n_items: int) -> Features:
    dense = _finite(held, "dense", (n_items, len(featurizer.dense_names)))
    bags: dict[str, Bags] = {}
    for name, columns in featurizer.bag_columns.items():
        bags[name] = _bags(held, name, n_items, columns.size)
        if columns.idf:
            weights = _finite(held, f"{name}_weights", (len(bags[name].indices),))
            bags[name] = replace(bags[name], weights=weights)
    return Features(dense, featurizer.dense_names, bags, featurizer.bag_labels)


def _texts(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    if column.type != pa.string() or column.null_count:
        raise ArtifactError(f"'{name}' must hold texts, none of them null")
    return whole(column)


def _checked(
    held: Arrays, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> np.ndarray:
    """The named array, of this type and shape; None stands for any length."""
    array = held[name]
    fits = len(array.shape) == len(shape) and all(
        expected is None or expected == actual
        for expected, actual in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = " x ".join("any" if length is None else str(length) for length in shape)
        got = " x ".join(str(length) for length in array.shape)
        raise ArtifactError(
            f"'{name}' must be {wanted} of {np.dtype(dtype)}, got {got} of {array.dtype}"
        )
    return array


def _finite(held: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The named array of float32, of this shape and finite."""
    array = _checked(held, name, np.float32, shape)
    if not np.isfinite(array).all():
        raise ArtifactError(f"'{name}' must hold finite numbers")
    return array


def _bags(held: Arrays, name: str, n_rows: int, n_columns: int) -> Bags:
    offsets = _checked(held, f"{name}_offsets", np.int64, (n_rows + 1,))
    indices = _checked(held, f"{name}_indices", np.int32, (None,))
    if offsets[0] != 0 or offsets[-1] != len(indices) or (np.diff(offsets) < 0).any():
        raise ArtifactError(
            f"'{name}_offsets' must rise from 0 to {len(indices)}, the length of '{name}_indices'"
        )
    if len(indices) and not 0 <= indices.min() <= indices.max() < n_columns:
        raise ArtifactError(
            f"'{name}_indices' must be in 0..{n_columns - 1}, got {indices.min()} to "
            f"{indices.max()}"
        )
    return Bags(offsets, indices, n_columns)
