"""Lists for many users as parts of a directory, by one process or over a Ray cluster.

A part holds a fixed range of the users and appears when it is whole, so that the same request goes
on where it was.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from experiments.launcher import LOCAL, Launcher, ray_imported
from experiments.recommend import DIGITS, FILES, Report, Request, Written, model_digest
from recsys.artifacts import file_digest, locked, make_folder, replacement
from recsys.errors import ArtifactError, BookendsError, ConfigError, shown
from recsys.recommender import Recommender
from recsys.recommender.approximate import Recall
from tracking.model import DOWNLOADS, find_model, resolve_bundle
from tracking.store import resolve_uri

SHARD_SIZE = 100_000
MOST_SHARDS = 100_000
"""Names of parts with more digits would not sort as their users do."""
REQUEST, LOCK, DONE = "_request.json", ".lock", "_SUCCESS"


class Shard(NamedTuple):
    """A range of the users asked for."""

    number: int
    users: list[str]

    @property
    def file(self) -> str:
        """Name of its part."""
        return f"part-{self.number:05}.parquet"


def write_shards(
    request: Request, report: Report, shard_size: int, launcher: Launcher = LOCAL
) -> Written:
    """Write the parts that are not there yet, each with the lists of so many users.

    The parts in the order of their names hold what one file would.

    Raises:
        BookendsError: something the user can mend.
    """
    launcher.check()
    if request.out.suffix in FILES:
        raise ConfigError(
            "'--out' must be a directory where lists are written in parts ('--shard-size', "
            f"'--launcher ray'), got '{request.out}'"
        )
    request.check_users()
    request = replace(request, model=find_model(request.model, request.tracking_uri).uri)
    bundle = resolve_bundle(request.model, request.tracking_uri)
    recommender = Recommender.load(bundle)
    request.lists(recommender, [])  # refuses what no machine could answer
    request = _everywhere(request, bundle, launcher)
    shards = _shards(request, recommender, shard_size)
    shards = chain([next(shards)], shards)  # a file without users leaves no directory
    with _alone_in(request.out):
        _claim(request.out, _made_with(request, shard_size))
        return _write(request, recommender, shards, report, launcher)


def _write(
    request: Request,
    recommender: Recommender,
    shards: Iterable[Shard],
    report: Report,
    launcher: Launcher,
) -> Written:
    written = Written()

    def missing() -> Iterator[Shard]:
        for shard in shards:
            if (request.out / shard.file).exists():
                written.n_kept += len(shard.users)
            else:
                yield shard

    for shard, (lists, recall) in _answered(request, missing(), launcher):
        with replacement(request.out / shard.file) as unfinished:
            pa.parquet.write_table(lists, unfinished)
        written.add(shard.users, len(lists), recommender)
        written.recall = recall
        report(written.n_kept + written.n_users, request.n_users(recommender))
    (request.out / DONE).touch()
    written.seconds = time.monotonic() - written.started
    return written


def _answered(
    request: Request, shards: Iterator[Shard], launcher: Launcher
) -> Iterator[tuple[Shard, tuple[pa.Table, Recall | None]]]:
    answer = partial(answer_shard, request)
    if launcher.name == "local":
        yield from ((shard, answer(shard)) for shard in shards)
        return
    with ray_imported():
        from experiments.ray_cluster import done_on_cluster, joined
    with joined(launcher):
        yield from done_on_cluster("bookends recommend", answer, shards, launcher)


def answer_shard(request: Request, shard: Shard) -> tuple[pa.Table, Recall | None]:
    """The lists of a shard in the order of its users, on whatever machine this is.

    Returns:
        The lists, and the recall of the index where one searched.

    Raises:
        ArtifactError: the model is not to be had there, or is another one.
    """
    recommender, size = _loaded(request), request.batch_size
    users = [shard.users[start : start + size] for start in range(0, len(shard.users), size)]
    lists = pa.concat_tables([request.lists(recommender, some) for some in users])
    index = recommender.approximate
    return lists, None if index is None else index.recall


@lru_cache(maxsize=1)
def _loaded(request: Request) -> Recommender:
    """The model, loaded once by each process."""
    try:
        return request.load()
    except (BookendsError, OSError) as error:
        raise ArtifactError(f"on {socket.gethostname()}: {error}") from None


def _everywhere(request: Request, bundle: Path, launcher: Launcher) -> Request:
    """The request with all that every machine needs to give the same lists."""
    is_fetched = bundle.absolute().is_relative_to(DOWNLOADS.absolute())
    return replace(
        request,
        model=request.model if is_fetched else str(bundle.absolute()),
        tracking_uri=resolve_uri(request.tracking_uri) if is_fetched else None,
        digest=model_digest(bundle),
        downloads=(launcher.ray_cache_dir or DOWNLOADS).absolute(),
    )


def _shards(request: Request, recommender: Recommender, size: int) -> Iterator[Shard]:
    for number, users in enumerate(request.batches(recommender, size)):
        if number == MOST_SHARDS:
            raise ConfigError(
                f"'--shard-size' must be so large that {MOST_SHARDS:,} parts are enough, got {size}"
            )
        yield Shard(number, users)


def _made_with(request: Request, shard_size: int) -> dict[str, Any]:
    """All that decides what the parts hold, as JSON values."""
    return {
        "model": request.digest,
        "users": None if request.users is None else file_digest(request.users)[:DIGITS],
        "k": request.k,
        "exclude_seen": request.exclude_seen,
        "category": list(request.categories),
        "ann": request.ann,
        "shard_size": shard_size,
    }


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Make the directory where absent, and keep other processes from writing there."""
    make_folder(out, "--out")
    with locked(out / LOCK, refusal=f"{out}: another process writes there"):
        for unfinished in out.glob(".*.part-*.parquet"):  # of a process that was killed
            unfinished.unlink()
        yield


def _claim(out: Path, made_with: dict[str, Any]) -> None:
    """Have the directory be that of this request.

    Raises:
        ConfigError: it is another's.
    """
    claim = out / REQUEST
    if not claim.exists() or not any(out.glob("part-*")):
        if any(path.name not in (LOCK, REQUEST, DONE) for path in out.iterdir()):
            raise ConfigError(f"{out}: must be empty, or hold parts of the same request")
        with replacement(claim) as unfinished:
            unfinished.write_text(json.dumps(made_with, indent=2) + "\n", encoding="utf-8")
    try:
        before = dict(json.loads(claim.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{claim}: must hold the request of the parts ({error})") from error
    for name, value in made_with.items():
        if before.get(name) != value:
            raise ConfigError(
                f"{out}: its parts must be of the same request, but '{name}' was "
                f"{shown(before.get(name))}, is {shown(value)}; give another '--out'"
            )
    (out / DONE).unlink(missing_ok=True)
