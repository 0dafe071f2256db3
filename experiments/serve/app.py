"""The FastAPI application: routes, what guards them, and one line for every refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from experiments.serve import answers, schemas
from experiments.serve.answering import Answering
from experiments.serve.guards import BodyGuard, TokenGuard
from experiments.serve.meters import Metered, Meters
from experiments.serve.model import LOG, CurrentModel, Served
from recsys.errors import BookendsError
from recsys.recommender.search import Asking

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


class Admission:
    """Lets questions in to the threads that answer, as many as may wait.

    Args:
        current: the model that answers.
        answering: the threads that do so.
        max_k: length of a list.
    """

    def __init__(self, current: CurrentModel, answering: Answering, max_k: int) -> None:
        self._current, self._answering, self._max_k = current, answering, max_k
        self._n_waiting = 0

    def served(self) -> Served:
        """The model that answers now; 503 while there is none."""
        served = self._current.served
        if served is None:
            raise HTTPException(503, "the model is not loaded yet")
        return served

    async def answer(
        self, ask: Callable[[Served, Any, int], Asking[Any]], question: BaseModel
    ) -> Response:
        """The answer as JSON, from one model from beginning to end."""
        served = self.served()
        if self._n_waiting >= MOST_WAITING:
            raise HTTPException(
                503, f"at most {MOST_WAITING} questions may wait at once", {"Retry-After": "1"}
            )
        self._n_waiting += 1
        try:
            body = self._answering.ask(ask(served, question, self._max_k))
            return Response(await asyncio.wrap_future(body), media_type=_JSON)
        finally:
            self._n_waiting -= 1


def build_app(
    current: CurrentModel,
    meters: Meters,
    *,
    token: str | None = None,
    max_k: int = 1000,
    max_body_bytes: int = 1 << 20,
) -> FastAPI:
    """The application.

    Args:
        current: the model that answers.
        meters: where requests are counted.
        token: that requests must carry; None to let all pass.
        max_k: length of a list.
        max_body_bytes: of a request.
    """
    answering = Answering(meters)
    admission = Admission(current, answering, max_k)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        answering.close()

    app = FastAPI(
        title="bookends",
        description="Ranked items for users known and new, and items near an item.",
        version=version("bookends"),
        lifespan=lifespan,
        docs_url=None,  # the pages load scripts from elsewhere; the schema is at /openapi.json
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever host the request names
    )
    _add_questions(app, admission)
    _add_accounts(app, admission, meters)
    _add_refusals(app)
    paths = {*app.openapi()["paths"], "/openapi.json"}
    # the last one added is asked first
    app.add_middleware(BodyGuard, max_bytes=max_body_bytes)
    if token is not None:
        app.add_middleware(TokenGuard, token=token.encode(), open_paths=OPEN_PATHS)
    app.add_middleware(Metered, meters=meters, paths=paths)
    return app


def _add_questions(app: FastAPI, admission: Admission) -> None:
    @app.post("/recommend", response_model=schemas.RecommendAnswer, responses=_REFUSALS)
    async def recommend(question: schemas.RecommendQuestion) -> Response:
        """The best items for users.

        A user the model knows gets their own list, another one is placed by the items they like,
        and one of whom nothing is known gets the most popular items; `source` says which.
        """
        return await admission.answer(answers.recommend, question)

    @app.post("/similar-items", response_model=schemas.SimilarItemsAnswer, responses=_REFUSALS)
    async def similar_items(question: schemas.SimilarItemsQuestion) -> Response:
        """The items nearest to items of the catalogue, by the cosine of their vectors."""
        return await admission.answer(answers.similar_items, question)

    @app.post("/new-book/similar", response_model=schemas.NewBookSimilarAnswer, responses=_REFUSALS)
    async def new_book_similar(question: schemas.NewBookSimilarQuestion) -> Response:
        """The items nearest to new books, by their metadata alone."""
        return await admission.answer(answers.similar_to_book, question)

    @app.post("/new-book/users", response_model=schemas.NewBookUsersAnswer, responses=_REFUSALS)
    async def new_book_users(question: schemas.NewBookUsersQuestion) -> Response:
        """The users who score new books highest, by their metadata alone."""
        return await admission.answer(answers.users_of_book, question)


def _add_accounts(app: FastAPI, admission: Admission, meters: Meters) -> None:
    refusals: dict[int | str, dict[str, Any]] = {code: _REFUSALS[code] for code in (401, 503)}

    @app.get("/healthz")
    async def healthz() -> schemas.Health:
        """Whether the server lives."""
        return schemas.Health(status="ok")

    @app.get("/readyz", responses={503: _REFUSALS[503]})
    async def readyz() -> schemas.Health:
        """Whether it can answer."""
        admission.served()
        return schemas.Health(status="ready")

    @app.get("/model", responses=refusals)
    async def model() -> schemas.ModelCard:
        """The model that answers now."""
        return _card(admission.served())

    @app.get("/metrics", response_class=Response, responses={401: _REFUSALS[401]})
    async def metrics() -> Response:
        """Counters, in the text form of Prometheus."""
        return Response(meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _card(served: Served) -> schemas.ModelCard:
    recommender, index = served.recommender, None
    if recommender.approximate is not None:
        measured = asdict(recommender.approximate.recall)
        means = {f"recall_{name}": measured.pop(name) for name in ("mean", "lowest")}
        index = schemas.Index(**means, **measured)
    return schemas.ModelCard(
        uri=served.asked,
        version=served.version,
        run_id=served.run_id,
        loaded_at=served.loaded_at.isoformat(timespec="seconds"),
        n_users=len(recommender.users),
        n_items=len(recommender.items),
        n_bytes=recommender.n_bytes,
        book_columns=list(recommender.book_columns),
        index=index,
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
