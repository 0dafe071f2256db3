"""What the server is asked and what it answers, as the OpenAPI schema shows it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from recsys.recommender.recommender import Source

MOST_QUESTIONS = 1000
"""Users or items in one request: each of them costs a pass over the catalogue."""


def _encodable(text: str) -> str:
    """Refuse half a character, which JSON can hold (an escaped surrogate) and no file can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text must be valid unicode") from error
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Rating = Annotated[float, Field(allow_inf_nan=False)]
K = Annotated[int, Field(ge=1, description="Length of each list.")]
Categories = Annotated[
    list[Text],
    Field(
        default_factory=list,
        max_length=MOST_QUESTIONS,
        description="Only items that carry one of these; none for all items.",
    ),
]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RecommendQuestion(_Question):
    """Users, each by an id, by the items they like, or by both."""

    user_ids: (
        Annotated[
            list[Text | None],
            Field(
                min_length=1,
                max_length=MOST_QUESTIONS,
                description="Ids; null for a user without one.",
            ),
        ]
        | None
    ) = None
    liked: (
        Annotated[
            list[Annotated[list[Text], Field(max_length=10_000)]],
            Field(
                min_length=1,
                max_length=MOST_QUESTIONS,
                description="Ids of the items each user likes, the most recent last; they count "
                "for users the model does not know. As many lists as user_ids, where both are "
                "given.",
            ),
        ]
        | None
    ) = None
    liked_ratings: (
        Annotated[
            list[Annotated[list[Rating | None], Field(max_length=10_000)] | None],
            Field(
                description="Ratings of the liked items, null for an item or a user without; they "
                "count in models trained with ratings. Lists of the lengths of those in liked.",
            ),
        ]
        | None
    ) = None
    k: K = 10
    exclude_seen: Annotated[
        bool, Field(description="Leave out what the user has read or likes.")
    ] = True
    categories: Categories


class SimilarItemsQuestion(_Question):
    """Items of the catalogue."""

    item_ids: Annotated[list[Text], Field(min_length=1, max_length=MOST_QUESTIONS)]
    k: K = 10
    categories: Categories


class NewBook(BaseModel):
    """A book by its metadata; further fields are the numeric columns the model was trained with."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    title: Text | None = None
    author: Text | None = None
    categories: Annotated[
        Text | None, Field(description="As one text, in the form of the data trained on.")
    ] = None


class NewBookSimilarQuestion(_Question):
    """New books, whose neighbours in the catalogue are wanted."""

    books: Annotated[list[NewBook], Field(min_length=1, max_length=MOST_QUESTIONS)]
    k: K = 10
    categories: Categories


class NewBookUsersQuestion(_Question):
    """New books, whose likely users are wanted."""

    books: Annotated[list[NewBook], Field(min_length=1, max_length=MOST_QUESTIONS)]
    k: K = 10


class RankedItem(BaseModel):
    """An item of a list."""

    rank: Annotated[int, Field(description="From 1.")]
    item_id: str
    score: float
    title: str | None


class RankedUser(BaseModel):
    """A user of a list."""

    rank: Annotated[int, Field(description="From 1.")]
    user_id: str
    score: float


class UserList(BaseModel):
    """The items for one user."""

    user_id: str | None
    source: Annotated[
        Source | None,
        Field(description="Where the list comes from; null where no item is left for it."),
    ]
    items: list[RankedItem]


class NeighbourList(BaseModel):
    """The items near one of the catalogue."""

    item_id: str
    items: list[RankedItem]


class NewBookItems(BaseModel):
    """The items near a new book."""

    items: list[RankedItem]


class NewBookUsers(BaseModel):
    """The users for a new book."""

    users: list[RankedUser]


class Answer(BaseModel):
    """What every answer says."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: Annotated[
        str | None, Field(description="Registered version that answered; null for other models.")
    ]


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


class Index(BaseModel):
    """What the approximate index finds of the exact lists, as measured when it was built."""

    recall_mean: float
    recall_lowest: float
    k: int
    n_users: int
    build_seconds: float
    n_bytes: int


class ModelCard(BaseModel):
    """The model that answers now."""

    uri: str
    version: str | None
    run_id: str | None
    loaded_at: str
    n_users: int
    n_items: int
    n_bytes: int
    book_columns: Annotated[list[str], Field(description="What a new book may be described by.")]
    index: Annotated[Index | None, Field(description="Null where search is exact.")]
    provenance: dict[str, Any]


class Health(BaseModel):
    """Whether the server lives, or can answer."""

    status: str


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
