"""The recommender: ranked items for users known and new, and items near an item.

On disk it is a :mod:`recsys.recommender.bundle`: vectors, seen items and the towers' weights as
tensors, ids and texts as Arrow tables, settings as JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys.config import Config
from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.data.columns import AUTHOR, CATEGORIES, ITEM_ID, TITLE, USER_ID
from recsys.data.dataset import Prepared
from recsys.data.features import TITLE_STATISTICS
from recsys.data.histories import Histories
from recsys.data.vocabulary import Vocabulary
from recsys.errors import ConfigError, DataError
from recsys.evaluation.lists import Lists
from recsys.evaluation.scorers import Vectors
from recsys.models.two_tower import TwoTower
from recsys.recommender.approximate import ApproximateSearch
from recsys.recommender.books import Books, Lookup
from recsys.recommender.bundle import Bundle, read_bundle, write_bundle
from recsys.recommender.cold_start import ColdStart
from recsys.recommender.liked import (
    Liked,
    Ratings,
    liked_histories,
)
from recsys.recommender.search import (
    Asking,
    ItemSearch,
    Query,
    Search,
    Wanted,
    answer,
    normalised,
)
from recsys.recommender.stored import from_bundle, to_bundle

POSITION = "position"
"""Column of an answer: the place in the question of what a row answers."""
Source = Literal["model", "popularity", "fold_in", "liked_mean"]
"""Where a list comes from.

