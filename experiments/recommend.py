"""Lists for many users at once, written as they are made, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.console import PLAIN_LINE_SECONDS
from recsys.artifacts import file_digest, replacement
from recsys.data.vocabulary import near_match
from recsys.errors import ArtifactError, ConfigError, DataError, shown
from recsys.recommender import Recommender
from recsys.recommender.approximate import Recall
from recsys.recommender.bundle import MANIFEST
from tracking.model import DOWNLOADS, resolve_bundle

FILES = {".parquet": pa.parquet.ParquetWriter, ".csv": pa.csv.CSVWriter}
DIGITS = 24
"""Of a digest."""
Report = Callable[[int, int | None], None]
"""Told after each batch how many users are answered, and of how many where known."""


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        model: address of a model, as :func:`tracking.model.resolve_bundle` takes it.
        out: file to write, .parquet or .csv; a directory where the lists are in parts.
        users: file with a user's id on each line; None for all users of the model.
        k: list length.
        exclude_seen: leave out what users are known to have.
        categories: recommend only items that carry one of these; none for all items.
        ann: search by an index, not exactly.
        tracking_uri: the store of the model.
        batch_size: how many users are answered at once.
        digest: of the model, where it must be this very one; None for whatever is at its address.
        downloads: where a model is put that does not lie on the machine.
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
    digest: str | None = None
    downloads: Path = DOWNLOADS

    def check_users(self) -> None:
        """Raise DataError where the file of users is none."""
        if self.users is not None and not self.users.is_file():
            raise DataError(f"{self.users}: must be a file with a user's id on each line")

    def load(self) -> Recommender:
        """The model, with an index where one is asked for.

        Raises:
            BookendsError: it is not to be had, or is another one.
        """
        bundle = resolve_bundle(self.model, self.tracking_uri, downloads=self.downloads)
        if self.digest is not None and self.digest != model_digest(bundle):
            raise ArtifactError(f"{bundle}: must be the same model on each machine, is another")
        recommender = Recommender.load(bundle)
        return recommender.with_approximate(k=self.k) if self.ann else recommender

    def lists(self, recommender: Recommender, users: Sequence[str]) -> pa.Table:
        """The lists of some users, in their order."""
        return recommender.recommend_table(
            users, self.k, exclude_seen=self.exclude_seen, categories=self.categories
        )

    def n_users(self, recommender: Recommender) -> int | None:
        """How many users are asked for, where that is known at once."""
        return len(recommender.users) if self.users is None else None

    def batches(self, recommender: Recommender, size: int) -> Iterator[list[str]]:
        """The users asked for, in their order.

        Raises:
            DataError: the file of users holds none, or no text.
        """
        if self.users is None:
            ids = recommender.users.ids
            for start in range(0, len(ids), size):
                yield ids.slice(start, size).to_pylist()
            return
        try:
            with self.users.open(encoding="utf-8-sig") as lines:
                named = (user_id for line in lines if (user_id := line.strip()))
                batch = list(islice(named, size))
                if not batch:
                    raise DataError(f"{self.users}: must have a user's id on a line at least")
                while batch:
                    yield batch
                    batch = list(islice(named, size))
        except UnicodeDecodeError as error:
            raise DataError(f"{self.users}: must be UTF-8 text ({error})") from error


def model_digest(bundle: Path) -> str:
    """What tells models apart: the manifest has the digest of every other file."""
    return file_digest(bundle / MANIFEST)[:DIGITS]


@dataclass(eq=False)
class Written:
    """What was written so far.

    Attributes:
        n_users: users answered.
        n_unknown: those of them whom the model does not know; they got the popular list.
        first_unknown: the id of the first of them.
        hint: how most of the first ones nearly match ids that the model knows; "" if they do not.
        n_rows: recommendations.
        n_kept: users, not among these, whose lists were there from an earlier call.
        started: when, by the monotonic clock.
        seconds: from the first user to the file in its place, without loading the model.
        recall: of the index against the exact lists; None where the search was exact.
    """

    n_users: int = 0
    n_unknown: int = 0
    first_unknown: str | None = None
    hint: str = ""
    n_rows: int = 0
    n_kept: int = 0
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    recall: Recall | None = None

    def add(self, users: Sequence[str], n_rows: int, recommender: Recommender) -> None:
        """Count a batch."""
        unknown = np.flatnonzero(~recommender.is_known(users)).tolist()
        if unknown and self.first_unknown is None:
            self.first_unknown = users[unknown[0]]
            asked = pa.array([users[index] for index in unknown], pa.string())
            self.hint = near_match(asked, recommender.users.ids)
        self.n_users += len(users)
        self.n_unknown += len(unknown)
        self.n_rows += n_rows


def write_recommendations(request: Request, report: Report) -> Written:
    """Write the lists of all users asked for, in their order; the file appears when whole.

    Memory does not grow with the number of users.

    Raises:
        BookendsError: something the user can mend.
    """
    if request.out.suffix not in FILES:
        raise ConfigError(
            f"'--out' must end in {' or '.join(FILES)}, got '{request.out}' "
            "(a directory needs '--shard-size' or '--launcher ray')"
        )
    try:
        request.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{request.out}: must be writable ({error.strerror})") from error
    request.check_users()
    recommender = request.load()
    written, writer = Written(), None
    with replacement(request.out) as unfinished, ExitStack() as open_files:
        for users in request.batches(recommender, request.batch_size):
            lists = request.lists(recommender, users)
            if writer is None:
                writer = FILES[request.out.suffix](str(unfinished), lists.schema)
                open_files.enter_context(writer)
            writer.write_table(lists)
            written.add(users, len(lists), recommender)
            report(written.n_users, request.n_users(recommender))
    written.seconds = time.monotonic() - written.started
    if recommender.approximate is not None:
        written.recall = recommender.approximate.recall
    return written


@contextmanager
def shown_progress(console: Console) -> Iterator[Report]:
    """What shows the progress: a bar in a terminal, a line now and then elsewhere."""
    if console.is_terminal:
        columns = (TextColumn("{task.completed:,} users"), BarColumn())
        remaining = TimeRemainingColumn(compact=True)
        with Progress(*columns, remaining, console=console, transient=True) as progress:
            task = progress.add_task("", total=None)
            yield lambda n_users, total: progress.update(task, completed=n_users, total=total)
        return
    last_line = time.monotonic()

    def line(n_users: int, total: int | None) -> None:
        nonlocal last_line
        if time.monotonic() - last_line >= PLAIN_LINE_SECONDS:
            last_line = time.monotonic()
            of_all = "" if total is None else f" of {total:,}"
            console.print(f"{n_users:,}{of_all} users", highlight=False)

    yield line


def summary(request: Request, written: Written) -> str:
    """What was written, for whom, and how fast, a line each."""
    pace = written.n_users / max(written.seconds, 1e-9)
    lines = [
        f"{request.out}: {written.n_rows:,} recommendations for {written.n_users:,} users, "
        f"{pace:,.0f} users a second"
    ]
    if written.n_unknown:
        lines.append(
            f"unknown users: {written.n_unknown:,} (first {shown(written.first_unknown)}); "
            f"they got the most popular items{written.hint}"
        )
    if written.n_kept:
        lines.append(f"the lists of {written.n_kept:,} other users were there already")
    if written.recall is not None:
        lines.append(str(written.recall))
    return "\n".join(lines)
