"""The recommender: ranked items for users known and new, and items near an item.

On disk it is a :mod:`recsys.recommender.bundle`: vectors, seen items and the towers' weights as
tensors, ids and texts as Arrow tables, settings as JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from recsys.config import Config
from recsys.data.arrays import BoolArray
from recsys.data.columns import USER_ID
from recsys.data.dataset import Prepared
from recsys.data.histories import Histories
from recsys.evaluation.scorers import Vectors
from recsys.models.two_tower import TwoTower
from recsys.recommender import questions
from recsys.recommender.approximate import ApproximateSearch
from recsys.recommender.books import Books
from recsys.recommender.bundle import read_bundle, write_bundle
from recsys.recommender.cold_start import ColdStart
from recsys.recommender.liked import Liked, Ratings, check_list
from recsys.recommender.parts import Parts
from recsys.recommender.search import answer
from recsys.recommender.stored import from_bundle, to_bundle


@dataclass(frozen=True, eq=False)
class Recommender(Parts):
    """Answers questions of known and new users and items; see :class:`Parts` for its attributes."""

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
            books=Books(prepared.books),
            vectors=vectors,
            seen=Histories.of(prepared.train, prepared.validation).bags,
            popularity=prepared.train.item_counts,
            provenance=dict(provenance),
            cold_start=ColdStart.of(model, prepared, config),
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of what serving holds: vectors, seen items, texts, features and weights."""
        index = 0 if self.approximate is None else self.approximate.recall.n_bytes
        return to_bundle(self).n_bytes + index

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
        asking = questions.recommend_for_users(self, user_ids, liked, k, **options)
        return answer(asking).drop_columns(questions.POSITION)

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
        asking = questions.recommend_for_users(
            self,
            [None] * len(liked),
            liked,
            k,
            ratings=ratings,
            exclude_seen=exclude_seen,
            categories=categories,
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
        asking = questions.recommend_for_users(
            self,
            user_ids,
            liked,
            k,
            ratings=ratings,
            exclude_seen=exclude_seen,
            categories=categories,
        )
        return _frame(answer(asking))

    def is_known(self, user_ids: Sequence[str]) -> BoolArray:
        """Whether the model knows each user, (n,)."""
        check_list(user_ids, "users")
        known: BoolArray = self.users.find([str(name) for name in user_ids]) >= 0
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
        asking = questions.similar_items(self, item_ids, k, categories=categories)
        return _frame(answer(asking).drop_columns(questions.POSITION))

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
        return _frame(answer(questions.similar_to_book(self, books, k, categories=categories)))

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
        return _frame(answer(questions.users_of_book(self, books, k)))

    # Files ---------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the bundle to the directory, whole or not at all; an older one is replaced.

        Raises:
            ArtifactError: it cannot be written.
        """
        write_bundle(path, to_bundle(self))

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
            self.exact_search, self.vectors.users, self.seen, k=k, n_sample=n_sample
        )
        return dataclasses.replace(self, approximate=approximate)


def _frame(answer: pa.Table) -> pd.DataFrame:
    # handing columns to other threads takes longer than they do: their texts are not copied
    frame: pd.DataFrame = answer.to_pandas(use_threads=False)
    return frame
