"""The items of the generated sample: what is said of them, and their true factors.

An item's factors come in three blocks: genre (mean of the factors of its categories), style (mean
of its authors' style, plus its series') and popularity. A share of the first two is the item's own
and shows in no metadata; popularity shows, with noise, in the number of ratings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from recsys.data.arrays import IntArray
from recsys.data.sample.draws import NAT, bell, below, draw, exponential_weights, stream
from recsys.data.sample.world import N_SLOTS, SCALE, UNRELEASED

SEASON_SLOTS = 2
"""The last fortnights, in which the items of the new season come out."""
N_STYLES = 8
BOOKS_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("author", pa.string()),
        ("categories", pa.string()),
        ("average_rating", pa.string()),
        ("rating_number", pa.int64()),
        ("price", pa.string()),
        ("publication_year", pa.int64()),
        ("pages", pa.int64()),
    ]
)
_STAGE_AUTHORS, _STAGE_BOOKS, _STAGE_FACTORS, _STAGE_SHOP = 1, 2, 3, 4
N_GENRES, SHELVES = 12, 5
"""Genres, and categories of each: the genre itself and its shelves, in this order."""


@cache
def _words() -> dict[str, Any]:
    """What genres, titles and names are made of."""
    file = resources.files("recsys.data.sample").joinpath("words.yaml")
    words: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return words


@dataclass(frozen=True, eq=False)
class Authors:
    """Who writes.

    Attributes:
        names: (A,), each once.
        genres: the genre each mostly writes in, (A,).
        styles: style factors, (A, 8) int64 in 1/SCALE.
        productivity: weight of each to be the author of an item, (A,).
    """

    names: tuple[str, ...]
    genres: IntArray
    styles: IntArray
    productivity: IntArray


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items and what is true of them.

    Attributes:
        books: as in books.csv, in the order of its rows.
        item_ids: raw ids, (I,).
        factors: true factors, (I, F) int64 in 1/SCALE: genre, style, popularity.
        season: what a slot adds to each item's utility, (S, I) int64 in 1/NAT nat.
        category_factors: genre factors of each category, (C, G) int64 in 1/SCALE.
        authors: who writes.
    """

    books: pa.Table
    item_ids: tuple[str, ...]
    factors: IntArray
    season: IntArray
    category_factors: IntArray
    authors: Authors


@dataclass(frozen=True, eq=False)
class _Shelving:
    """Which genre, categories, authors and series each item has."""

    genres: IntArray  # the main one, (I,)
    categories: list[list[int]]  # the main genre first
    authors: list[list[int]]  # the first one first
    series: IntArray  # the number of its author, or -1, (I,)
    volumes: IntArray  # number within the series, from 1; 0 outside, (I,)


