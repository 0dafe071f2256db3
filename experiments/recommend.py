"""Lists for many users at once, written as they are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from recsys.artifacts import replacement
from recsys.data.vocabulary import near_match
from recsys.errors import ArtifactError, ConfigError, DataError
from recsys.recommender import Recommender
from recsys.recommender.approximate import Recall
from tracking.model import resolve_bundle

SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        model: address of a model, as :func:`tracking.model.resolve_bundle` takes it.
        out: file to write, .parquet or .csv.
        users: file with a user's id on each line; None for all users of the model.
        k: list length.
        exclude_seen: leave out what users are known to have read.
        categories: recommend only books that carry one of these; none for all books.
        ann: search by an index, not exactly.
        tracking_uri: the store of the model.
        batch_size: how many users are answered at once.
    """

    model: str
    out: Path
    users: Path | None = None
    k: int = 10
    exclude_seen: bool = True
    categories: tuple[str, ...] = ()
    ann: bool = False
    tracking_uri: str | None = None
    batch_size: int = 2048


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        n_users: users answered.
        n_unknown: those of them whom the model does not know; they got the popular list.
        first_unknown: the id of the first of them.
        hint: how most of the first ones nearly match ids that the model knows; "" if they do not.
        n_rows: recommendations.
        seconds: from the first user to the file in its place, without loading the model.
        recall: of the index against the exact lists; None where the search was exact.
    """

    n_users: int
    n_unknown: int
    first_unknown: str | None
    hint: str
    n_rows: int
    seconds: float
    recall: Recall | None


def write_recommendations(request: Request, progress: Callable[[int, int | None], None]) -> Written:
    """Write the lists of all users asked for, in their order; the file appears when whole.

    Memory does not grow with the number of users.

    Args:
        request: what is wanted.
        progress: told after each batch how many users are answered, and of how many where known.

    Raises:
        BookendsError: something the user can mend.
    """
    _check_place(request.out)
    if request.users is not None and not request.users.is_file():
        raise DataError(f"{request.users}: must be a file with a user's id on each line")
    recommender = Recommender.load(resolve_bundle(request.model, request.tracking_uri))
    if request.ann:
        recommender = recommender.with_approximate(k=request.k)
    tally = _Tally(len(recommender.users) if request.users is None else None)
    with replacement(request.out) as unfinished, _Output(unfinished, request.out.suffix) as output:
        for users in _batches(request, recommender):
            lists = recommender.recommend_table(
                users,
                request.k,
                exclude_seen=request.exclude_seen,
                categories=request.categories,
            )
            output.write(lists)
            tally.count(users, lists, recommender)
            progress(tally.n_users, tally.total)
    recall = None if recommender.approximate is None else recommender.approximate.recall
    return tally.written(recall)


@dataclass(eq=False)
class _Tally:
    """What was written so far."""

    total: int | None
    n_users: int = 0
    n_unknown: int = 0
    first_unknown: str | None = None
    hint: str = ""
    n_rows: int = 0
    started: float = field(default_factory=time.monotonic)

    def count(self, users: Sequence[str], lists: pa.Table, recommender: Recommender) -> None:
        unknown = np.flatnonzero(~recommender.is_known(users))
        if len(unknown) and self.first_unknown is None:
            self.first_unknown = users[int(unknown[0])]
            asked = pa.array([users[place] for place in unknown.tolist()], pa.string())
            self.hint = near_match(asked, recommender.users.ids)
        self.n_users += len(users)
        self.n_unknown += len(unknown)
        self.n_rows += len(lists)

    def written(self, recall: Recall | None) -> Written:
        seconds = time.monotonic() - self.started
        return Written(
            self.n_users,
            self.n_unknown,
            self.first_unknown,
            self.hint,
            self.n_rows,
            seconds,
            recall,
        )


def _check_place(out: Path) -> None:
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"'--out' must end in {' or '.join(SUFFIXES)}, got '{out}'")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{out}: must be writable ({error.strerror})") from error


def _batches(request: Request, recommender: Recommender) -> Iterator[Sequence[str]]:
    size = request.batch_size
    if request.users is None:
        ids = recommender.users.ids
        for start in range(0, len(ids), size):
            yield ids.slice(start, size).to_pylist()
        return
    try:
        with request.users.open(encoding="utf-8") as lines:
            ids = (line.strip() for line in lines)
            named = (user_id for user_id in ids if user_id)
            batch = list(islice(named, size))
            if not batch:
                raise DataError(f"{request.users}: must have a user's id on a line at least")
            while batch:
                yield batch
                batch = list(islice(named, size))
    except UnicodeDecodeError as error:
        raise DataError(f"{request.users}: must be UTF-8 text ({error})") from error


class _Output:
    """Writes tables of one form, one after another."""

    def __init__(self, path: Path, suffix: str) -> None:
        self._path, self._suffix = path, suffix
        self._writer: pa.parquet.ParquetWriter | pa.csv.CSVWriter | None = None

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            if self._suffix == ".parquet":
                self._writer = pa.parquet.ParquetWriter(self._path, table.schema)
            else:
                self._writer = pa.csv.CSVWriter(str(self._path), table.schema)
        self._writer.write_table(table)
