"""From messages to the questions that the HTTP server asks, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from google.protobuf.message import Message
from pydantic import BaseModel, ValidationError

from experiments.serve.rpc import recommender_pb2 as pb

Question = TypeVar("Question", bound=BaseModel)
Response = TypeVar("Response", bound=Message)


def question_of(kind: type[Question], request: Message) -> Question:
    """What a request asks, held to the limits of the HTTP server's questions.

    Raises:
        RequestValidationError: it is beyond them; places are those in the request.
    """
    asked: dict[str, Any] = {}
    for field in request.DESCRIPTOR.fields:
        value = getattr(request, field.name)
        match field.name:
            case "users":
                asked |= _users(value)
            case "books":
                asked["books"] = [_book(book) for book in value]
            case name if field.is_repeated:
                asked[name] = list(value)
            case name if request.HasField(name):
                asked[name] = value
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        errors = [{**each, "loc": _place(each["loc"])} for each in error.errors()]
        raise RequestValidationError(errors) from error


def response_of(kind: type[Response]) -> Callable[[BaseModel], Response]:
    """What makes a response of an answer: its fields are those of the answer, null left out."""
    return lambda answer: kind(**answer.model_dump())


def _users(users: Sequence[pb.User]) -> dict[str, Any]:
    """Users as ids, liked items and ratings, as far as any user has them."""
    asked: dict[str, Any] = {"user_ids": [_given(user, "user_id") for user in users]}
    if any(user.liked for user in users):
        asked["liked"] = [[item.item_id for item in user.liked] for user in users]
    ratings = [[_given(item, "rating") for item in user.liked] for user in users]
    if any(rating is not None for of_user in ratings for rating in of_user):
        asked["liked_ratings"] = ratings
    return asked


def _book(book: pb.NewBook) -> dict[str, Any]:
    # a number named as a text is refused, since it stands in its place
    texts = {name: _given(book, name) for name in ("title", "author", "categories")}
    return texts | dict(book.numbers)


def _given(message: Message, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _place(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Where in the request that is which stands there in the question."""
    match place:
        case ("liked_ratings", user, item, *_):
            return "users", user, "liked", item, "rating"
        case ("liked", user, *rest):
            return "users", user, "liked", *rest
        case ("user_ids", *rest):
            return "users", *rest
    return place
