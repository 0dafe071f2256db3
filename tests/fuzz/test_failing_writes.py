"""Disks that refuse the n-th write: the old file, or the new one, and nothing half-written."""

import builtins
import errno
import io
import os
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.data.csv_file import replace_csv
from recsys.errors import BookendsError
from recsys.recommender.bundle import Bundle, write_bundle
from recsys.reporting.record import write_json
from recsys.training.checkpoint import save_checkpoint
from sweeps.journal import Journal

ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EIO]


class Disk:
    """Takes so many writes, forced writes and renames; some of the writes only in part."""

    def __init__(self, rng):
        self.left = rng.choice([*range(12), 100])
        self.error = rng.choice(ERRORS)
        self.share = rng.random()

    def use(self):
        self.left -= 1
        if self.left < 0:
            raise OSError(self.error, os.strerror(self.error))

    @contextmanager
    def in_place(self):
        """Let Python's files lie on this disk, whatever their path."""
        disk, real_open = self, builtins.open

        class File(io.FileIO):
            def write(self, content):
                content = bytes(content)
                part = content[: 1 + int(len(content) * disk.share)]
                if disk.left == 0:
                    super().write(part)
                disk.use()
                return super().write(part if disk.share < 0.5 else content)

        def open_file(path, mode="r", buffering=-1, *args, **kwargs):
            if "r" in mode and "+" not in mode:
                return real_open(path, mode, buffering, *args, **kwargs)
            file = File(path, mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return file
            buffered = io.BufferedWriter(file)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")

        def checked(call):
            def use_and_call(*args, **kwargs):
                if disk.left >= 0:  # what is taken back needs no room
                    disk.use()
                return call(*args, **kwargs)

            return use_and_call

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(builtins, "open", open_file)
            patch.setattr(io, "open", open_file)
            for name in ("fsync", "replace", "mkdir"):
                patch.setattr(os, name, checked(getattr(os, name)))
            yield


def save_bundle(path, content):
    table = pa.table({"a": content})
    write_bundle(path, Bundle({"x": {"a": content}}, {"t": table}, {"a": content.tolist()}))


WRITERS = {
    "json": lambda path, content: write_json(path, content.tolist()),
    "csv": lambda path, content: replace_csv(path, pa.table({"a": content})),
    "checkpoint": lambda path, content: save_checkpoint(path, {"x": torch.from_numpy(content)}),
    "bundle": save_bundle,
}


def files_in(folder):
    """The files below a folder by path, with their content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_the_old_or_the_new_one(tmp_path, writer, inputs, tally):
    path, write = tmp_path / "folder" / "file", WRITERS[writer]
    for number, rng in enumerate(inputs):
        content = np.arange(rng.choice([1, 100, 10_000])) + number
        if rng.random() < 0.1 and path.is_file():
            path.unlink()
        before = files_in(tmp_path)
        try:
            with Disk(rng).in_place():
                write(path, content)
        except (BookendsError, OSError) as error:
            assert str(error).isprintable()
            assert files_in(tmp_path) == before
            tally["refused"] += 1
            continue
        tally["written"] += 1
        written = files_in(tmp_path)
        write(path, content)
        assert files_in(tmp_path) == written


def test_a_journal_holds_what_it_took_and_nothing_else(tmp_path, inputs, tally):
    path = tmp_path / "journal.log"
    journal, taken = Journal(path), []
    nothing = {"op_code": 2, "worker_id": "", "study_id": -1}
    for number, rng in enumerate(inputs):
        logs = [nothing | {"user_attr": {"x" * rng.choice([1, 9999]): number}}] * rng.choice([1, 3])
        try:
            with Disk(rng).in_place():
                journal.append_logs(logs)
            taken = [*taken, *logs][-50:]
            tally["written"] += 1
        except OSError as error:
            assert "must take an entry" in str(error)
            tally["refused"] += 1
        found = list(Journal(path).read_logs(0))
        assert [{key: log[key] for key in log if key != "crc32"} for log in found][-50:] == taken
        if len(found) > 100:
            path.write_bytes(b"")
            taken = []
