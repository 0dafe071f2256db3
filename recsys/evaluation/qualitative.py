"""Recommendations as a person sees them: titles beside what the reader has read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recsys.config import DiagnosticsConfig
from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray, Interactions
from recsys.evaluation.intervals import mean_interval
from recsys.evaluation.ranking import Ranking
from recsys.evaluation.tables import Cell, Table

SHOWN_HISTORY = 10
_BLOCK = 1024
_COLUMNS = (
    *("part", "rank", "title", "author", "categories", "score"),
    *("category_hit", "author_hit", "held_out"),
)


@dataclass(frozen=True, eq=False)
class Shelf:
    """What a person knows of every book.

    Attributes:
        titles: (I,) strings.
        authors: (I,) strings, several separated by commas.
        categories: (I,) strings, several separated by '|'.
        author_bags: authors of every book, all of them, (I, any).
        category_bags: the same for categories.
    """

    titles: pa.Array
    authors: pa.Array
    categories: pa.Array
    author_bags: Bags
    category_bags: Bags

    @classmethod
    def of(cls, books: pa.Table) -> Shelf:
        """The shelf of a table with columns ``title``, ``author``, ``categories``."""
        authors, categories = _text(books, "author"), _text(books, "categories")
        return cls(
            titles=_text(books, "title"),
            authors=authors,
            categories=categories,
            author_bags=_bags(authors, ","),
            category_bags=category_bags(books),
        )


def example_tables(
    ranking: Ranking,
    *,
    train: Interactions,
    held_out: Interactions,
    shelf: Shelf,
    user_ids: Sequence[str],
    config: DiagnosticsConfig,
    rng: np.random.Generator,
) -> tuple[Table, ...]:
    """History and recommendations of a few readers, one table each.

    Args:
        ranking: lists of the readers to draw from; those without train books are not drawn.
        train: what readers had read.
        held_out: what the lists should find.
        shelf: the books.
        user_ids: raw ids by index.
        config: how many readers, and how long the lists are.
        rng: draws the readers.
    """
    eligible = np.flatnonzero(train.user_counts[ranking.users] > 0)
    drawn = np.sort(rng.permutation(eligible)[: config.qualitative_users])
    tables = []
    for number, row in enumerate(drawn, start=1):
        user = int(ranking.users[row])
        histories = train.by_user.take(np.array([user]))
        items = ranking.items[row, : config.qualitative_k]
        shown = int((items >= 0).sum())  # unfilled places come last
        items, scores = items[:shown], ranking.scores[row, :shown]
        hits = _hits(shelf, items[None, :], histories)
        wanted = held_out.by_user.row(user)
        rows = [
            *_history_rows(shelf, histories.row(0)),
            *_list_rows(shelf, items, scores, hits, np.isin(items, wanted)),
        ]
        note = _example_note(shelf, items, hits, wanted, has_order=train.times is not None)
        name, title = f"example_{number}", f"Example {number}: reader {user_ids[user]}"
        tables.append(Table(name, title, note, _COLUMNS, tuple(rows)))
    return tuple(tables)


def hit_ratio_table(
    rankings: dict[str, Ranking], *, train: Interactions, shelf: Shelf, k: int
) -> Table:
    """How often recommended books share a category or an author with the history.

    Args:
        rankings: lists by the name of what made them, such as "model" and "popularity".
        train: what readers had read; readers without train books are left out.
        shelf: the books.
        k: length of the lists looked at.
    """
    records = []
    for name, ranking in rankings.items():
        category, author = _ratios(ranking, train, shelf, k)
        record: dict[str, Cell] = {"recommender": name, "readers": mean_interval(category).n}
        for kind, values in (("category", category), ("author", author)):
            ratio = mean_interval(values)
            record |= {f"{kind}_hits": ratio.mean}
            record |= {f"{kind}_low": ratio.low, f"{kind}_high": ratio.high}
        records.append(record)
    return Table.from_records(
        "qualitative_summary",
        f"Recommended books that share something with the history, first {k}",
        "category_hits (author_hits): the share of a reader's recommended books that have at least "
        "one category (author) in common with the reader's train books, the mean over readers; low "
        "and high: 95 % interval over readers. Where books have many categories nearly every book "
        "shares one: compare with popularity.",
        records,
    )


def _history_rows(shelf: Shelf, history: IntArray) -> Iterator[tuple[Cell, ...]]:
    for position, item in enumerate(history[::-1][:SHOWN_HISTORY], start=1):
        yield ("history", position, *_book(shelf, int(item)), None, None, None, None)


def _list_rows(
    shelf: Shelf,
    items: IntArray,
    scores: FloatArray,
    hits: tuple[BoolArray, BoolArray],
    found: BoolArray,
) -> Iterator[tuple[Cell, ...]]:
    marks = [np.where(mark, "yes", "") for mark in (hits[0][0], hits[1][0], found)]
    for position, item in enumerate(items):
        score = float(scores[position])
        cells = [str(mark[position]) for mark in marks]
        yield ("recommended", position + 1, *_book(shelf, int(item)), score, *cells)


def _example_note(
    shelf: Shelf,
    items: IntArray,
    hits: tuple[BoolArray, BoolArray],
    wanted: IntArray,
    *,
    has_order: bool,
) -> str:
    order = "latest first" if has_order else "in no order, as the data has none"
    parts = [f"History: at most {SHOWN_HISTORY} train books, {order}."]
    if len(items):
        category, author = (float(hit.mean()) for hit in hits)
        parts.append(
            f"Category hit ratio {category:.2f}, author hit ratio {author:.2f}: the share of "
            f"these {len(items)} recommendations with a category (author) of the train books."
        )
    for item in wanted[:3]:
        place = np.flatnonzero(items == item)
        where = f"at rank {place[0] + 1}" if len(place) else f"not among the first {len(items)}"
        parts.append(f"Held out: {shelf.titles[int(item)].as_py() or 'untitled'}, {where}.")
    return " ".join(parts)


def _ratios(
    ranking: Ranking, train: Interactions, shelf: Shelf, k: int
) -> tuple[FloatArray, FloatArray]:
    """Category and author hit ratio of each reader, (n,); NaN without list or history."""
    category, author = (np.full(len(ranking.users), np.nan) for _ in range(2))
    for start in range(0, len(ranking.users), _BLOCK):
        rows = slice(start, start + _BLOCK)
        items, users = ranking.items[rows, :k], ranking.users[rows]
        histories = train.by_user.take(users)
        hits = _hits(shelf, items, histories)
        filled = (items >= 0).sum(axis=1)
        usable = (filled > 0) & (histories.lengths > 0)
        for target, hit in zip((category, author), hits, strict=True):
            target[rows][usable] = hit.sum(axis=1)[usable] / filled[usable]
    return category, author


def _hits(shelf: Shelf, items: IntArray, histories: Bags) -> tuple[BoolArray, BoolArray]:
    """Whether each listed book (n, k) shares a category, and an author, with its row's history."""
    read = histories.to_scipy()
    return _shares(items, read, shelf.category_bags), _shares(items, read, shelf.author_bags)


