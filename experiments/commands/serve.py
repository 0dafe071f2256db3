"""``bookends serve``: answers over HTTP and gRPC."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@click.command()
@click.option(
    "--model",
    default="models:/bookends@champion",
    show_default=True,
    help="models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID, runs:/ID/model, a run or bundle "
    "directory.",
)
@click.option("--tracking-uri", help="MLflow store or server of the model.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 for a free one.",
)
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    help="Answer over gRPC there, too; needs the extra 'grpc'. 0 for a free one.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that answer, side by side.",
)
@click.option("--ann", is_flag=True, help="Search by an index; its recall is measured and logged.")
@click.option(
    "--max-k", type=click.IntRange(min=1), default=1000, show_default=True, help="Of a list."
)
@click.option(
    "--max-body-bytes",
    type=click.IntRange(min=1),
    default=1 << 20,
    show_default=True,
    help="Of a request.",
)
@click.option(
    "--reload-seconds",
    type=click.FloatRange(min=0.05),
    default=10.0,
    show_default=True,
    help="Between two looks at where the alias points.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="Bearer token that requests must carry; else BOOKENDS_TOKEN, else none.",
)
def serve(model: str, tracking_uri: str | None, ann: bool, **options: Any) -> None:
    """Answer over HTTP, and follow the alias without an interruption.

    The schema is at /openapi.json, that of gRPC behind reflection. SIGTERM ends the
    server when all requests are answered.
    """
    # before numpy and torch come: each request has one thread, and requests run side by side
    for name, value in _ONE_THREAD.items():
        os.environ.setdefault(name, value)
    with _counted_together() if options["workers"] > 1 else nullcontext():
        from experiments.serve.model import ModelSource
        from experiments.serve.server import serve as start

        start(ModelSource(model, tracking_uri, ann), **options)


@contextmanager
def _counted_together() -> Iterator[None]:
    """A directory in which processes count; prometheus_client looks for it while imported."""
    with TemporaryDirectory(prefix="bookends-serve-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]
