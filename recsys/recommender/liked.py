"""Items that users of a question like, as histories, which is how a user tower reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.data.arrays import FloatArray, offsets_of
from recsys.data.histories import Histories
from recsys.data.vocabulary import Vocabulary
from recsys.errors import DataError

Liked = Sequence[Sequence[str]]
Ratings = Sequence[Sequence[float | None] | None]


def liked_histories(liked: Liked, ratings: Ratings | None, catalogue: Vocabulary) -> Histories:
    """Each user's items as a history, the last of the list being the most recent.

    Ids that the catalogue does not have are left out; of an id given twice the last counts. The
    place in the list stands for the time.

    Args:
        liked: raw ids of each user's items, (n,) lists.
        ratings: of those items, lists of the same lengths; None in the place of a rating, of a list
            or of all where there are none.
        catalogue: raw ids of the items.

    Raises:
        DataError: a user's items given as a text; ratings that are not as many as the items, or no
            finite numbers.
    """
    for ids in liked:
        check_list(ids, "liked items")
    lengths = [len(ids) for ids in liked]
    items = catalogue.find([str(item_id) for ids in liked for item_id in ids])
    owners = np.repeat(np.arange(len(liked)), lengths)
    places = np.flatnonzero(items >= 0)[::-1]
    # numbers that stand for (user, item); read from the end, the first of each is the last given
    codes = owners[places].astype(np.int64) * len(catalogue) + items[places]
    kept = np.sort(places[np.unique(codes, return_index=True)[1]])
    given = None if ratings is None else _given_ratings(ratings, lengths)
    return Histories(
        offsets_of(np.bincount(owners[kept], minlength=len(liked))),
        items[kept].astype(np.int32),
        kept,
        None if given is None else given[kept],
        len(catalogue),
    )


def check_list(ids: Sequence[Any], what: str) -> None:
    """Refuse a text, which is a sequence of letters.

    Raises:
        DataError: ids were given as one.
    """
    if isinstance(ids, str):
        raise DataError(f"{what} must be given as a list of ids, got the text '{ids}'")


def _given_ratings(ratings: Ratings, lengths: Sequence[int]) -> FloatArray | None:
    """Ratings one user after another, (N,) float32, NaN where there is none; None for none at all.

    A rating that is not known is NaN.
    """
    if len(ratings) != len(lengths):
        raise DataError(
            f"'ratings' must have a list for each user, got {len(ratings)} for {len(lengths)} users"
        )
    rows = []
    for user, (row, length) in enumerate(zip(ratings, lengths, strict=True)):
        if row is not None and (isinstance(row, str) or len(row) != length):
            raise DataError(
                f"ratings must be as many as the liked items, got {len(row)} for {length} items "
                f"of user {user} of the question"
            )
        rows.append([None] * length if row is None else list(row))
    flat = [rating for row in rows for rating in row]
    for rating in flat:
        is_number = isinstance(rating, int | float | np.number) and not isinstance(rating, bool)
        if rating is not None and not (is_number and np.isfinite(rating)):
            raise DataError(f"a rating must be a finite number, got {rating!r}")
    if all(rating is None for rating in flat):
        return None
    return np.array([np.nan if rating is None else rating for rating in flat], dtype=np.float32)
