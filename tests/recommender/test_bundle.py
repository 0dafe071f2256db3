"""The bundle on disk: it comes back as it was written, or not at all."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from recsys.artifacts import file_digest
from recsys.data.dataset import prepare
from recsys.errors import ArtifactError
from recsys.recommender import Recommender
from tests.small_arrays import assert_equal_features

FILES = [
    "item_features.safetensors",
    "items.arrow",
    "manifest.json",
    "recommender.json",
    "towers.safetensors",
    "users.arrow",
    "vectors.safetensors",
]
IDENTITY = (
    "--model.user_encoder.id_embedding.type=embedding",
    "--model.user_encoder.history.pooling=none",
    "--model.item_encoder.fusion=identity",
)
NEW_BOOK = pd.DataFrame({"title": ["The Paper Sorcerer"], "categories": ["Fantasy"]})


@pytest.fixture(scope="module")
def written(shop, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "model"
    shop.save(path)
    return path


@pytest.fixture
def saved(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "model"))


def sign(path):
    """Make the manifest agree with the files: what is left are the checks of their content."""
    manifest = json.loads((path / "manifest.json").read_text())
    files = [file for file in path.iterdir() if file.name != "manifest.json"]
    manifest["files"] = {
        file.name: {"sha256": file_digest(file), "bytes": file.stat().st_size} for file in files
    }
    (path / "manifest.json").write_text(json.dumps(manifest))


def change_values(path, change):
    values = json.loads((path / "recommender.json").read_text())
    change(values)
    (path / "recommender.json").write_text(json.dumps(values))
    sign(path)


def test_saved_and_loaded_give_equal_answers(shop, saved):
    loaded = Recommender.load(saved)
    users = [*shop.users.ids.to_pylist()[:60], "stranger"]
    answers = [
        (
            each.recommend(users, k=5),
            each.recommend(users[:3], k=5, categories=["Fantasy"]),
            each.recommend_for_liked([["b0001", "b0002"]], k=5),
            each.similar_items(["b0001"], k=5),
            each.similar_to_book(NEW_BOOK, k=5),
            each.users_of_book(NEW_BOOK, k=5),
        )
        for each in (shop, loaded)
    ]
    for before, after in zip(*answers, strict=True):
        pd.testing.assert_frame_equal(before, after)
    assert loaded.provenance == {"run": "test"}


@pytest.mark.parametrize("offsets", [[0, 10**9, 2], [0, -9, 2], [0, 1, 2]])
def test_texts_that_lie_outside_the_file_or_are_no_texts_are_refused(saved, offsets):
    """Arrow reads them unseen: a wrong offset ends the process."""
    buffers = [None, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(b"a\xff")]
    table = pa.table({"user_id": pa.Array.from_buffers(pa.string(), 2, buffers)})
    with pa.ipc.new_file(str(saved / "users.arrow"), table.schema) as writer:
        writer.write_table(table)
    sign(saved)
    with pytest.raises(ArtifactError, match="must hold a whole recommender"):
        Recommender.load(saved)


def test_the_bytes_are_those_of_the_files(saved):
    held = [path for path in saved.iterdir() if path.suffix != ".json"]
    n_bytes = sum(path.stat().st_size for path in held)
    assert 0.9 * n_bytes < Recommender.load(saved).n_bytes < n_bytes


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_model_without_metadata_is_saved_and_loaded_too(shop_recommender, similarity, tmp_path):
    _, recommender = shop_recommender(*IDENTITY, f"--model.similarity={similarity}")
    recommender.save(tmp_path / "model")
    liked = [["b0001", "b0002"]]
    found = Recommender.load(tmp_path / "model").recommend_for_liked(liked, k=5)
    pd.testing.assert_frame_equal(found, recommender.recommend_for_liked(liked, k=5))


def test_hashed_features_with_empty_buckets_are_saved_and_loaded_too(
    untrained, board_config, tmp_path
):
    config = board_config({"data": {"feature_params": {"bag_kind": "hashed"}}})
    _, recommender = untrained(config, prepare(config.data, 0))
    assert 0 in recommender.cold_start.item_featurizer.bag_columns["categories"].counts
    recommender.save(tmp_path / "model")
    found = Recommender.load(tmp_path / "model").similar_to_book(NEW_BOOK, k=5)
    pd.testing.assert_frame_equal(found, recommender.similar_to_book(NEW_BOOK, k=5))


def test_nothing_in_the_bundle_is_a_pickle(saved):
    assert sorted(path.name for path in saved.iterdir()) == FILES


def test_vectors_are_mapped_from_the_file_not_copied(saved):
    loaded = Recommender.load(saved)
    maps = Path("/proc/self/maps").read_text()
    for name in ("vectors.safetensors", "item_features.safetensors", "items.arrow"):
        assert str(saved / name) in maps
    assert loaded.vectors.items.flags.aligned


@pytest.mark.parametrize("name", FILES)
def test_a_shortened_or_missing_file_is_refused(saved, name):
    path = saved / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=r"must (hold a whole recommender|have \d+ bytes)"):
        Recommender.load(saved)
    path.unlink()
    with pytest.raises(ArtifactError, match="must"):
        Recommender.load(saved)


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_a_single_changed_bit_is_refused(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name}: must have the SHA-256 digest"):
        Recommender.load(saved)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(pickle.dumps([]))])
def test_anything_added_is_refused(saved, make):
    make(saved / "extra.pkl")
    with pytest.raises(ArtifactError, match=r"nothing but the recommender, got 'extra\.pkl'"):
        Recommender.load(saved)


def test_a_manifest_that_points_outside_is_refused(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    shutil.move(saved / "users.arrow", saved.parent / "users.arrow")
    manifest["files"]["../users.arrow"] = manifest["files"].pop("users.arrow")
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"'\.\./users\.arrow' is missing"):
        Recommender.load(saved)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        *((text, "must hold a whole recommender") for text in ("[]", "{}", "{")),
        ('{"format": 5, "files": {"a": 1}}', "must hold a whole recommender"),
        ('{"format": 99, "files": {}}', "must be of format 5, got 99"),
    ],
)
def test_a_manifest_of_another_form_or_format_is_refused(saved, manifest, message):
    (saved / "manifest.json").write_text(manifest)
    with pytest.raises(ArtifactError, match=message):
        Recommender.load(saved)


def test_several_vectors_a_user_are_saved_and_loaded_with_their_combination(
    shop, several, tmp_path
):
    several.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert loaded.vectors.combine == several.vectors.combine
    assert several.n_bytes - shop.n_bytes == 3 * shop.vectors.users.nbytes
    users = shop.users.ids.to_pylist()[:60]
    for before, after in (
        (several.recommend(users, k=5), loaded.recommend(users, k=5)),
        (several.users_of_book(NEW_BOOK, k=5), loaded.users_of_book(NEW_BOOK, k=5)),
    ):
        pd.testing.assert_frame_equal(before, after)


def test_an_unknown_combination_is_refused(saved):
    change_values(saved, lambda values: values.update(combine="mean"))
    with pytest.raises(ArtifactError, match="'combine': must be 'max' or 'logsumexp', got"):
        Recommender.load(saved)


def test_an_empty_or_absent_directory_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtifactError, match="must hold a whole recommender"):
            Recommender.load(path)


def last_is(value):
    def change(array):
        changed = array.copy()
        changed.flat[-1] = value
        return changed

    return change


def test_features_come_back_bit_for_bit(shop, saved):
    features = shop.cold_start.item_features
    loaded = Recommender.load(saved).cold_start.item_features
    assert loaded.bags.keys() == {"categories", "authors", "series", "title_words"}
    assert_equal_features(loaded, features)


@pytest.mark.parametrize(
    ("file", "name", "change", "message"),
    [
        ("vectors", "user_vectors", lambda a: a[:-1], r"'user_vectors' must be \d+ x any"),
        ("vectors", "item_vectors", lambda a: a[:, :-1].copy(), r"'item_vectors' must be \d+ x 17"),
        ("vectors", "item_vectors", lambda a: a.astype("f8"), "of float32, got .* of float64"),
        ("vectors", "item_vectors", last_is(np.nan), "holds NaN or infinity"),
        ("vectors", "user_vectors", last_is(np.inf), "holds NaN or infinity"),
        ("vectors", "popularity", lambda a: a[:-1], r"'popularity' must be \d+ of int64"),
        ("vectors", "popularity", None, r"must hold a whole recommender .*popularity"),
        ("vectors", "seen_offsets", lambda a: a[::-1].copy(), "'seen_offsets' must rise from 0"),
        ("vectors", "seen_offsets", last_is(3), "'seen_offsets' must rise from 0"),
        ("vectors", "seen_indices", last_is(-1), "'seen_indices' must be in 0"),
        ("vectors", "seen_indices", last_is(1_000_000), "'seen_indices' must be in 0"),
        ("vectors", "item_table", lambda a: a[:-1], r"'item_table' must be \d+ x 16 of float32"),
        ("vectors", "item_table", last_is(np.nan), "'item_table' must hold finite numbers"),
        ("item_features", "dense", lambda a: a[:-1], r"'dense' must be"),
        ("item_features", "dense", last_is(np.nan), "'dense' must hold finite numbers"),
        ("item_features", "categories_indices", last_is(300), "'categories_indices' must be in 0"),
        ("item_features", "title_words_weights", lambda a: a[:-1], "'title_words_weights' must be"),
        ("item_features", "series_weights", last_is(np.nan), "'series_weights' must hold finite"),
        ("towers", "log_scale", last_is(np.nan), "'log_scale' must hold finite float32"),
        ("towers", "item_tower.encoder.bias", lambda a: a[:-1], "the towers must fit"),
    ],
)
def test_tensors_that_do_not_fit_or_are_missing_are_refused(saved, file, name, change, message):
    tensors = load_file(saved / f"{file}.safetensors")
    array = tensors.pop(name)
    if change is not None:
        tensors[name] = change(array)
    save_file(tensors, saved / f"{file}.safetensors")
    sign(saved)
    with pytest.raises(ArtifactError, match=message):
        Recommender.load(saved)


def scale_of(values):
    return values["cold_start"]["item_featurizer"]["scales"][0]


def columns_of(values):
    return values["cold_start"]["item_featurizer"]["bag_columns"]["categories"]


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("cold_start"),
        lambda values: values.update(provenance=3),
        lambda values: values["cold_start"]["model"].update(similarity="cosin"),
        lambda values: values["cold_start"]["model"].pop("user_encoder"),
        lambda values: values["cold_start"]["item_featurizer"].update(scales=[{"name": 1}]),
        lambda values: values["cold_start"]["user_featurizer"].update(means=[1.0]),
        lambda values: values["cold_start"].update(user_featurizer=None),
        lambda values: values["provenance"].update(run=[3]),
        lambda values: values["cold_start"].update(has_order="yes"),
        lambda values: values["cold_start"]["user_featurizer"].update(half_life_days="7"),
        lambda values: scale_of(values).update(mean="3"),
        lambda values: scale_of(values).update(mean=float("nan")),
        lambda values: scale_of(values).update(deviation=0.0),
        lambda values: scale_of(values).update(log=1),
        lambda values: columns_of(values)["labels"].__setitem__(0, 7),
        lambda values: columns_of(values)["labels"].pop(),
        lambda values: columns_of(values)["counts"].__setitem__(0, 1.5),
        lambda values: columns_of(values)["counts"].__setitem__(0, 0),
        lambda values: columns_of(values)["counts"].__setitem__(0, 10**400),
        lambda values: columns_of(values).update(n_books=None),
        lambda values: values["cold_start"]["item_featurizer"]["bag_columns"].update(
            colours=columns_of(values)
        ),
    ],
)
def test_settings_that_make_no_model_are_refused(saved, change):
    change_values(saved, change)
    with pytest.raises(ArtifactError, match="model: ") as refusal:
        Recommender.load(saved)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("column", [pa.array([1, 2]), pa.array(["a", None])])
def test_tables_of_another_kind_are_refused(saved, column):
    with pa.ipc.new_file(str(saved / "users.arrow"), pa.schema([("user_id", column.type)])) as out:
        out.write_table(pa.table({"user_id": column}))
    sign(saved)
    with pytest.raises(ArtifactError, match="'user_id' must hold texts"):
        Recommender.load(saved)


def test_saving_again_replaces_the_bundle(shop, saved):
    (saved / "stale").write_text("old")
    shop.save(saved)
    assert not (saved / "stale").exists()
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written_is_named(shop, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="file/model: must be writable"):
        shop.save(tmp_path / "file" / "model")
