"""The prepared data set: from files to arrays, and its cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from recsys.config import DataConfig
from recsys.data.arrays import Bags, IntArray, Interactions
from recsys.data.columns import ITEM_ID, TEXT_FIELDS, USER_ID
from recsys.data.features import Features, ItemFeaturizer, featurize_items
from recsys.data.fetching import fetch_inputs
from recsys.data.files import content_sha256, file_state
from recsys.data.filtering import FilterStep, filter_interactions
from recsys.data.splitting import (
    TEST,
    TRAIN,
    VALIDATION,
    SplitSummary,
    in_order,
    split_interactions,
)
from recsys.data.storage import Content, read_directory, write_directory
from recsys.data.tables import read_tables
from recsys.data.user_features import aggregate_user_features
from recsys.data.vocabulary import Vocabulary, whole
from recsys.errors import ArtifactError, DataError

logger = logging.getLogger(__name__)

FORMAT_VERSION = 4
PARTS = ("train", "validation", "test")
SIDES = ("user", "item")
States = dict[Path, tuple[int, int]]
"""What each file's :func:`file_state` was."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that training and evaluation need of the data.

    Indices of users and items with train interactions ("warm") come first, those with validation
    interactions alone next; within each of the three, indices follow the raw ids as text, so that
    they say nothing of popularity or file order.

    Attributes:
        users: raw ids of users, by index.
        items: raw ids of items, by index; the catalogue is what is left of them after filtering.
        n_warm_users: users from this index on have no train interaction.
        n_warm_items: items from this index on have no train interaction.
        train: sorted by user, then time, ties at random.
        validation: in the same order.
        test: in the same order.
        user_features: fitted on train, (U, ...).
        item_features: fitted on train, (I, ...).
        item_featurizer: what made ``item_features``, for further items.
        books: item_id, title, author, categories as in the file, by index.
        filter_steps: what was left after each step of filtering.
        split: how the interactions were split.
        fingerprint: "sha256:" and 24 hexadecimal digits, of the content of the files and of the
            settings that the result depends on.
        sources: SHA-256 of the content of each file read, by path or address.
    """

    users: Vocabulary
    items: Vocabulary
    n_warm_users: int
    n_warm_items: int
    train: Interactions
    validation: Interactions
    test: Interactions
    user_features: Features
    item_features: Features
    item_featurizer: ItemFeaturizer
    books: pa.Table
    filter_steps: tuple[FilterStep, ...]
    split: SplitSummary
    fingerprint: str
    sources: dict[str, str]

    @property
    def n_known_users(self) -> int:
        """Users from this index on have no train and no validation interaction."""
        return max(self.n_warm_users, int(self.validation.users.max(initial=-1)) + 1)

    @property
    def n_known_items(self) -> int:
        """Items from this index on have no train and no validation interaction."""
        return max(self.n_warm_items, int(self.validation.items.max(initial=-1)) + 1)

    def save(self, path: Path) -> None:
        """Write it as a directory, whole or not at all.

        Raises:
            ArtifactError: the directory cannot be written.
        """
        write_directory(path, _to_content(self))

    @classmethod
    def load(cls, path: Path) -> Prepared:
        """What :meth:`save` wrote, memory-mapped and read-only.

        Raises:
            ArtifactError: the directory is missing, damaged, or of another version.
        """
        content = read_directory(path)
        if content.values.get("format") != FORMAT_VERSION:
            raise ArtifactError(
                f"{path}: must be of format {FORMAT_VERSION}, is {content.values.get('format')}"
            )
        try:
            return _from_content(content)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: must hold a prepared data set ({error})") from error


def fingerprint(config: DataConfig, hashes: Sequence[str], seed: int) -> str:
    """What identifies a prepared data set: the files' content and all that decides the result.

    Paths do not count, nor the place of the cache, nor the seed where the split draws nothing.
    """
    places = {"books_path", "interactions_path", "validation_path", "test_path", "cache_dir"}
    settings = config.model_dump(mode="json", exclude=places)
    identity = {
        "format": FORMAT_VERSION,
        "files": dict(zip(config.sources, hashes, strict=True)),
        "settings": settings,
        "seed": seed if config.split.is_drawn else None,
    }
    text = json.dumps(identity, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def source_hashes(config: DataConfig) -> tuple[str, ...]:
    """SHA-256 of the content of each file that is read, in the order of ``source_paths``.

    Raises:
        DataError: a file is missing or of an unknown format.
    """
    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(content_sha256, _states(config)))


def prepare(config: DataConfig, seed: int) -> Prepared:
    """The data set that the settings describe, in memory.

    Args:
        config: files and settings.
        seed: what a split that is drawn draws from; nothing else is random.

    Raises:
        ConfigError: settings that contradict each other.
        DataError: files that cannot be had, do not hold what they must, or of which nothing is
            left.
    """
    fetch_inputs(config)
    return _prepare(config, seed, _states(config), source_hashes(config))


def prepare_cached(config: DataConfig, seed: int) -> Prepared:
    """The same, memory-mapped from ``config.cache_dir``, where it is put unless it is there.

    Raises:
        ArtifactError: the cache cannot be written.
        ConfigError: settings that contradict each other.
        DataError: files that cannot be had, do not hold what they must, or of which nothing is
            left.
    """
    fetch_inputs(config)
    states, hashes = _states(config), source_hashes(config)
    path = cache_path(config, fingerprint(config, hashes, seed))
    if path.exists():
        try:
            found = Prepared.load(path)
        except ArtifactError as error:
            logger.warning("the cached data set is not usable and is made anew: %s", error)
        else:
            logger.info("%s: prepared before, used again", path)
            return replace(found, sources=_sources(config, hashes))
    _prepare(config, seed, states, hashes).save(path)
    return replace(Prepared.load(path), sources=_sources(config, hashes))


def _prepare(config: DataConfig, seed: int, states: States, hashes: Sequence[str]) -> Prepared:
    """The data set of files whose hashes are known, and the states that they were in before."""
    tables = read_tables(config)
    for path, now in _states(config).items():
        if now != states[path]:
            raise DataError(f"{path}: must not change while it is read")
    books, user_ids, ticks = tables.books, tables.user_ids, tables.ticks
    log, steps = filter_interactions(tables, config)
    del tables  # frees what filtering left out
    users = _sorted_by_id(log.users, user_ids)
    items = _sorted_by_id(log.items, books[ITEM_ID])
    log, n_tied = in_order(_renumbered(log, users, items), ticks)
    rng = np.random.default_rng(seed)
    parts, split = split_interactions(log, config.split, rng, n_tied=n_tied)
    user_order, n_warm_users = _warm_first(log.users, parts, log.n_users)
    item_order, n_warm_items = _warm_first(log.items, parts, log.n_items)
    log = replace(_renumbered(log, user_order, item_order), parts=None)
    books = books.take(pa.array(items[item_order])).combine_chunks()
    if config.books_path is None:
        featurizer = ItemFeaturizer((), {})
        item_features = featurizer.transform(books)
    else:
        featurizer, item_features = featurize_items(books, n_warm_items, config.feature_params)
    train, validation, test = (log.select(parts == n) for n in (TRAIN, VALIDATION, TEST))
    return Prepared(
        users=Vocabulary(user_ids.take(pa.array(users[user_order]))),
        items=Vocabulary(whole(books[ITEM_ID])),
        n_warm_users=n_warm_users,
        n_warm_items=n_warm_items,
        train=train,
        validation=validation,
        test=test,
        user_features=aggregate_user_features(item_features, train, config.feature_params),
        item_features=item_features,
        item_featurizer=featurizer,
        books=books.select([ITEM_ID, *TEXT_FIELDS]),
        filter_steps=steps,
        split=split,
        fingerprint=fingerprint(config, hashes, seed),
        sources=_sources(config, hashes),
    )


def _states(config: DataConfig) -> States:
    return {path: file_state(path) for path in config.source_paths.values()}


def check_prepared(config: DataConfig, seed: int) -> None:
    """Refuse to go on without the data set in the cache.

    Raises:
        DataError: it was not prepared, or files or settings are others now.
    """
    fetch_inputs(config)
    path = cache_path(config, fingerprint(config, source_hashes(config), seed))
    if not path.exists():
        raise DataError(
            f"{path}: the data set must have been prepared by 'bookends data prepare' with these "
            "files and settings, but is not there"
        )


def cache_path(config: DataConfig, name: str) -> Path:
    """Where the data set of this fingerprint lies, once it is prepared."""
    return config.cache_dir / name.replace(":", "-")


def _sources(config: DataConfig, hashes: Sequence[str]) -> dict[str, str]:
    return dict(zip(map(str, config.sources.values()), hashes, strict=True))


# Numbering ---------------------------------------------------------------------------------------


def _sorted_by_id(numbers: IntArray, ids: pa.Array) -> IntArray:
    """The numbers in use, sorted by their raw id as text, (n,)."""
    used = np.flatnonzero(np.bincount(numbers, minlength=len(ids)))
    order: IntArray = used[pc.sort_indices(ids.take(pa.array(used))).to_numpy()]
    return order


def _warm_first(numbers: IntArray, parts: IntArray, n: int) -> tuple[IntArray, int]:
    """The numbers below ``n``, those in train first, then those in validation; how many are warm.

    Args:
        numbers: of the user or the item of each interaction.
        parts: where each interaction is.
        n: how many there are.
    """
    first = np.full(n, TEST)
    for part in (VALIDATION, TRAIN):
        first[numbers[parts == part]] = part
    return np.argsort(first, kind="stable"), int(np.count_nonzero(first == TRAIN))


def _renumbered(log: Interactions, users: IntArray, items: IntArray) -> Interactions:
    """The interactions with new numbers: the places of the old ones in ``users`` and ``items``."""

    def places(numbers: IntArray, order: IntArray, n: int) -> IntArray:
        new = np.zeros(n, dtype=np.int32)
        new[order] = np.arange(len(order), dtype=np.int32)
        return new[numbers]

    return replace(
        log,
        users=places(log.users, users, log.n_users),
        items=places(log.items, items, log.n_items),
        n_users=len(users),
        n_items=len(items),
    )


# To and from files -------------------------------------------------------------------------------


class _PlainValues(BaseModel):
    """Those attributes of :class:`Prepared` that are neither arrays nor tables."""

    n_warm_users: int
    n_warm_items: int
    fingerprint: str
    sources: dict[str, str]
    item_featurizer: ItemFeaturizer
    filter_steps: tuple[FilterStep, ...]
    split: SplitSummary


def _to_content(prepared: Prepared) -> Content:
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {"format": FORMAT_VERSION}
    for part, name in product(PARTS, ("users", "items", "times", "ratings")):
        array = getattr(getattr(prepared, part), name)
        if array is not None:
            arrays[f"{part}_{name}"] = array
    for side in SIDES:
        features: Features = getattr(prepared, f"{side}_features")
        arrays |= {f"{side}_{name}": array for name, array in features.arrays.items()}
        names = {"dense_names": features.dense_names, "bag_labels": features.bag_labels}
        values[f"{side}_features"] = names
    plain = _PlainValues.model_validate(prepared, from_attributes=True)
    values |= plain.model_dump(mode="json")
    tables = {"users": pa.table({USER_ID: prepared.users.ids}), "books": prepared.books}
    return Content(arrays, tables, values)


def _from_content(content: Content) -> Prepared:
    arrays = content.arrays
    users = Vocabulary(whole(content.tables["users"][USER_ID]))
    books = content.tables["books"]
    items = Vocabulary(whole(books[ITEM_ID]))
    attributes: dict[str, Any] = {
        part: Interactions(
            arrays[f"{part}_users"],
            arrays[f"{part}_items"],
            arrays.get(f"{part}_times"),
            len(users),
            len(items),
            arrays.get(f"{part}_ratings"),
        )
        for part in PARTS
    }
    attributes |= dict(_PlainValues.model_validate(content.values))
    return Prepared(
        users=users,
        items=items,
        user_features=_features(content, "user"),
        item_features=_features(content, "item"),
        books=books,
        **attributes,
    )


def _features(content: Content, side: str) -> Features:
    saved = content.values[f"{side}_features"]
    arrays = content.arrays
    labels = {name: tuple(texts) for name, texts in saved["bag_labels"].items()}
    bags = {
        name: Bags(
            arrays[f"{side}_{name}_offsets"],
            arrays[f"{side}_{name}_indices"],
            len(texts),
            arrays.get(f"{side}_{name}_weights"),
        )
        for name, texts in labels.items()
    }
    return Features(arrays[f"{side}_dense"], tuple(saved["dense_names"]), bags, labels)