model: the user's own vectors. fold_in: a new user's, by the user tower from the items they like.
liked_mean: the mean of those items' vectors, where the user tower knows ids alone.
popularity: the items most common in train, the same for everyone of whom nothing is known.
"""


@dataclass(frozen=True, eq=False)
class Recommender:
    """Vectors of known users and items, what each user has seen, and how to place those never seen.

    Attributes:
        users: ids of the known users, U.
        books: ids and texts of the catalogue, I.
        vectors: the product of a user's and an item's is the score; with several vectors a user,
            what is combined of their products.
        seen: items known of each user when the model was judged, train and validation, oldest
            first.
        popularity: train interactions of each item, (I,).
        provenance: where the model comes from (run, data fingerprint), as plain JSON values.
        cold_start: makes vectors of new users and items; None where only known ones have any.
        approximate: finds nearly the best items in less time; None to search exactly.
    """

    users: Vocabulary
    books: Books
    vectors: Vectors
    seen: Bags
    popularity: IntArray
    provenance: Mapping[str, Any]
    cold_start: ColdStart | None = None
    approximate: ApproximateSearch | None = None

    @classmethod
    def of(
        cls,
        vectors: Vectors,
        prepared: Prepared,
        provenance: Mapping[str, Any],
        *,
        model: TwoTower,
        config: Config,
    ) -> Recommender:
        """The recommender that gives the lists which evaluation on test saw.

        Args:
            vectors: those that were evaluated.
            prepared: what the model was trained on.
            provenance: where it comes from.
            model: what made the vectors.
            config: what the model was built and the data prepared with.
        """
        return cls(
            users=prepared.users,
            books=Books.of(prepared.books),
            vectors=vectors,
            seen=Histories.of(prepared.train, prepared.validation).bags,
            popularity=prepared.train.item_counts,
            provenance=dict(provenance),
            cold_start=ColdStart.of(model, prepared, config),
        )

    @property
    def items(self) -> Vocabulary:
        """Ids of the catalogue."""
        return self.books.ids

    @property
    def n_bytes(self) -> int:
        """Bytes of what serving holds: vectors, seen items, texts, features and weights."""
        index = 0 if self.approximate is None else self.approximate.recall.n_bytes
        return self._bundle().n_bytes + index

    # Users ---------------------------------------------------------------------------------------

    def recommend(
        self,
        user_ids: Sequence[str],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        categories: Sequence[str] = (),
    ) -> pd.DataFrame:
        """The k best items for each user, best first.

        A user the model does not know gets the most popular items, and the answer says so.

        Args:
            user_ids: raw ids; a user named twice is answered twice.
            k: list length; a user who has seen nearly everything gets fewer.
            exclude_seen: leave out what the user is known to have, or likes.
            categories: recommend only items that carry one of these; none for all items.

        Returns:
            One row a recommendation: user_id, rank (from 1), item_id, score, title and source
            (``model`` or ``popularity``, see :data:`Source`).

        Raises:
            ConfigError: k is below 1 or above the size of the catalogue.
            DataError: a category that no item carries.
        """
        table = self.recommend_table(user_ids, k, exclude_seen=exclude_seen, categories=categories)
        return _frame(table)

    def recommend_table(self, user_ids: Sequence[str], k: int = 10, **options: Any) -> pa.Table:
        """The answer of :meth:`recommend` as an Arrow table."""
        liked: Liked = [[]] * len(user_ids)
        return answer(self.ask_for_users(user_ids, liked, k, **options)).drop_columns(POSITION)

    def recommend_for_liked(
        self,
        liked: Liked,
        k: int = 10,
        *,
        ratings: Ratings | None = None,
        exclude_seen: bool = True,
        categories: Sequence[str] = (),
    ) -> pd.DataFrame:
        """The k best items for users of whom only liked items are known, best first.

        These go through the user tower as what a user has whose id it does not know (source
        ``fold_in``). The last of a list is the most recent; a list carries no times: with
        ``time_decayed_mean`` its items count alike. A tower that knows ids alone cannot do this;
        then the mean of the items' own vectors stands for the user (``liked_mean``). Ids that the
        catalogue does not have are passed over; a user with none left gets the most popular items
        (``popularity``).

        Args:
            liked: raw ids of each user's items, the most recent last; one that is named twice
                counts once, where it stands last.
            k: as for :meth:`recommend`, like the other options.
            ratings: of those items, lists of the same lengths, None where an item has none; for
                models that were trained with ratings, without meaning for others.
            exclude_seen: leave out the liked items themselves.
            categories: recommend only items that carry one of these.

        Returns:
            One row a recommendation: position (of the user in ``liked``), rank (from 1),
            item_id, score, title and source.

        Raises:
            ConfigError: as :meth:`recommend`.
            DataError: as well, and a user given as a text, not as a list; ratings that do not fit
                the items.
        """
        nobody = [None] * len(liked)
        asking = self.ask_for_users(
            nobody, liked, k, ratings=ratings, exclude_seen=exclude_seen, categories=categories
        )
        return _frame(answer(asking).drop_columns(USER_ID))

    def recommend_for_users(
        self,
        user_ids: Sequence[str | None],
        liked: Liked,
        k: int = 10,
        *,
        ratings: Ratings | None = None,
        exclude_seen: bool = True,
        categories: Sequence[str] = (),
    ) -> pd.DataFrame:
        """The k best items for users, each by what is known of them, best first.

        A user the model knows gets their own list, whatever they are said to like; another one
        is placed by the liked items, and where there are none gets the most popular items.

        Args:
            user_ids: raw ids, None for a user without one, (n,).
            liked: raw ids of each user's items, the most recent last, (n,).
            k: as for :meth:`recommend_for_liked`, like the other options.
            ratings: of the liked items.
            exclude_seen: leave out what the user is known to have, or likes.
            categories: recommend only items that carry one of these.

        Returns:
            As :meth:`recommend_for_liked`, with user_id (null where there is none) after position.

        Raises:
            ConfigError: as :meth:`recommend_for_liked`.
            DataError: as well.
        """
        asking = self.ask_for_users(
            user_ids, liked, k, ratings=ratings, exclude_seen=exclude_seen, categories=categories
        )
        return _frame(answer(asking))

    def ask_for_users(
        self,
        user_ids: Sequence[str | None],
        liked: Liked,
        k: int = 10,
        *,
        ratings: Ratings | None = None,
        exclude_seen: bool = True,
        categories: Sequence[str] = (),
    ) -> Asking[pa.Table]:
        """The question of :meth:`recommend_for_users`."""
        self._check_k(k)
        allowed = self.books.carrying(categories)
        names = [None if name is None else str(name) for name in user_ids]
        users = np.full(len(names), -1)
        named = np.array([row for row, name in enumerate(names) if name is not None], np.int64)
        users[named] = self._user_lookup.index_of([name for name in names if name is not None])
        histories = liked_histories(liked, ratings, self.books.lookup, len(self.books))
        masked = self._seen_by(users, histories) if exclude_seen else None
        lists, sources = yield from self._lists(users, histories, k, masked, allowed)
        columns = {**_positions(len(names)), USER_ID: pa.array(names, pa.string())}
        return self._item_table(lists, columns, sources)

    def lists_among(
        self, user_ids: Sequence[str], known: Histories, k: int, allowed: BoolArray
    ) -> Lists:
        """The k best of some items for users of whom other items are known than when trained.

        Args:
            user_ids: raw ids, (n,).
            known: items of the catalogue that each user has, (n, I): left out, and what places
                a user whose id the model does not know.
            k: list length.
            allowed: the only items that may appear, (I,).
        """
        users = self._user_lookup.index_of(user_ids)
        return answer(self._lists(users, known, k, known.bags, allowed))[0]

    def _seen_by(self, users: IntArray, liked: Histories) -> Bags:
        """What is left out of each user's list: what the model has seen of them, else the liked."""
        is_known = users >= 0
        if is_known.all():
            return self.seen.take(users)
        seen = self.seen.take(users[is_known])
        others = np.flatnonzero(~is_known)
        rows, items = liked.bags.entries(others)
        return Bags.from_pairs(
            np.concatenate([np.flatnonzero(is_known)[seen.owners], others[rows]]),
            np.concatenate([seen.indices, items]),
            n_rows=len(users),
            n_columns=len(self.books),
        )

    def _lists(
        self,
        users: IntArray,
        histories: Histories,
        k: int,
        masked: Bags | None,
        allowed: BoolArray | None,
    ) -> Asking[tuple[Lists, np.ndarray]]:
        """Lists of users and where each comes from, (n, k) and (n,); -1 is no known user."""
        search: Search = self.approximate or self._item_search
        sources = np.full(len(users), "popularity", dtype=object)
        known = np.flatnonzero(users >= 0)
        placed = np.flatnonzero((users < 0) & (histories.lengths > 0))
        others = np.flatnonzero((users < 0) & (histories.lengths == 0))
        wanted: list[Wanted] = []

        def want(rows: IntArray, vectors: FloatArray, source: Source) -> None:
            own = None if masked is None else masked.take(rows)
            wanted.append(Wanted(search, Query(vectors, k, own, allowed)))
            sources[rows] = source

        if len(known):
            want(known, self.vectors.users[users[known]], "model")
        if len(placed):
            want(placed, self._liked_vectors(histories.take(placed)), self._liked_source)
        if len(others):
            anyone = np.ones((1, 1), dtype=np.float32)
            wanted.append(Wanted(self._popular_search, Query(anyone, k, allowed=allowed)))
        found = yield wanted
        lists = Lists.empty(len(users), k)
        groups = [rows for rows in (known, placed, others) if len(rows)]
        for rows, some in zip(groups, found, strict=True):
            lists.put(rows, some)
        return lists, sources

    def is_known(self, user_ids: Sequence[str]) -> BoolArray:
        """Whether the model knows each user, (n,)."""
        known: BoolArray = self._user_lookup.index_of([str(name) for name in user_ids]) >= 0
        return known

    # Items ---------------------------------------------------------------------------------------

    def similar_items(
        self, item_ids: Sequence[str], k: int = 10, *, categories: Sequence[str] = ()
    ) -> pd.DataFrame:
        """The k items nearest to each item of the catalogue, without itself, nearest first.

        Args:
            item_ids: raw ids; an item named twice is answered twice.
            k: list length.
            categories: only items that carry one of these; none for all items.

        Returns:
            One row a neighbour: item_id, rank (from 1), similar_item_id, score (the cosine of the
            items' vectors) and title (of the neighbour).

        Raises:
            ConfigError: k is below 1 or above the size of the catalogue.
            DataError: an item that is not in the catalogue; a category that no item carries.
        """
        return _frame(answer(self.ask_for_similar_items(item_ids, k, categories=categories)))

    def ask_for_similar_items(
        self, item_ids: Sequence[str], k: int = 10, *, categories: Sequence[str] = ()
    ) -> Asking[pa.Table]:
        """The question of :meth:`similar_items`."""
        self._check_k(k)
        allowed = self.books.carrying(categories)
        asked = [str(item_id) for item_id in item_ids]
        items = self.books.lookup.index_of(asked)
        if (items < 0).any():
            raise DataError(
                f"'item_id' must be in the catalogue, got '{asked[int(np.argmin(items))]}'"
            )
        itself = Bags(np.arange(len(items) + 1), items.astype(np.int32), len(self.books))
        search = self._cosine_search
        query = Query(search.catalogue.items[items], k, itself, allowed)
        (lists,) = yield [Wanted(search, query)]
        columns = {ITEM_ID: pa.array(asked, pa.string())}
        return self._item_table(lists, columns, key="similar_item_id")

    def similar_to_book(
        self, books: pd.DataFrame, k: int = 10, *, categories: Sequence[str] = ()
    ) -> pd.DataFrame:
        """The k items of the catalogue nearest to each new book, known by its metadata alone.

        Args:
            books: at least one of title, author, categories and the numeric columns the model
                was trained with; what is absent or empty counts as missing.
            k: list length.
            categories: only items that carry one of these; none for all items.

        Returns:
            One row a neighbour: position (of the book in ``books``), rank (from 1), item_id, score
            (the cosine of the items' vectors) and title.

        Raises:
            ConfigError: k is below 1 or above the size of the catalogue.
            DataError: columns that the model does not know or that hold something else; a model
                whose item tower reads no metadata; a category that no item carries.
        """
        return _frame(answer(self.ask_for_similar_to_book(books, k, categories=categories)))

    def ask_for_similar_to_book(
        self, books: pd.DataFrame, k: int = 10, *, categories: Sequence[str] = ()
    ) -> Asking[pa.Table]:
        """The question of :meth:`similar_to_book`."""
        self._check_k(k)
        allowed = self.books.carrying(categories)
        vectors = normalised(self._likeness(self._new_item_vectors(books)))
        (lists,) = yield [Wanted(self._cosine_search, Query(vectors, k, allowed=allowed))]
        return self._item_table(lists, _positions(len(vectors)))

    def users_of_book(self, books: pd.DataFrame, k: int = 10) -> pd.DataFrame:
        """The k known users who score each new book highest, by its metadata alone.

        Args:
            books: as for :meth:`similar_to_book`.
            k: list length.

        Returns:
            One row a user: position (of the book in ``books``), rank (from 1), user_id and score.

        Raises:
            ConfigError: k is below 1 or above the number of known users.
            DataError: columns that the model does not know or that hold something else; a model
                whose item tower reads no metadata.
        """
        return _frame(answer(self.ask_for_users_of_book(books, k)))

    def ask_for_users_of_book(self, books: pd.DataFrame, k: int = 10) -> Asking[pa.Table]:
        """The question of :meth:`users_of_book`."""
        _check_length(k, len(self.users), "the known users")
        query = Query(self._new_item_vectors(books), k)
        (lists,) = yield [Wanted(self._user_search, query)]
        rows, ranks = np.nonzero(lists.items >= 0)
        return pa.table(
            {
                POSITION: pa.array(rows),
                "rank": pa.array(ranks + 1),
                USER_ID: self.users.ids.take(pa.array(lists.items[rows, ranks])),
                "score": pa.array(lists.scores[rows, ranks]),
            }
        )

    @property
    def book_columns(self) -> tuple[str, ...]:
        """What a new book may be described by."""
        if self.cold_start is None:
            return (TITLE, AUTHOR, CATEGORIES)
        scales = self.cold_start.item_featurizer.scales
        numbers = [scale.name for scale in scales if scale.name not in TITLE_STATISTICS]
        return (TITLE, AUTHOR, CATEGORIES, *numbers)

    # Files ---------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the bundle to the directory, whole or not at all; an older one is replaced.

        Raises:
            ArtifactError: it cannot be written.
        """
        write_bundle(path, self._bundle())

    def _bundle(self) -> Bundle:
        return to_bundle(
            users=self.users,
            books=self.books,
            vectors=self.vectors,
            seen=self.seen,
            popularity=self.popularity,
            provenance=self.provenance,
            cold_start=self.cold_start,
        )

    @classmethod
    def load(cls, path: Path) -> Recommender:
        """The recommender that :meth:`save` wrote, tensors and texts memory-mapped.

        Raises:
            ArtifactError: the directory holds no bundle, one of another format, or one that was
                changed or damaged.
        """
        return cls(**from_bundle(read_bundle(path), path))

    def with_approximate(self, *, k: int = 10, n_sample: int = 200) -> Recommender:
        """The same recommender, which finds nearly the best items by an index (usearch).

        Its recall against the exact lists is measured while it is built and held in
        ``approximate.recall``.

        Args:
            k: length of the lists that recall is measured on.
            n_sample: how many users it is measured on.

        Raises:
            ConfigError: usearch is not installed.
        """
        approximate = ApproximateSearch.build(
            self._item_search, self.vectors.users, self.seen, k=k, n_sample=n_sample
        )
        return dataclasses.replace(self, approximate=approximate)

    # Parts ---------------------------------------------------------------------------------------

    @cached_property
    def _user_lookup(self) -> Lookup:
        return Lookup(self.users.ids)

    @cached_property
    def _item_search(self) -> ItemSearch:
        return ItemSearch(self.vectors.items, self.vectors.combine)

    @cached_property
    def _popular_search(self) -> ItemSearch:
        counts = self.popularity.astype(np.float32)[:, None]
        return ItemSearch(counts)

    @cached_property
    def _user_search(self) -> ItemSearch:
        return ItemSearch(self.vectors.users, self.vectors.combine)

    @cached_property
    def _cosine_search(self) -> ItemSearch:
        unit = normalised(self._likeness(self.vectors.items))
        return ItemSearch(unit)

    def _likeness(self, items: FloatArray) -> FloatArray:
        """Vectors of items without the coordinate that says how popular they are."""
        if self.cold_start is None or self.cold_start.model.popularity is None:
            return items
        return np.ascontiguousarray(items[:, :-1])

    def _check_k(self, k: int) -> None:
        _check_length(k, len(self.books), "the catalogue")

    @property
    def _liked_source(self) -> Source:
        folds_in = self.cold_start is not None and self.cold_start.encodes_users
        return "fold_in" if folds_in else "liked_mean"

    def _liked_vectors(self, liked: Histories) -> FloatArray:
        """Vectors of users by what they like, at least one item each; (n, D) or (n, K, D)."""
        if self.cold_start is not None and self.cold_start.encodes_users:
            return self.cold_start.user_vectors(liked)
        starts = liked.offsets[:-1]
        totals = np.add.reduceat(self.vectors.items[liked.items], starts, axis=0)
        means = (totals / liked.lengths[:, None]).astype(np.float32)
        return means if self.cold_start is None else self.cold_start.vectors_near(means)

    def _new_item_vectors(self, books: pd.DataFrame) -> FloatArray:
        if self.cold_start is None:
            raise DataError("a new book needs a model with towers; this one holds vectors alone")
        return self.cold_start.item_vectors(_book_table(books, self.book_columns))

    def _item_table(
        self,
        lists: Lists,
        columns: Mapping[str, pa.Array],
        sources: np.ndarray | None = None,
        *,
        key: str = ITEM_ID,
    ) -> pa.Table:
        """One row for each item found: what was asked, rank, item, score, title and source."""
        rows, ranks = np.nonzero(lists.items >= 0)
        items = pa.array(lists.items[rows, ranks])
        answer = {name: values.take(pa.array(rows)) for name, values in columns.items()}
        answer |= {
            "rank": pa.array(ranks + 1),
            key: self.items.ids.take(items),
            "score": pa.array(lists.scores[rows, ranks]),
            "title": self.books.titles.take(items),
        }
        if sources is not None:
            answer["source"] = pa.array(sources, pa.string()).take(pa.array(rows))
        return pa.table(answer)


def _frame(answer: pa.Table) -> pd.DataFrame:
    # handing columns to other threads takes longer than they do: their texts are not copied
    frame: pd.DataFrame = answer.to_pandas(use_threads=False)
    return frame


def _positions(n: int) -> dict[str, pa.Array]:
    return {POSITION: pa.array(np.arange(n))}


def _check_length(k: int, highest: int, what: str) -> None:
    is_whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    if not is_whole or not 1 <= k <= highest:
        raise ConfigError(f"'k' must be from 1 to {highest}, {what}, got {k}")


def _book_table(books: pd.DataFrame, known: Sequence[str]) -> pa.Table:
    """New books as a table; texts as strings, numbers as float64, null where missing."""
    names = [str(name) for name in books.columns]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        given = f"'{unknown[0]}'" if unknown else "none"
        raise DataError(f"a new book must be described by {', '.join(known)}, got {given}")
    columns = {}
    for name, values in zip(names, (books[name] for name in books.columns), strict=True):
        expected = pa.string() if name in (TITLE, AUTHOR, CATEGORIES) else pa.float64()
        try:
            column = pa.array(values.tolist(), expected, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            kind = "texts" if expected == pa.string() else "numbers"
            raise DataError(f"column '{name}' of a new book must hold {kind} ({error})") from error
        if expected == pa.float64() and np.isinf(column.to_numpy(zero_copy_only=False)).any():
            raise DataError(f"column '{name}' of a new book must hold finite numbers")
        columns[name] = column
    return pa.table(columns)
