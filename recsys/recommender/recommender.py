"""The recommender: ranked books for users known and new, and books near a book.

On disk it is a :mod:`recsys.recommender.bundle`: vectors, seen books and the towers' weights as
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
from recsys.evaluation.ranking import Vectors
from recsys.models.two_tower import TwoTower
from recsys.recommender import stored
from recsys.recommender.approximate import ApproximateSearch
from recsys.recommender.books import Books
from recsys.recommender.bundle import read_bundle, write_bundle
from recsys.recommender.cold_start import ColdStart
from recsys.recommender.enquiry import Enquiry, Wanted, answer_alone
from recsys.recommender.liked import (
    Liked,
    Ratings,
    as_bags,
    liked_histories,
    no_histories,
)
from recsys.recommender.lookup import Lookup
from recsys.recommender.search import Found, ItemSearch, Query, Search, normalised

Source = Literal["model", "popularity", "fold_in", "liked_mean"]
"""Where a list comes from.

model: the user's own vectors. fold_in: a new user's, by the user tower from the books they like.
liked_mean: the mean of those books' vectors, where the user tower knows ids alone.
popularity: the books most read in train, the same for everyone of whom nothing is known.
"""


@dataclass(frozen=True, eq=False)
class Recommender:
    """Vectors of known users and items, what each user has seen, and how to place those never seen.

    Attributes:
        users: ids of the known users, U.
        books: ids and texts of the catalogue, I.
        vectors: the product of a user's and an item's is the score; with several vectors a user,
            what is combined of their products.
        seen: items known of each user when the model was judged: train and validation.
        popularity: train interactions of each item, (I,).
        provenance: where the model comes from (run, data fingerprint), as plain JSON values.
        cold_start: makes vectors of new users and books; None where only known ones have any.
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
            seen=prepared.train.by_user.union(prepared.validation.by_user),
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
        """Bytes of what serving holds: vectors, seen books, texts, features and weights."""
        return stored.count_bytes(self)

    # Users ---------------------------------------------------------------------------------------

    def recommend(
        self,
        user_ids: Sequence[str],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        categories: Sequence[str] = (),
    ) -> pd.DataFrame:
        """The k best books for each user, best first.

        A user the model does not know gets the most popular books, and the answer says so.

        Args:
            user_ids: raw ids; a user named twice is answered twice.
            k: list length; a user who has seen nearly everything gets fewer.
            exclude_seen: leave out what the user is known to have read.
            categories: recommend only books that carry one of these; none for all books.

        Returns:
            One row a recommendation: user_id, rank (from 1), item_id, score, title and source
            (``model`` or ``popularity``, see :data:`Source`).

        Raises:
            ConfigError: k is below 1 or above the size of the catalogue.
            DataError: a category that no book carries.
        """
        answer = self.recommend_table(user_ids, k, exclude_seen=exclude_seen, categories=categories)
        return _frame(answer)

    def recommend_table(
        self,
        user_ids: Sequence[str],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        categories: Sequence[str] = (),
    ) -> pa.Table:
        """The answer of :meth:`recommend` as an Arrow table."""
        asked = [str(user_id) for user_id in user_ids]
        users, liked = self._user_lookup.index_of(asked), no_histories(len(asked), len(self.books))
        who = _Asked(users, liked, {USER_ID: pa.array(asked, pa.string())})
        return answer_alone(self._ask(who, k, exclude_seen, categories))

    def recommend_for_liked(
        self,
        liked: Liked,
        k: int = 10,
        *,
        ratings: Ratings | None = None,
        exclude_seen: bool = True,
        categories: Sequence[str] = (),
    ) -> pd.DataFrame:
        """The k best books for users of whom only liked books are known, best first.

        The books go through the user tower as what a user has whose id it does not know (source
        ``fold_in``). The last of a list is the most recent; a list carries no times: with
        ``time_decayed_mean`` its books count alike. A tower that knows ids alone cannot do this;
        then the mean of the books' own vectors stands for the user (``liked_mean``). Ids that the
        catalogue does not have are passed over; a user with none left gets the most popular books
        (``popularity``).

        Args:
            liked: raw ids of each user's books, the most recent last; one that is named twice
                counts once, where it stands last.
            k: list length.
            ratings: of those books, lists of the same lengths, None where a book has none; for
                models that were trained with ratings, without meaning for others.
            exclude_seen: leave out the liked books themselves.
            categories: recommend only books that carry one of these; none for all books.

        Returns:
            One row a recommendation: position (of the user in ``liked``), rank (from 1),
            item_id, score, title and source.

        Raises:
            ConfigError: k is below 1 or above the size of the catalogue.
            DataError: a category that no book carries; a user given as a text, not as a list;
                ratings that do not fit the books.
        """
        histories = self._histories(liked, ratings)
        n_users = len(histories)
        who = _Asked(np.full(n_users, -1), histories, _positions(n_users))
        return _frame(answer_alone(self._ask(who, k, exclude_seen, categories)))

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
        """The k best books for users, each by what is known of them, best first.

        A user the model knows gets their own list, whatever they are said to like; another one
        is placed by the liked books, and where there are none gets the most popular books.

        Args:
            user_ids: raw ids, None for a user without one, (n,).
            liked: raw ids of each user's books, the most recent last, (n,).
            k: list length.
            ratings: as for :meth:`recommend_for_liked`.
            exclude_seen: leave out what the user is known to have read, or likes.
            categories: recommend only books that carry one of these; none for all books.

        Returns:
            As :meth:`recommend_for_liked`, with user_id (null where there is none) after position.

        Raises:
            ConfigError: k is below 1 or above the size of the catalogue.
            DataError: a category that no book carries; a user's books given as a text; ratings
                that do not fit the books.
        """
        asked = self.ask_for_users(
            user_ids,
            liked,
            k,
            ratings=ratings,
            exclude_seen=exclude_seen,
            categories=categories,
        )
        return _frame(answer_alone(asked))

    def ask_for_users(
        self,
        user_ids: Sequence[str | None],
        liked: Liked,
        k: int = 10,
        *,
        ratings: Ratings | None = None,
        exclude_seen: bool = True,
        categories: Sequence[str] = (),
    ) -> Enquiry:
        """The question of :meth:`recommend_for_users`, to be searched for with others."""
        users = np.full(len(user_ids), -1)
        named = np.array([row for row, name in enumerate(user_ids) if name is not None], np.int64)
        users[named] = self._user_lookup.index_of([str(user_ids[row]) for row in named])
        names = [None if name is None else str(name) for name in user_ids]
        asked = {**_positions(len(users)), USER_ID: pa.array(names, pa.string())}
        who = _Asked(users, self._histories(liked, ratings), asked)
        return self._ask(who, k, exclude_seen, categories)

    def is_known(self, user_ids: Sequence[str]) -> BoolArray:
        """Whether the model knows each user, (n,)."""
        known: BoolArray = self._user_lookup.index_of([str(name) for name in user_ids]) >= 0
        return known

    # Books ---------------------------------------------------------------------------------------

    def similar_items(
        self, item_ids: Sequence[str], k: int = 10, *, categories: Sequence[str] = ()
    ) -> pd.DataFrame:
        """The k books nearest to each book of the catalogue, without itself, nearest first.

        Args:
            item_ids: raw ids; a book named twice is answered twice.
            k: list length.
            categories: only books that carry one of these; none for all books.

        Returns:
            One row a neighbour: item_id, rank (from 1), similar_item_id, score (the cosine of the
            books' vectors) and title (of the neighbour).

        Raises:
            ConfigError: k is below 1 or above the size of the catalogue.
            DataError: a book that is not in the catalogue; a category that no book carries.
        """
        return _frame(answer_alone(self.ask_for_similar_items(item_ids, k, categories=categories)))

    def ask_for_similar_items(
        self, item_ids: Sequence[str], k: int = 10, *, categories: Sequence[str] = ()
    ) -> Enquiry:
        """The question of :meth:`similar_items`, to be searched for with others."""
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
        names = {ITEM_ID: pa.array(asked, pa.string())}
        return Enquiry(
            (Wanted(search, Query(search.items[items], k, itself, allowed)),),
            lambda found: self._answer(found[0], names, key="similar_item_id"),
        )

    def similar_to_book(
        self, books: pd.DataFrame, k: int = 10, *, categories: Sequence[str] = ()
    ) -> pd.DataFrame:
        """The k books of the catalogue nearest to each new book, known by its metadata alone.

        Args:
            books: at least one of title, author, categories and the numeric columns the model
                was trained with; what is absent or empty counts as missing.
            k: list length.
            categories: only books that carry one of these; none for all books.

        Returns:
            One row a neighbour: position (of the book in ``books``), rank (from 1), item_id, score
            (the cosine of the books' vectors) and title.

        Raises:
            ConfigError: k is below 1 or above the size of the catalogue.
            DataError: columns that the model does not know or that hold something else; a model
                whose item tower reads no metadata; a category that no book carries.
        """
        return _frame(answer_alone(self.ask_for_similar_to_book(books, k, categories=categories)))

    def ask_for_similar_to_book(
        self, books: pd.DataFrame, k: int = 10, *, categories: Sequence[str] = ()
    ) -> Enquiry:
        """The question of :meth:`similar_to_book`, to be searched for with others."""
        self._check_k(k)
        allowed = self.books.carrying(categories)
        vectors = normalised(self._likeness(self._new_item_vectors(books)))
        return Enquiry(
            (Wanted(self._cosine_search, Query(vectors, k, allowed=allowed)),),
            lambda found: self._answer(found[0], _positions(len(vectors))),
        )

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
        return _frame(answer_alone(self.ask_for_users_of_book(books, k)))

    def ask_for_users_of_book(self, books: pd.DataFrame, k: int = 10) -> Enquiry:
        """The question of :meth:`users_of_book`, to be searched for with others."""
        _check_length(k, len(self.users), "the known users")
        wanted = Wanted(self._user_search, Query(self._new_item_vectors(books), k))
        return Enquiry((wanted,), lambda found: self._user_answer(found[0]))

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
        write_bundle(path, stored.to_bundle(self))

    @classmethod
    def load(cls, path: Path) -> Recommender:
        """The recommender that :meth:`save` wrote, tensors and texts memory-mapped.

        Raises:
            ArtifactError: the directory holds no bundle, one of another format, or one that was
                changed or damaged.
        """
        return cls(**stored.from_bundle(read_bundle(path), path))

    def with_approximate(self, *, k: int = 10, n_sample: int = 200) -> Recommender:
        """The same recommender, which finds nearly the best books by an index (usearch).

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
        return ItemSearch(self.popularity.astype(np.float32)[:, None])

    @cached_property
    def _user_search(self) -> ItemSearch:
        return ItemSearch(self.vectors.users, self.vectors.combine)

    @cached_property
    def _cosine_search(self) -> ItemSearch:
        return ItemSearch(normalised(self._likeness(self.vectors.items)))

    def _likeness(self, items: FloatArray) -> FloatArray:
        """Vectors of items without the coordinate that says how popular they are."""
        if self.cold_start is None or self.cold_start.model.popularity is None:
            return items
        return np.ascontiguousarray(items[:, :-1])

    def _check_k(self, k: int) -> None:
        _check_length(k, len(self.books), "the catalogue")

    def _ask(self, who: _Asked, k: int, exclude_seen: bool, categories: Sequence[str]) -> Enquiry:
        """Lists of users by index, else by liked books, else popular."""
        self._check_k(k)
        allowed = self.books.carrying(categories)
        search: Search = self.approximate or self._item_search
        users, liked = who.users, who.liked
        n_liked = liked.lengths
        known = np.flatnonzero(users >= 0)
        placed = np.flatnonzero((users < 0) & (n_liked > 0))
        others = np.flatnonzero((users < 0) & (n_liked == 0))
        wanted, rows = [], []
        if len(known):
            seen = self.seen.take(users[known]) if exclude_seen else None
            vectors = self.vectors.users[users[known]]
            wanted.append(Wanted(search, Query(vectors, k, seen, allowed)))
            rows.append(known)
        if len(placed):
            books = liked.take(placed)
            seen = as_bags(books) if exclude_seen else None
            wanted.append(Wanted(search, Query(self._liked_vectors(books), k, seen, allowed)))
            rows.append(placed)
        if len(others):
            anyone = np.ones((1, 1), dtype=np.float32)
            wanted.append(Wanted(self._popular_search, Query(anyone, k, allowed=allowed)))
            rows.append(others)
        sources = np.full(len(users), "model", dtype=object)
        sources[placed], sources[others] = self._liked_source, "popularity"

        def answer(found: Sequence[Found]) -> pa.Table:
            lists = Found.nothing(len(users), k)
            for at, one in zip(rows, found, strict=True):
                lists.put(at, one)
            return self._answer(lists, who.asked, sources)

        return Enquiry(tuple(wanted), answer)

    def _histories(self, liked: Liked, ratings: Ratings | None) -> Histories:
        return liked_histories(liked, ratings, self.books.lookup, len(self.books))

    @property
    def _liked_source(self) -> Source:
        folds_in = self.cold_start is not None and self.cold_start.encodes_users
        return "fold_in" if folds_in else "liked_mean"

    def _liked_vectors(self, liked: Histories) -> FloatArray:
        """Vectors of users by what they like, at least one book each; (n, D) or (n, K, D)."""
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

    def _answer(
        self,
        found: Found,
        asked: Mapping[str, pa.Array],
        sources: np.ndarray | None = None,
        *,
        key: str = ITEM_ID,
    ) -> pa.Table:
        """One row for each item found: what was asked, rank, item, score, title and source."""
        rows, ranks = np.nonzero(found.items >= 0)
        items = pa.array(found.items[rows, ranks])
        columns = {name: values.take(pa.array(rows)) for name, values in asked.items()}
        columns |= {
            "rank": pa.array(ranks + 1),
            key: self.items.ids.take(items),
            "score": pa.array(found.scores[rows, ranks]),
            "title": self.books.titles.take(items),
        }
        if sources is not None:
            columns["source"] = pa.array(sources, pa.string()).take(pa.array(rows))
        return pa.table(columns)

    def _user_answer(self, found: Found) -> pa.Table:
        """One row for each user found."""
        rows, ranks = np.nonzero(found.items >= 0)
        return pa.table(
            {
                "position": pa.array(rows),
                "rank": pa.array(ranks + 1),
                USER_ID: self.users.ids.take(pa.array(found.items[rows, ranks])),
                "score": pa.array(found.scores[rows, ranks]),
            }
        )


@dataclass(frozen=True, eq=False)
class _Asked:
    """Users of one question.

    Attributes:
        users: index of each, -1 for those the model does not know, (n,).
        liked: the books of each.
        asked: columns of the answer that say who was asked for, (n,).
    """

    users: IntArray
    liked: Histories
    asked: Mapping[str, pa.Array]


def _frame(answer: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = answer.to_pandas()
    return frame


def _positions(n: int) -> dict[str, pa.Array]:
    return {"position": pa.array(np.arange(n))}


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
