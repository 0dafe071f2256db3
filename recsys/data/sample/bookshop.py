"""A generated bookshop whose best attainable ranking is known.

The shop is drawn in whole numbers only (:mod:`recsys.data.sample.draws`), so that its files are the
same, byte for byte, on every machine. Its users choose by the rule of
:class:`recsys.data.sample.world.World`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from recsys.artifacts import replacement
from recsys.data.arrays import IntArray, Interactions
from recsys.data.csv_file import replace_csv
from recsys.data.files import content_sha256
from recsys.data.sample.catalogue import (
    N_GENRES,
    SEASON_SLOTS,
    SHELVES,
    Catalogue,
    generate_catalogue,
)
from recsys.data.sample.draws import bell, below, draw, pick, stream
from recsys.data.sample.world import END, N_SLOTS, SCALE, SLOT_SECONDS, START, World, slots_of
from recsys.errors import DataError

_log = logging.getLogger(__name__)

GENERATOR = "bookshop"
VERSION = 1
"""Rises with every change of what a seed gives."""
BOOKS_FILE, INTERACTIONS_FILE, WORLD_FILE = "books.csv", "users.csv", "world.json"
INTERACTIONS_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("rating", pa.int64()),
        ("timestamp", pa.int64()),
    ]
)
_STAGE_TASTES, _STAGE_VISITS, _STAGE_CHOICES, _STAGE_RATINGS = 11, 12, 13, 14
_LONGEST_HISTORY = 110
_CHUNK = 512
_RATING_SHARES = (5, 9, 20, 33)  # per cent of 1, 2, 3 and 4 stars; the rest are 5


@dataclass(frozen=True, eq=False)
class Bookshop:
    """A generated data set and the truth behind it.

    Attributes:
        books: as in books.csv.
        interactions: as in users.csv, oldest first.
        world: users, items, and the rule by which the ones choose among the others.
    """

    books: pa.Table
    interactions: pa.Table
    world: World


def generate_bookshop(seed: int, *, n_users: int, n_items: int) -> Bookshop:
    """The bookshop of a seed, the same on every machine.

    Users have 2 to 110 items each, 25 on average.

    Args:
        seed: 0 gives the committed sample.
        n_users: at least 1.
        n_items: at least 250: nobody may run out of items.

    Raises:
        DataError: where the sizes are too small.
    """
    if n_users < 1 or n_items < 250:
        raise DataError(
            "a bookshop must have at least 1 user and 250 items, "
            f"got {n_users} users and {n_items} items"
        )
    catalogue = generate_catalogue(seed, n_items)
    nobody = Interactions(*(np.empty(0, np.int64),) * 3, n_users, n_items)
    world = _world(seed, catalogue, nobody)
    times = _visits(stream(seed, _STAGE_VISITS), n_users)
    choices = _choices(stream(seed, _STAGE_CHOICES), world, times)
    users, visits = np.nonzero(times)
    order = np.lexsort((users, times[users, visits]))
    users, visits = users[order], visits[order]
    history = Interactions(users, choices[users, visits], times[users, visits], n_users, n_items)
    world = replace(world, history=history)
    columns = {
        "user_id": [world.user_ids[user] for user in history.users.tolist()],
        "item_id": [world.item_ids[item] for item in history.items.tolist()],
        "rating": _ratings(stream(seed, _STAGE_RATINGS), world),
        "timestamp": history.times,
    }
    return Bookshop(catalogue.books, pa.table(columns, schema=INTERACTIONS_SCHEMA), world)


def write_sample(
    directory: Path, seed: int, *, n_users: int = 2000, n_items: int = 1000
) -> Bookshop:
    """Write books.csv, users.csv and world.json of a seed; the bookshop that was written.

    The same seed and sizes give the same bytes. Files that are there are replaced.
    """
    shop = generate_bookshop(seed, n_users=n_users, n_items=n_items)
    tables = {BOOKS_FILE: shop.books, INTERACTIONS_FILE: shop.interactions}
    for name, table in tables.items():
        replace_csv(directory / name, table)
    world = {
        "generator": GENERATOR,
        "version": VERSION,
        "seed": seed,
        "n_users": n_users,
        "n_items": n_items,
        "n_interactions": shop.interactions.num_rows,
        "sha256": {name: content_sha256(directory / name) for name in tables},
    }
    with replacement(directory / WORLD_FILE) as unfinished:
        unfinished.write_text(json.dumps(world, indent=2) + "\n", encoding="utf-8")
    return shop


def load_world(books_path: Path, interactions_path: Path) -> World | None:
    """The world behind a books file, or None where it is not a generated one.

    It is one where ``world.json`` lies beside it, was written by this version of the generator,
    and the digests of both files are those that it names. Why a world is refused is logged.

    Args:
        books_path: the books file of a data set.
        interactions_path: its interactions file.
    """
    path = books_path.parent / WORLD_FILE
    if not path.is_file():
        return None
    try:
        described = json.loads(path.read_bytes())
        made_by = (described["generator"], described["version"])
        digests = (described["sha256"][BOOKS_FILE], described["sha256"][INTERACTIONS_FILE])
        seed, n_users, n_items = (int(described[key]) for key in ("seed", "n_users", "n_items"))
    except (ValueError, KeyError, TypeError):
        _log.warning("%s: not a description of a generated world; no oracle", path)
        return None
    if made_by != (GENERATOR, VERSION):
        _log.warning("%s: made by %s %s, not %s %s; no oracle", path, *made_by, GENERATOR, VERSION)
        return None
    for file, digest in zip((books_path, interactions_path), digests, strict=True):
        if not file.is_file() or content_sha256(file) != digest:
            _log.warning("%s: '%s' is not the file it describes; no oracle", path, file)
            return None
    types = pa_csv.ConvertOptions(column_types=INTERACTIONS_SCHEMA)
    table = pa_csv.read_csv(interactions_path, convert_options=types)
    users, items = (
        np.array([int(raw[1:]) - 1 for raw in table[name].to_pylist()], dtype=np.int64)
        for name in ("user_id", "item_id")
    )
    history = Interactions(users, items, table["timestamp"].to_numpy(), n_users, n_items)
    return _world(seed, generate_catalogue(seed, n_items), history)


def _world(seed: int, catalogue: Catalogue, history: Interactions) -> World:
    first, last = _tastes(stream(seed, _STAGE_TASTES), catalogue, history.n_users)
    user_ids = tuple(f"r{row:05d}" for row in range(1, history.n_users + 1))
    factors, season = catalogue.factors, catalogue.season
    return World(user_ids, catalogue.item_ids, first, last, factors, season, history)


def _tastes(
    rng: np.random.Generator, catalogue: Catalogue, n_users: int
) -> tuple[IntArray, IntArray]:
    """Factors of each user at the beginning and at the end, two of (U, F) int64 in 1/SCALE.

    A user likes two shelves of one genre and one of another, and three authors of these genres;
    with time the second genre gives way to a third one, and the last author to a new one.
    """
    first_genre = below(rng, N_GENRES, (n_users, 1))
    steps = np.cumsum(1 + below(rng, 5, (n_users, 2)), axis=1)  # at most 10: three distinct genres
    genres = np.hstack([first_genre, first_genre + steps]) % N_GENRES
    shelves = SHELVES * genres + 1 + below(rng, SHELVES - 1, (n_users, 3))
    second = SHELVES * genres[:, 0] + 1 + below(rng, SHELVES - 1, n_users)
    liked = catalogue.category_factors[shelves]  # (U, 3, G)
    steady = 3 * liked[:, 0] + 2 * catalogue.category_factors[second]
    own = bell(rng, SCALE // 4, (n_users, N_GENRES))
    mainstream = SCALE * (50 + below(rng, 81, (n_users, 1))) // 100
    styles = _liked_styles(rng, catalogue, genres)  # (U, 4, 8)
    sides = []
    for genre, style in ((liked[:, 1], styles[:, 2]), (liked[:, 2], styles[:, 3])):
        taste = (steady + 3 * genre) // 14 + own
        manner = (2 * styles[:, 0] + 2 * styles[:, 1] + style) // 12
        sides.append(np.hstack([taste, manner, mainstream]))
    return sides[0], sides[1]


def _liked_styles(rng: np.random.Generator, catalogue: Catalogue, genres: IntArray) -> IntArray:
    """Styles of an author of each of the genres 0, 0, 1 and 2 of every user, (U, 4, 8)."""
    authors = catalogue.authors
    by_genre = np.argsort(authors.genres, kind="stable")
    counts = np.bincount(authors.genres, minlength=N_GENRES)
    wanted = genres[:, [0, 0, 1, 2]]
    places = below(rng, 2**30, wanted.shape) % counts[wanted]
    styles: IntArray = authors.styles[by_genre[(np.cumsum(counts) - counts)[wanted] + places]]
    return styles


def _visits(rng: np.random.Generator, n_users: int) -> IntArray:
    """When each user takes an item, (U, longest history) int64 seconds, rising; 0 where none.

    Nine in ten users come again in the last season, for their last two items or (with more than
    sixty items) three; the others stop earlier. All earlier visits are spread evenly over the time
    from a first one.
    """
    counts = _history_lengths(rng, n_users)
    longest = _LONGEST_HISTORY
    span = SLOT_SECONDS * (N_SLOTS - SEASON_SLOTS)
    begin = span * below(rng, 70, n_users) // 100
    stays = below(rng, 100, n_users) < 92
    end = np.where(stays, span, begin + (span - begin) * (40 + below(rng, 50, n_users)) // 100)
    early = begin[:, None] + below(rng, (end - begin)[:, None], (n_users, longest))
    season = span + below(rng, END - START - span - 200, (n_users, longest))
    n_season = np.where(stays, 2 + (counts > 60), 0)
    places = np.arange(longest)
    offsets = np.where(places < n_season[:, None], season, early)
    offsets = np.where(places < counts[:, None], offsets, np.iinfo(np.int64).max)
    offsets.sort(axis=1)
    # One second apart at least: a user's items have an order.
    times = START + offsets + places
    return np.where(places < counts[:, None], times, 0)


def _history_lengths(rng: np.random.Generator, n_users: int) -> IntArray:
    """Items of each user: 5 to 110 with a long tail; three in a hundred have 2 to 4."""
    lengths = np.arange(5, _LONGEST_HISTORY + 1)
    drawn = draw(rng, 10**9 // (lengths + 12) ** 2, n_users)
    few = below(rng, 100, n_users) < 3
    return np.where(few, 2 + below(rng, 3, n_users), lengths[drawn])


def _choices(rng: np.random.Generator, world: World, times: IntArray) -> IntArray:
    """The item taken at each visit, (U, longest history); meaningless where there is no visit."""
    n_users, longest = times.shape
    had = np.zeros((n_users, len(world.item_ids)), dtype=bool)
    chosen = np.zeros((n_users, longest), dtype=np.int64)
    for visit in range(longest):
        visitors = np.flatnonzero(times[:, visit])
        for begin in range(0, len(visitors), _CHUNK):
            users = visitors[begin : begin + _CHUNK]
            slots = slots_of(times[users, visit])
            items = pick(rng, world.choice_weights(users, slots, had[users]))
            chosen[users, visit] = items
            had[users, items] = True
    return chosen


def _ratings(rng: np.random.Generator, world: World) -> IntArray:
    """Stars for each row of the history, 1 to 5: the better the match and the item, the more."""
    history = world.history
    assert history.times is not None
    tastes = world.tastes(history.users, slots_of(history.times))
    matches = (tastes * world.item_factors[history.items])[:, :-1].sum(axis=1)
    quality = SCALE * world.item_factors[history.items, -1]
    severity = bell(rng, 16 * SCALE, history.n_users)[history.users]
    scores = matches // 2 + quality + severity + bell(rng, 24 * SCALE, len(history))
    ordered = np.sort(scores)
    thresholds = ordered[len(ordered) * np.cumsum(_RATING_SHARES) // 100]
    stars: IntArray = np.searchsorted(thresholds, scores, side="right") + 1
    return stars
