"""The FastAPI application: routes, what guards them, and one line for every refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from experiments.serve import answers, schemas
from experiments.serve.answering import Answering, as_json
from experiments.serve.guards import BodyGuard, TokenGuard
from experiments.serve.meters import Metered
from experiments.serve.model import LOG, CurrentModel, Served
from experiments.serve.page import schema_page
from experiments.serve.refusals import MISTAKE_LINE, REFUSED, describe
from recsys.recommender.search import Asking

OPEN_PATHS = ("/healthz", "/readyz")
MOST_WAITING = 256
"""Questions in work or waiting; more would only wait longer."""
_JSON = "application/json"
Encoded = TypeVar("Encoded")
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


class Service:
    """What every server answers with: it lets questions in to the threads, as many as may wait.

    Args:
        current: the model that answers.
        token: that requests must carry; None to let all pass.
        max_k: length of a list.
        max_body_bytes: of a request.
        n_threads: that answer; None for one a core.
    """

    def __init__(
        self,
        current: CurrentModel,
        *,
        token: str | None = None,
        max_k: int = 1000,
        max_body_bytes: int = 1 << 20,
        n_threads: int | None = None,
    ) -> None:
        self.current, self.meters = current, current.meters
        self.token = None if token is None else token.encode()
        self.max_body_bytes = max_body_bytes
        self._max_k = max_k
        self._answering = Answering(self.meters, n_threads)
        self._n_waiting = 0
        self._has_ended = False

    def served(self) -> Served:
        """The model that answers now; 503 while there is none."""
        served = self.current.served
        if served is None:
            raise HTTPException(503, "the model is not loaded yet")
        return served

    def end(self) -> None:
        """Let no more in; what was let in is answered."""
        self._has_ended = True
        self._answering.close()

    async def answer(
        self,
        ask: Callable[[Served, Any, int], Asking[Any]],
        question: BaseModel,
        encode: Callable[[Any], Encoded],
    ) -> Encoded:
        """The answer, from one model from beginning to end.

        Args:
            ask: makes of a question what the threads answer.
            question: what is asked.
            encode: makes of the answer what is sent.

        Raises:
            BookendsError: the question is not as it must be.
            HTTPException: 503, no model yet, or too many questions.
        """
        served = self.served()
        if self._has_ended:
            raise HTTPException(503, "the server is about to end")
        if self._n_waiting >= MOST_WAITING:
            raise HTTPException(
                503, f"at most {MOST_WAITING} questions may wait at once", {"Retry-After": "1"}
            )
        self._n_waiting += 1
        try:
            asking = ask(served, question, self._max_k)
            encoded: Encoded = await asyncio.wrap_future(self._answering.ask(asking, encode))
            return encoded
        finally:
            self._n_waiting -= 1


def build_app(service: Service) -> FastAPI:
    """The application, which ends the service when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.end()

    app = FastAPI(
        title="bookends",
        description="Ranked items for users known and new, and items near an item.",
        version=version("bookends"),
        lifespan=lifespan,
        docs_url=None,  # the pages load scripts from elsewhere; ours is at /
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever host the request names
    )
    _add_questions(app, service)
    _add_accounts(app, service)
    _add_refusals(app)
    paths = {*app.openapi()["paths"], "/openapi.json", "/"}
    _add_page(app, service)
    # the last one added is asked first
    app.add_middleware(BodyGuard, max_bytes=service.max_body_bytes)
    if service.token is not None:
        app.add_middleware(TokenGuard, token=service.token, open_paths=OPEN_PATHS)
    app.add_middleware(Metered, meters=service.meters, paths=paths)
    return app


def _add_questions(app: FastAPI, service: Service) -> None:
    async def answer(
        ask: Callable[[Served, Any, int], Asking[Any]], question: BaseModel
    ) -> Response:
        return Response(await service.answer(ask, question, as_json), media_type=_JSON)

    @app.post("/recommend", response_model=schemas.RecommendAnswer, responses=_REFUSALS)
    async def recommend(question: schemas.RecommendQuestion) -> Response:
        """The best items for users.

        A user the model knows gets their own list, another one is placed by the items they like,
        and one of whom nothing is known gets the most popular items; `source` says which.
        """
        return await answer(answers.recommend, question)

    @app.post("/similar-items", response_model=schemas.SimilarItemsAnswer, responses=_REFUSALS)
    async def similar_items(question: schemas.SimilarItemsQuestion) -> Response:
        """The items nearest to items of the catalogue, by the cosine of their vectors."""
        return await answer(answers.similar_items, question)

    @app.post("/new-book/similar", response_model=schemas.NewBookSimilarAnswer, responses=_REFUSALS)
    async def new_book_similar(question: schemas.NewBookSimilarQuestion) -> Response:
        """The items nearest to new books, by their metadata alone."""
        return await answer(answers.similar_to_book, question)

    @app.post("/new-book/users", response_model=schemas.NewBookUsersAnswer, responses=_REFUSALS)
    async def new_book_users(question: schemas.NewBookUsersQuestion) -> Response:
        """The users who score new books highest, by their metadata alone."""
        return await answer(answers.users_of_book, question)


def _add_accounts(app: FastAPI, service: Service) -> None:
    refusals: dict[int | str, dict[str, Any]] = {code: _REFUSALS[code] for code in (401, 503)}

    @app.get("/healthz")
    async def healthz() -> schemas.Health:
        """Whether the server lives."""
        return schemas.Health(status="ok")

    @app.get("/readyz", responses={503: _REFUSALS[503]})
    async def readyz() -> schemas.Health:
        """Whether it can answer."""
        service.served()
        return schemas.Health(status="ready")

    @app.get("/model", responses=refusals)
    async def model() -> schemas.ModelCard:
        """The model that answers now."""
        return answers.model_card(service.served())

    @app.get("/metrics", response_class=Response, responses={401: _REFUSALS[401]})
    async def metrics() -> Response:
        """Counters, in the text form of Prometheus."""
        text = service.meters.text()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI, service: Service) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page(request: Request) -> HTMLResponse:
        """What can be asked, for a browser."""
        base, needs_token = str(request.base_url), service.token is not None
        return HTMLResponse(
            schema_page(app.openapi(), base, service.current.served, needs_token=needs_token)
        )


def _add_refusals(app: FastAPI) -> None:
    for kind in REFUSED:
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(Exception, _own_mistake)


async def _refused(_: Request, error: Exception) -> Response:
    status, line = describe(error)
    return JSONResponse({"detail": line}, status, getattr(error, "headers", None))


async def _own_mistake(request: Request, _: Exception) -> Response:
    LOG.error("%s failed; the error follows", request.url.path)
    return JSONResponse({"detail": MISTAKE_LINE}, 500)
