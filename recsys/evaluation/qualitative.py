"""Recommendations as a person sees them: titles beside what the user has read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recsys.config import DiagnosticsConfig
from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray, Interactions
from recsys.data.columns import CATEGORY_SEPARATOR
from recsys.data.value_bags import split_values
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
class ItemTexts:
    """What a person knows of every item.

    Attributes:
        titles: (I,) strings.
        authors: (I,) strings, several separated by commas.
        categories: (I,) strings, several separated by '|'.
        author_bags: authors of every item, all of them, (I, any).
        category_bags: the same for categories.
    """

    titles: pa.Array
    authors: pa.Array
    categories: pa.Array
    author_bags: Bags
    category_bags: Bags

    @classmethod
    def of(cls, books: pa.Table) -> ItemTexts:
        """Those of a table with the columns ``title``, ``author``, ``categories``."""
        return cls(
            titles=_text(books, "title"),
            authors=_text(books, "author"),
            categories=_text(books, "categories"),
            author_bags=_bags(books, "author", ","),
            category_bags=category_bags(books),
        )


def example_tables(
    ranking: Ranking,
    *,
    train: Interactions,
    held_out: Interactions,
    texts: ItemTexts,
    user_ids: Sequence[str],
    config: DiagnosticsConfig,
    rng: np.random.Generator,
) -> tuple[Table, ...]:
    """History and recommendations of a few users, one table each.

    Args:
        ranking: lists of the users to draw from; those without train items are not drawn.
        train: what users had read.
        held_out: what the lists should find.
        texts: of the items.
        user_ids: raw ids by index.
        config: how many users, and how long the lists are.
        rng: draws the users.
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
        category, author = (hit[0] for hit in _hits(texts, items[None, :], histories))
        wanted = held_out.by_user.row(user)
        rows = [
            *_history_rows(texts, histories.row(0)),
            *_list_rows(texts, items, scores, category, author, np.isin(items, wanted)),
        ]
        ratios = (category.mean(), author.mean()) if len(items) else None
        note = _example_note(texts, items, ratios, wanted, has_order=train.times is not None)
        name, title = f"example_{number}", f"Example {number}: user {user_ids[user]}"
        tables.append(Table(name, title, note, _COLUMNS, tuple(rows)))
    return tuple(tables)


def hit_ratio_table(
    rankings: dict[str, Ranking], *, train: Interactions, texts: ItemTexts, k: int
) -> Table:
    """How often recommended items share a category or an author with the history.

    Args:
        rankings: lists by the name of what made them, such as "model" and "popularity".
        train: what users had read; users without train items are left out.
        texts: of the items.
        k: length of the lists looked at.
    """
    records = []
    for name, ranking in rankings.items():
        category, author = _ratios(ranking, train, texts, k)
        record: dict[str, Cell] = {"recommender": name, "users": mean_interval(category).n}
        for kind, values in (("category", category), ("author", author)):
            ratio = mean_interval(values)
            record |= {f"{kind}_hits": ratio.mean}
            record |= {f"{kind}_low": ratio.low, f"{kind}_high": ratio.high}
        records.append(record)
    return Table.from_records(
        "qualitative_summary",
        f"Recommended items that share something with the history, first {k}",
        "category_hits (author_hits): the share of a user's recommended items that have at least "
        "one category (author) in common with the user's train items, the mean over users; low "
        "and high: 95% interval over users. Where items have many categories nearly every item "
        "shares one: compare with popularity.",
        records,
    )


def _history_rows(texts: ItemTexts, history: IntArray) -> Iterator[tuple[Cell, ...]]:
    for position, item in enumerate(history[::-1][:SHOWN_HISTORY], start=1):
        yield ("history", position, *_texts_of(texts, int(item)), None, None, None, None)


def _list_rows(
    texts: ItemTexts, items: IntArray, scores: FloatArray, *marks: BoolArray
) -> Iterator[tuple[Cell, ...]]:
    rows = zip(items.tolist(), scores.tolist(), *marks, strict=True)
    for position, (item, score, *marked) in enumerate(rows, start=1):
        shown = ("yes" if mark else "" for mark in marked)
        yield ("recommended", position, *_texts_of(texts, item), score, *shown)


def _example_note(
    texts: ItemTexts,
    items: IntArray,
    ratios: tuple[float, float] | None,
    wanted: IntArray,
    *,
    has_order: bool,
) -> str:
    order = "latest first" if has_order else "in no order, as the data has none"
    parts = [f"History: at most {SHOWN_HISTORY} train items, {order}."]
    if ratios is not None:
        category, author = ratios
        parts.append(
            f"Category hit ratio {category:.2f}, author hit ratio {author:.2f}: the share of "
            f"these {len(items)} recommendations with a category (author) of the train items."
        )
    for item in wanted[:3]:
        place = np.flatnonzero(items == item)
        where = f"at rank {place[0] + 1}" if len(place) else f"not among the first {len(items)}"
        parts.append(f"Held out: {texts.titles[int(item)].as_py() or 'untitled'}, {where}.")
    return " ".join(parts)


def _ratios(
    ranking: Ranking, train: Interactions, texts: ItemTexts, k: int
) -> tuple[FloatArray, FloatArray]:
    """Category and author hit ratio of each user, (n,); NaN without list or history."""
    category, author = (np.full(len(ranking.users), np.nan) for _ in range(2))
    for start in range(0, len(ranking.users), _BLOCK):
        rows = slice(start, start + _BLOCK)
        items, users = ranking.items[rows, :k], ranking.users[rows]
        histories = train.by_user.take(users)
        hits = _hits(texts, items, histories)
        filled = (items >= 0).sum(axis=1)
        usable = (filled > 0) & (histories.lengths > 0)
        for target, hit in zip((category, author), hits, strict=True):
            target[rows][usable] = hit.sum(axis=1)[usable] / filled[usable]
    return category, author


def _hits(texts: ItemTexts, items: IntArray, histories: Bags) -> tuple[BoolArray, BoolArray]:
    """Whether each listed item (n, k) shares a category, and an author, with its row's history."""
    read = histories.to_scipy()
    return _shares(items, read, texts.category_bags), _shares(items, read, texts.author_bags)


def _shares(items: IntArray, read: sparse.csr_matrix, bags: Bags) -> BoolArray:
    known = (read @ bags.to_scipy()).tocsr()  # (n, columns): how often each was read
    places = np.flatnonzero(items.ravel() >= 0)
    owners, columns = bags.entries(items.ravel()[places])
    users = places[owners] // items.shape[1]
    found = Bags(known.indptr, known.indices, bags.n_columns).contains(users, columns)
    hits = np.zeros(items.size, dtype=bool)
    hits[places[owners[found]]] = True
    return hits.reshape(items.shape)


def _texts_of(texts: ItemTexts, item: int) -> tuple[str, str, str]:
    columns = (texts.titles, texts.authors, texts.categories)
    title, author, categories = (column[item].as_py() or "" for column in columns)
    return title, author, categories


def category_bags(books: pa.Table) -> Bags:
    """Every category of every item, whatever the features keep of them, (I, any)."""
    return _bags(books, "categories", CATEGORY_SEPARATOR)


def _bags(books: pa.Table, name: str, separator: str) -> Bags:
    return split_values(pc.fill_null(books.column(name).cast(pa.string()), ""), separator).bags


def _text(books: pa.Table, name: str) -> pa.Array:
    return books.column(name).combine_chunks().cast(pa.string())