def generate_catalogue(seed: int, n_items: int) -> Catalogue:
    """The catalogue of a seed: the same on every machine."""
    authors = _authors(stream(seed, _STAGE_AUTHORS), max(n_items // 4, N_GENRES))
    shelving = _shelving(stream(seed, _STAGE_BOOKS), n_items, authors)
    rng = stream(seed, _STAGE_FACTORS)
    category_factors = _category_factors(rng)
    releases = _releases(rng, n_items)
    matching = _matching(rng, shelving, authors, category_factors)
    popularity = _popularity(rng, releases)
    item_ids = tuple(f"b{row:04d}" for row in range(1, n_items + 1))
    rng = stream(seed, _STAGE_SHOP)
    books = _books(rng, item_ids, shelving, authors.names, popularity, releases)
    factors = np.column_stack([matching, popularity])
    return Catalogue(books, item_ids, factors, _season(releases), category_factors, authors)


def _authors(rng: np.random.Generator, n_authors: int) -> Authors:
    words, names = _words(), dict[str, None]()
    while len(names) < n_authors:
        first, last = (
            words[kind][below(rng, len(words[kind]), 1)[0]]
            for kind in ("first_names", "last_names")
        )
        initial = chr(ord("A") + below(rng, 26, 1)[0])
        names.setdefault(f"{first} {last}" if initial < "N" else f"{first} {initial}. {last}")
    genres = np.concatenate([np.arange(N_GENRES), below(rng, N_GENRES, n_authors - N_GENRES)])
    ranks = np.arange(n_authors) // N_GENRES  # a few of each genre write most of its items
    styles = bell(rng, SCALE, (n_authors, N_STYLES))
    return Authors(tuple(names), genres, styles, 600 // (ranks + 3))


def _shelving(rng: np.random.Generator, n_items: int, authors: Authors) -> _Shelving:
    writers = draw(rng, authors.productivity, n_items)
    strays = below(rng, 100, n_items) < 10
    genres = np.where(strays, below(rng, N_GENRES, n_items), authors.genres[writers])
    in_series = (below(rng, 100, n_items) < 40) & ~strays & (writers % 5 < 3)
    volumes = np.zeros(n_items, dtype=np.int64)
    for writer in np.unique(writers):
        rows = np.flatnonzero(in_series & (writers == writer))
        volumes[rows] = np.arange(1, len(rows) + 1) if len(rows) > 1 else 0
    everyone = [writers, *(draw(rng, authors.productivity, n_items) for _ in range(2))]
    n_authors = np.searchsorted([82, 96], below(rng, 100, n_items), side="right") + 1
    by_whom = [
        list(dict.fromkeys(row[:count]))
        for row, count in zip(np.column_stack(everyone).tolist(), n_authors, strict=True)
    ]
    categories = _categories_of(rng, genres)
    return _Shelving(genres, categories, by_whom, np.where(volumes > 0, writers, -1), volumes)


def _categories_of(rng: np.random.Generator, genres: IntArray) -> list[list[int]]:
    """The genre, one or two of its shelves, and for every fifth item a shelf of another genre."""
    n_items = len(genres)
    first = below(rng, SHELVES - 1, n_items)
    second = (first + 1 + below(rng, SHELVES - 2, n_items)) % (SHELVES - 1)
    elsewhere = below(rng, N_GENRES * SHELVES, n_items)
    kinds = below(rng, 100, n_items)
    rows = []
    for row, genre in enumerate(genres.tolist()):
        chosen = [genre * SHELVES, genre * SHELVES + 1 + int(first[row])]
        if kinds[row] < 35:
            chosen.append(genre * SHELVES + 1 + int(second[row]))
        if kinds[row] % 5 == 0 and elsewhere[row] // SHELVES != genre:
            chosen.append(int(elsewhere[row]))
        rows.append(chosen)
    return rows


def _category_factors(rng: np.random.Generator) -> IntArray:
    """A genre is mostly an axis of its own; its shelves lie about it."""
    factors = bell(rng, 3 * SCALE // 4, (N_GENRES * SHELVES, N_GENRES))
    factors[::SHELVES] //= 2
    axes: IntArray = np.repeat(np.eye(N_GENRES, dtype=np.int64), SHELVES, axis=0)
    return factors + 5 * SCALE // 2 * axes


def _matching(
    rng: np.random.Generator, shelving: _Shelving, authors: Authors, category_factors: IntArray
) -> IntArray:
    """Genre and style factors of each item, (I, G + 8) int64 in 1/SCALE."""
    series_styles = bell(rng, SCALE // 2, (len(authors.names), N_STYLES))
    genre = np.stack([category_factors[of].sum(0) // len(of) for of in shelving.categories])
    style = np.stack([authors.styles[of].sum(0) // len(of) for of in shelving.authors])
    style += np.where(shelving.series[:, None] >= 0, series_styles[shelving.series], 0)
    genre += bell(rng, 3 * SCALE // 8, genre.shape)
    style += bell(rng, 3 * SCALE // 8, style.shape)
    return np.hstack([genre, style])


def _popularity(rng: np.random.Generator, releases: IntArray) -> IntArray:
    """Popularity of each item, (I,) int64 in 1/SCALE: a bell with a long tail of hits.

    The last season has solid titles, without hits or failures.
    """
    n_items = len(releases)
    hits = np.maximum(bell(rng, 2 * SCALE, n_items) - SCALE, 0)
    in_season = releases >= N_SLOTS - SEASON_SLOTS
    common = bell(rng, 5 * SCALE // 8, n_items)
    return np.where(in_season, 3 * SCALE // 2 + common // 2, common + hits)


def _releases(rng: np.random.Generator, n_items: int) -> IntArray:
    """The slot each item comes out in, (I,); 0 for the 82% that were there from the start.

    Ten per cent come out along the way, eight in the last season.
    """
    along_the_way = 1 + below(rng, N_SLOTS - SEASON_SLOTS - 6, n_items)
    in_season = N_SLOTS - SEASON_SLOTS + (below(rng, 100, n_items) >= 85)
    kinds = np.empty(n_items, dtype=np.int64)
    shuffled = np.argsort(below(rng, 2**40, n_items), kind="stable")
    kinds[shuffled] = 100 * np.arange(n_items) // n_items
    return np.select([kinds < 8, kinds < 18], [in_season, along_the_way], 0)


def _season(releases: IntArray) -> IntArray:
    """A new item attracts for its first fortnights; before its release it cannot be had."""
    ages = np.arange(N_SLOTS)[:, None] - releases[None, :]
    novelty = np.where(releases > 0, np.maximum(3 * NAT // 4 - NAT * ages // 8, 0), 0)
    return np.where(ages < 0, UNRELEASED, novelty)


def _books(
    rng: np.random.Generator,
    item_ids: tuple[str, ...],
    shelving: _Shelving,
    authors: tuple[str, ...],
    popularity: IntArray,
    releases: IntArray,
) -> pa.Table:
    n_items = len(item_ids)
    rating = np.clip(390 + popularity // 2 + bell(rng, 24, n_items), 180, 495)
    noticed = popularity * SCALE + bell(rng, NAT // 3, n_items)
    ratings = 12 + ((60_000 * exponential_weights(noticed[None, :])[0]) >> 30)
    cents = 599 + 100 * (shelving.genres % 5) + 50 * below(rng, 30, n_items)
    priced = below(rng, 100, n_items) >= 25
    signed = below(rng, 100, n_items) >= 1
    years = np.where(releases > 26, 2023, np.where(releases > 0, 2022, 2021))
    years -= np.where(releases == 0, below(rng, 40, n_items) * below(rng, 40, n_items) // 20, 0)
    shelves = [name for genre, own in _words()["genres"].items() for name in (genre, *own)]
    written = [", ".join(authors[author] for author in of) for of in shelving.authors]
    columns = {
        "item_id": list(item_ids),
        "title": _titles(rng, shelving, years),
        "author": pa.array(written, mask=~signed),
        "categories": [
            "|".join(shelves[category] for category in of) for of in shelving.categories
        ],
        "average_rating": _hundredths(rating),
        "rating_number": ratings,
        "price": pa.array(_hundredths(cents), mask=~priced),
        "publication_year": years,
        "pages": 90 + 4 * below(rng, 130, n_items),
    }
    return pa.table(columns, schema=BOOKS_SCHEMA)


def _titles(rng: np.random.Generator, shelving: _Shelving, years: IntArray) -> list[str]:
    n_items, words = len(shelving.genres), _words()
    templates = below(rng, len(words["templates"]), n_items)
    seeds = below(rng, 2**20, (n_items, 6))
    series_seeds = below(rng, 2**20, (int(shelving.series.max(initial=0)) + 1, 6))
    titles = []
    for row, (genre, series) in enumerate(zip(shelving.genres, shelving.series, strict=True)):
        year = int(years[row])
        title = _phrase(words["templates"][templates[row]], genre, seeds[row], year)
        if series >= 0:
            template = words["series"][series % len(words["series"])]
            name = _phrase(template, genre, series_seeds[series], year)
            title = f"{title} ({name}, #{shelving.volumes[row]})"
        titles.append(title)
    return titles


def _phrase(template: str, genre: int, seeds: IntArray, year: int) -> str:
    words = _words()
    nouns = list(words["nouns"].values())[genre]
    adjectives, places = words["adjectives"], words["places"]
    noun, adjective, place, shift = (int(seed) for seed in seeds[:4])
    return template.format(
        noun=nouns[noun % len(nouns)],
        other=nouns[(noun + 1 + shift % 3) % len(nouns)],
        another=nouns[(noun + 4 + shift % 4) % len(nouns)],
        adjective=adjectives[adjective % len(adjectives)],
        adjective2=adjectives[(adjective + 1 + shift) % len(adjectives)],
        place=places[place % len(places)],
        year=year - 1 - shift % 90,
    )


def _hundredths(values: IntArray) -> list[str]:
    return [f"{value // 100}.{value % 100:02d}" for value in values]
