"""Damaged bundles with digests made anew: they load and answer, or one line says why not."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from recsys.artifacts import file_digest
from recsys.errors import ArtifactError
from recsys.recommender import Recommender

NUMBERS, WHOLE_NUMBERS = [np.nan, -np.inf, -1, 0, 1e38], [-1, 0, 1, 30, 2**31 - 1]
TYPES = ["f4", "f8", "f2", "i4", "i8", "u1", "?"]


def change_array(rng, array):
    """Other numbers, another type or another shape."""
    array = array.copy()
    match rng.randrange(5):
        case 0:
            return array.astype(rng.choice(TYPES))
        case 1:
            return array[: rng.randrange(len(array) + 1)] if array.ndim else array
        case 2:
            return array.reshape(rng.choice([(-1,), (1, -1), (*array.shape, 1)]))
        case _ if array.size:
            known = NUMBERS if array.dtype.kind == "f" else WHOLE_NUMBERS
            array.flat[rng.randrange(array.size)] = rng.choice(known)
    return array


def change_table(rng, table):
    """A column with another type, a null, an id that stands twice, or none."""
    place = rng.randrange(table.num_columns)
    name, values = table.column_names[place], table.column(place).to_pylist()
    match rng.randrange(6):
        case 0:
            return table.drop_columns([name])
        case 1:
            column = pa.array(values).cast(rng.choice([pa.large_string(), pa.binary()]))
        case 2:
            column = pa.array(values).dictionary_encode()
        case 3:
            column = pa.array(range(len(values)))
        case 4:
            return table.slice(rng.randrange(len(values)))
        case _:
            values[rng.randrange(len(values))] = rng.choice([None, values[0], "", "x|y", "\n"])
            column = pa.array(values)
    return table.set_column(place, name, column)


def change_bytes(rng, path):
    """Bytes changed, cut off, or added; mostly at the beginning or the end, where the sizes are."""
    raw = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 20])):
        within = rng.choice([range(min(len(raw), 400)), range(len(raw)), range(len(raw))[-400:]])
        raw[rng.choice(within)] = rng.choice([0, 255, rng.randrange(256)])
    if rng.random() < 0.1:
        raw = raw[: rng.randrange(len(raw))] + rng.choice([b"", b"\0" * 64])
    path.write_bytes(raw)


def change(rng, folder, change_json):
    """One file of the bundle, and the manifest that agrees with it."""
    path = folder / rng.choice(["recommender.json"] * 3 + [path.name for path in folder.iterdir()])
    if rng.random() < 0.4:
        change_bytes(rng, path)
    elif path.suffix == ".json":
        content = json.loads(path.read_text())
        for _ in range(rng.choice([1, 1, 2])):
            change_json(rng, content, ["x", "", "kind"])
        path.write_text(json.dumps(content))
    elif path.suffix == ".safetensors":
        tensors = load_file(path)
        name = rng.choice(sorted(tensors))
        tensors[name] = np.ascontiguousarray(change_array(rng, tensors[name]))
        save_file(tensors, path)
    else:
        table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
        table = change_table(rng, table)
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    if path.name != "manifest.json":
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][path.name] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
        (folder / "manifest.json").write_text(json.dumps(manifest))


def answers(recommender):
    """What it says to each kind of question."""
    users, items = recommender.users.ids.to_pylist()[:3], recommender.items.ids.to_pylist()[:3]
    book = pd.DataFrame({"title": ["x"], "categories": ["even"]})
    yield recommender.recommend([*users, "stranger"], k=2)
    yield recommender.recommend_for_liked([items], k=2)
    yield recommender.similar_items(items[:1], k=2)
    if recommender.cold_start is not None:
        yield recommender.similar_to_book(book, k=2)
        yield recommender.users_of_book(book, k=2)


def test_a_damaged_bundle_answers_or_is_refused_in_one_line(
    tmp_path, towers_path, inputs, tally, change_json
):
    folder = tmp_path / "model"
    for rng in inputs:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(towers_path, folder)
        change(rng, folder, change_json)
        try:
            recommender = Recommender.load(folder)
        except ArtifactError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 1000
            tally["refused"] += 1
            continue
        for answer in answers(recommender):
            assert answer["score"].notna().all()
        tally["read"] += 1
    assert tally["read"] > tally.total() // 20
