"""What the server is asked and what it answers, as the OpenAPI schema shows it."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from recsys.recommender.questions import Source

MOST_QUESTIONS = 1000
"""Users or items in one request: each of them costs a pass over the catalogue."""
T = TypeVar("T")


def _encodable(text: str) -> str:
    """Refuse half a character, which JSON can hold (an escaped surrogate) and no file can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text must be valid unicode") from error
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Rating = Annotated[float, Field(allow_inf_nan=False)]
Asked = Annotated[list[T], Field(min_length=1, max_length=MOST_QUESTIONS)]
OfOneUser = Annotated[list[T], Field(max_length=10_000)]


class _Schema(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())


class _Question(_Schema):
    model_config = ConfigDict(extra="forbid", strict=True)

    k: Annotated[int, Field(ge=1)] = 10
    """Length of each list."""


class _FilteredQuestion(_Question):
    categories: Annotated[list[Text], Field(max_length=MOST_QUESTIONS)] = []
    """Only items that carry one of these; none for all items."""


class RecommendQuestion(_FilteredQuestion):
    """Users, each by an id, by the items they like, or by both."""

    user_ids: Asked[Text | None] | None = None
    """Ids; null for a user without one."""
    liked: Asked[OfOneUser[Text]] | None = None
    """Ids of the items each user likes, the most recent last; they count for users the model does
    not know. As many lists as user_ids, where both are given."""
    liked_ratings: list[OfOneUser[Rating | None] | None] | None = None
    """Ratings of the liked items, null for an item or a user without; they count in models trained
    with ratings. Lists of the lengths of those in liked."""
    exclude_seen: bool = True
    """Leave out what the user has or likes."""


class SimilarItemsQuestion(_FilteredQuestion):
    """Items of the catalogue."""

    item_ids: Asked[Text]


class NewBook(_Schema):
    """A book by its metadata; further fields are the numeric columns the model was trained with."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    title: Text | None = None
    author: Text | None = None
    categories: Text | None = None
    """As one text, in the form of the data trained on."""


class NewBookSimilarQuestion(_FilteredQuestion):
    """New books, whose neighbours in the catalogue are wanted."""

    books: Asked[NewBook]


class NewBookUsersQuestion(_Question):
    """New books, whose likely users are wanted."""

    books: Asked[NewBook]


class RankedItem(_Schema):
    """An item of a list."""

    rank: int
    """From 1."""
    item_id: str
    score: float
    title: str | None


class RankedUser(_Schema):
    """A user of a list."""

    rank: int
    """From 1."""
    user_id: str
    score: float


class NewBookItems(_Schema):
    """The items near a new book."""

    items: list[RankedItem]


class UserList(_Schema):
    """The items for one user."""

    user_id: str | None
    source: Source | None
    """Where the list comes from; null where no item is left for it."""
    items: list[RankedItem]


class NeighbourList(_Schema):
    """The items near one of the catalogue."""

    item_id: str
    items: list[RankedItem]


class NewBookUsers(_Schema):
    """The users for a new book."""

    users: list[RankedUser]


class Answer(_Schema):
    """What every answer says."""

    model_version: str | None
    """Registered version that answered; null for other models."""


class RecommendAnswer(Answer):
    """A list for each user, in the order of the question."""

    results: list[UserList]


class SimilarItemsAnswer(Answer):
    """A list for each item, in the order of the question."""

    results: list[NeighbourList]


class NewBookSimilarAnswer(Answer):
    """A list for each new book, in the order of the question."""

    results: list[NewBookItems]


class NewBookUsersAnswer(Answer):
    """Users for each new book, in the order of the question."""

    results: list[NewBookUsers]


class Index(_Schema):
    """What the approximate index finds of the exact lists, as measured when it was built."""

    recall_mean: float
    recall_lowest: float
    k: int
    n_users: int
    build_seconds: float
    n_bytes: int


class ModelCard(_Schema):
    """The model that answers now."""

    uri: str
    version: str | None
    run_id: str | None
    loaded_at: str
    n_users: int
    n_items: int
    n_bytes: int
    book_columns: list[str]
    """What a new book may be described by."""
    index: Index | None
    """Null where search is exact."""
    provenance: dict[str, Any]


class Health(_Schema):
    """Whether the server lives, or can answer."""

    status: str


class Problem(_Schema):
    """Why a request was refused."""

    detail: str
