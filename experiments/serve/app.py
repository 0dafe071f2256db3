"""The FastAPI application: routes, what guards them, and one line for every refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from experiments.serve import answers, schemas
from experiments.serve.desk import Desk
from experiments.serve.guards import BodyGuard, TokenGuard
from experiments.serve.meters import Metered, Meters
from experiments.serve.reload import Current
from experiments.serve.served import LOG, Served
from recsys.errors import BookendsError

OPEN_PATHS = ("/healthz", "/readyz")
MOST_WAITING = 256
"""Questions in work or waiting; more would only wait longer."""
_LONGEST_DETAIL = 500
_JSON = "application/json"
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "description": text}
    for status, text in (
        (400, "The body is no JSON."),
        (401, "The token is missing or wrong."),
        (408, "The body took too long to arrive."),
        (413, "The body is too large."),
        (422, "The question is not as it must be."),
        (503, "No model yet, or too many questions at once."),
    )
}


@dataclass(frozen=True)
class Settings:
    """How the application behaves.

    Attributes:
        token: that requests must carry; None to let all pass.
        max_k: length of a list.
        max_body_bytes: of a request.
        n_threads: passes over the catalogue at once, each of one thread; None for one a core.
    """

    token: str | None = field(default=None, repr=False)
    max_k: int = 1000
    max_body_bytes: int = 1 << 20
    n_threads: int | None = None


class Reception:
    """Where requests become questions, without holding up the event loop.

    Args:
        current: the model that answers.
        desk: what answers.
    """

    def __init__(self, current: Current, desk: Desk) -> None:
        self.current = current
        self._desk = desk
        self._n_waiting = 0

    def served(self) -> Served:
        """The model that answers now; 503 while there is none."""
        served = self.current.served
        if served is None:
            raise HTTPException(503, "the model is not loaded yet")
        return served

    async def answer(self, asking: answers.Asking, question: BaseModel) -> Response:
        """The answer as JSON, from one model from beginning to end."""
        served = self.served()
        if self._n_waiting >= MOST_WAITING:
            raise HTTPException(
                503, f"at most {MOST_WAITING} questions may wait at once", {"Retry-After": "1"}
            )
        self._n_waiting += 1
        try:
            body = await asyncio.wrap_future(self._desk.put(served, asking, question))
        finally:
            self._n_waiting -= 1
        return Response(body, media_type=_JSON)


def build_app(current: Current, meters: Meters, settings: Settings | None = None) -> FastAPI:
    """The application.

    Args:
        current: the model that answers.
        meters: where requests are counted.
        settings: limits and token.
    """
    settings = settings or Settings()
    desk = Desk(answers.Limits(max_k=settings.max_k), meters, settings.n_threads)
    reception = Reception(current, desk)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="bookends",
        description="Ranked books for users known and new, and books near a book.",
        version=version("bookends"),
        lifespan=lifespan,
        docs_url=None,  # the pages load scripts from elsewhere; the schema is at /openapi.json
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever host the request names
    )
    _add_questions(app, reception)
    _add_accounts(app, reception, meters)
    _add_refusals(app)
    paths = {*app.openapi()["paths"], "/openapi.json"}
    # the last one added is asked first
    app.add_middleware(BodyGuard, max_bytes=settings.max_body_bytes)
    if settings.token is not None:
        app.add_middleware(TokenGuard, token=settings.token.encode(), open_paths=OPEN_PATHS)
    app.add_middleware(Metered, meters=meters, paths=paths)
    return app


def _add_questions(app: FastAPI, reception: Reception) -> None:
    @app.post("/recommend", response_model=schemas.RecommendAnswer, responses=_REFUSALS)
    async def recommend(question: schemas.RecommendQuestion) -> Response:
        """The best books for users.

        A user the model knows gets their own list, another one is placed by the books they like,
        and one of whom nothing is known gets the most popular books; `source` says which.
        """
        return await reception.answer(answers.recommend, question)

    @app.post("/similar-items", response_model=schemas.SimilarItemsAnswer, responses=_REFUSALS)
    async def similar_items(question: schemas.SimilarItemsQuestion) -> Response:
        """The books nearest to books of the catalogue, by the cosine of their vectors."""
        return await reception.answer(answers.similar_items, question)

    @app.post("/new-book/similar", response_model=schemas.NewBookSimilarAnswer, responses=_REFUSALS)
    async def new_book_similar(question: schemas.NewBookSimilarQuestion) -> Response:
        """The books nearest to new books, by their metadata alone."""
        return await reception.answer(answers.similar_to_book, question)

    @app.post("/new-book/readers", response_model=schemas.NewBookReadersAnswer, responses=_REFUSALS)
    async def new_book_readers(question: schemas.NewBookReadersQuestion) -> Response:
        """The users who score new books highest, by their metadata alone."""
        return await reception.answer(answers.readers_of_book, question)


def _add_accounts(app: FastAPI, reception: Reception, meters: Meters) -> None:
    refusals: dict[int | str, dict[str, Any]] = {code: _REFUSALS[code] for code in (401, 503)}

    @app.get("/healthz")
    async def healthz() -> schemas.Health:
        """Whether the server lives."""
        return schemas.Health(status="ok")

    @app.get("/readyz", responses={503: _REFUSALS[503]})
    async def readyz() -> schemas.Health:
        """Whether it can answer."""
        reception.served()
        return schemas.Health(status="ready")

    @app.get("/model", responses=refusals)
    async def model() -> schemas.ModelCard:
        """The model that answers now."""
        return _card(reception.served())

    @app.get("/metrics", response_class=Response, responses={401: _REFUSALS[401]})
    async def metrics() -> Response:
        """Counters, in the text form of Prometheus."""
        return Response(meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _card(served: Served) -> schemas.ModelCard:
    recommender = served.recommender
    index = None if recommender.approximate is None else recommender.approximate.recall
    found = {} if index is None else asdict(index)
    return schemas.ModelCard(
        uri=served.asked,
        version=served.version,
        run_id=served.run_id,
        loaded_at=served.loaded_at.isoformat(timespec="seconds"),
        n_users=len(recommender.users),
        n_items=len(recommender.items),
        n_bytes=recommender.n_bytes,
        book_columns=list(recommender.book_columns),
        index=None
        if index is None
        else schemas.Index(
            recall_mean=found.pop("mean"),
            recall_lowest=found.pop("lowest"),
            n_readers=found.pop("n_users"),
            **found,
        ),
        provenance=dict(recommender.provenance),
    )


def _add_refusals(app: FastAPI) -> None:
    handlers: dict[type[Exception], Callable[[Any], tuple[int, str]]] = {
        BookendsError: lambda error: (422, str(error)),
        RequestValidationError: _invalid,
        HTTPException: lambda error: (error.status_code, str(error.detail)),
    }
    for kind, describe in handlers.items():
        app.add_exception_handler(kind, _handler(describe))
    app.add_exception_handler(Exception, _own_mistake)


def _handler(
    describe: Callable[[Any], tuple[int, str]],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(_: Request, error: Exception) -> Response:
        status, detail = describe(error)
        whole = detail.encode("utf-8", "replace").decode()  # JSON may hold half a character
        line = " ".join(whole.split())
        if len(line) > _LONGEST_DETAIL:
            line = f"{line[:_LONGEST_DETAIL]}..."
        headers = getattr(error, "headers", None)
        return JSONResponse({"detail": line}, status, headers)

    return handle


def _invalid(error: RequestValidationError) -> tuple[int, str]:
    """What the schema has against a body: the first thing, without the body."""
    first, *others = error.errors()
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return 400, f"the body must be JSON ({first.get('ctx', {}).get('error', first['msg'])})"
    more = f" (and {len(others)} more)" if others else ""
    return 422, f"{place}: {first['msg']}{more}"


async def _own_mistake(request: Request, _: Exception) -> Response:
    LOG.error("%s failed; the error follows", request.url.path)
    return JSONResponse({"detail": "the server made a mistake; its log says which"}, 500)