def _shares(items: IntArray, read: sparse.csr_matrix, bags: Bags) -> BoolArray:
    known = (read @ bags.to_scipy()).tocsr()  # (n, columns): how often each was read
    places = np.flatnonzero(items.ravel() >= 0)
    books = items.ravel()[places]
    owners, columns = bags.entries(books)
    readers = places[owners] // items.shape[1]
    found = Bags(known.indptr, known.indices, bags.n_columns).contains(readers, columns)
    hits = np.zeros(items.size, dtype=bool)
    hits[places[owners[found]]] = True
    return hits.reshape(items.shape)


def _book(shelf: Shelf, item: int) -> tuple[str, str, str]:
    columns = (shelf.titles, shelf.authors, shelf.categories)
    title, author, categories = (column[item].as_py() or "" for column in columns)
    return title, author, categories


def category_bags(books: pa.Table) -> Bags:
    """Every category of every book, whatever the features keep of them, (I, any)."""
    return _bags(_text(books, "categories"), "|")


def _text(books: pa.Table, name: str) -> pa.Array:
    return books.column(name).combine_chunks().cast(pa.string())


def _bags(column: pa.Array, separator: str) -> Bags:
    """The parts of each text as a bag over all different parts, each once."""
    parts = pc.split_pattern(pc.fill_null(column, ""), separator)
    rows = pc.list_parent_indices(parts).to_numpy(zero_copy_only=False)
    labels = pc.utf8_trim_whitespace(pc.list_flatten(parts))
    encoded = labels.dictionary_encode()
    named = pc.not_equal(labels, "").to_numpy(zero_copy_only=False)
    pairs = np.stack([rows, encoded.indices.to_numpy()])[:, named]
    rows, columns = np.unique(pairs, axis=1)
    return Bags.from_pairs(
        rows, columns, n_rows=len(column), n_columns=max(1, len(encoded.dictionary))
    )
