"""Questions made ready to be searched for, so that several can share one search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from recsys.recommender.search import Found, Query, Search


@dataclass(frozen=True, eq=False)
class Wanted:
    """Lists of one search that a question needs.

    Attributes:
        search: where they are found.
        query: what is looked for.
    """

    search: Search
    query: Query


@dataclass(frozen=True, eq=False)
class Enquiry:
    """A question that was understood: what it needs, and how the answer is made of that.

    Attributes:
        wanted: all that is to be searched for.
        answer: the answer as a table, from what was found, in the order of ``wanted``.
    """

    wanted: tuple[Wanted, ...]
    answer: Callable[[Sequence[Found]], pa.Table]

    @property
    def n_vectors(self) -> int:
        """Vectors by which is searched: K for each user of the model."""
        return sum(len(each.query) * each.query.n_vectors for each in self.wanted)


def search_together(enquiries: Sequence[Enquiry]) -> list[list[Found]]:
    """What each enquiry wants, found by one call of every search that any of them names.

    Lists and scores are to the bit those that each would get alone.
    """
    found: list[list[Found | None]] = [[None] * len(each.wanted) for each in enquiries]
    places: dict[int, list[tuple[int, int]]] = {}
    for number, enquiry in enumerate(enquiries):
        for part, wanted in enumerate(enquiry.wanted):
            places.setdefault(id(wanted.search), []).append((number, part))
    for at in places.values():
        together = [enquiries[number].wanted[part] for number, part in at]
        lists = together[0].search.best_together([wanted.query for wanted in together])
        for (number, part), one in zip(at, lists, strict=True):
            found[number][part] = one
    return [[one for one in lists if one is not None] for lists in found]


def answer_alone(enquiry: Enquiry) -> pa.Table:
    """The answer to one enquiry."""
    return enquiry.answer(search_together([enquiry])[0])
