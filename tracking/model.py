"""The bundle of a run as an MLflow model: tensors, JSON and Arrow, and the code that reads them."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array

import recsys
from recsys.artifacts import file_digest, new_directory
from recsys.data.columns import TEXT_FIELDS
from recsys.errors import TrackingError
from recsys.recommender import Recommender
from recsys.recommender import bundle as bundles
from tracking.remote_run import finished_models, run_models
from tracking.store import quiet, reading

with warnings.catch_warnings():
    # MLflow warns of type hints of its own while it is imported.
    warnings.filterwarnings("ignore", r".*Any type hint is inferred", UserWarning)
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature

MODEL_NAME = "model"
OUTPUTS = (
    *("position", "user_id", "rank", "item_id", "similar_item_id"),
    *("score", "title", "source"),
)
UNKNOWN_USER = "a user never seen"
DOWNLOADS = Path("artifacts/cache/models")
_BUNDLE_TAG = "bookends.bundle"
_SERVING_FILE = Path(__file__).with_name("serving.py")
_SERVED_WITH = (
    *("filelock", "numpy", "pandas", "pyarrow"),
    *("pydantic", "safetensors", "scipy", "torch"),
)
_MLFLOW_RANGE = "mlflow>=3.17.2,<3.19"


@dataclass(frozen=True)
class FoundModel:
    """One model that does not change, other than what an alias points to.

    Attributes:
        uri: of this very model: with a version where it is registered.
        version: in the registry; None where the model was named in another way.
        run_id: of the run that made it, where that is known.
    """

    uri: str
    version: str | None = None
    run_id: str | None = None


def signature(item_columns: Sequence[str]) -> ModelSignature:
    """What the model takes and gives; a task reads and gives some of it, see ``RecommenderModel``.

    ``item_columns`` are what it takes of a new item: texts, then numbers.
    """
    # Checked by the model: MLflow's "double" refuses whole prices, its "string" a table of no rows.
    number = text = AnyType()  # type: ignore[no-untyped-call]
    columns: dict[str, Any] = {
        "user_id": text,
        "liked": Array(DataType.string),
        "liked_ratings": Array(DataType.double),
        "item_id": text,
    } | {name: "string" if name in TEXT_FIELDS else number for name in item_columns}
    inputs = [ColSpec(kind, name, required=False) for name, kind in columns.items()]
    types = {"position": "long", "rank": "long", "score": "double"}
    lists = {"item_ids": Array(DataType.string), "scores": Array(DataType.double)}
    kinds = {name: types.get(name, "string") for name in OUTPUTS} | lists
    outputs = [ColSpec(kind, name, required=False) for name, kind in kinds.items()]
    return ModelSignature(
        inputs=Schema([*inputs]),
        outputs=Schema([*outputs]),
        params=ParamSchema(
            [
                ParamSpec("task", "string", "recommend"),
                ParamSpec("k", "long", 10),
                ParamSpec("exclude_seen", "boolean", True),
                ParamSpec("categories", "string", [], (-1,)),
            ]
        ),
    )


def requirements() -> list[str]:
    """What must be installed to serve: from the version that trained up to the next major one."""
    ranges = [_MLFLOW_RANGE]
    for name in _SERVED_WITH:
        major, minor = version(name).split(".")[:2]
        ranges.append(f"{name}>={major}.{minor},<{int(major) + 1}")
    return ranges


def save_model(
    bundle: Path, path: Path, *, users: Sequence[str], description: Model | None = None
) -> None:
    """Write a bundle as a directory that ``mlflow.pyfunc.load_model`` reads.

    ``users`` are ids for the input example; ``description`` is MLflow's account of the model, to be
    completed.

    Raises:
        ArtifactError: the bundle is damaged.
    """
    recommender = Recommender.load(bundle)
    # dtype object: MLflow compares the columns in a way that pandas' text type will not take.
    names = pd.Index(["user_id", "liked"], dtype=object)
    liked = recommender.items.id_of(np.arange(min(2, len(recommender.items))))
    rows = [*([user, None] for user in users), [UNKNOWN_USER, liked]]
    example = pd.DataFrame(rows, columns=names)
    k = min(10, len(recommender.items))
    params = {"task": "recommend", "k": k, "exclude_seen": True, "categories": []}
    mlflow.pyfunc.save_model(
        path=str(path),
        python_model=str(_SERVING_FILE),
        artifacts={"bundle": bundle.absolute().as_uri()},  # a path would be read as an address
        code_paths=[str(Path(recsys.__file__).parent)],
        signature=signature(recommender.book_columns),
        input_example=(example, params),
        pip_requirements=requirements(),
        mlflow_model=description,
    )
    for cache in sorted(path.rglob("__pycache__")):  # compiled code is no part of a model
        for file in cache.iterdir():
            file.unlink()
        cache.rmdir()


def send_model(
    client: MlflowClient,
    run_id: str,
    bundle: Path,
    *,
    name: str,
    users: Sequence[str],
    params: dict[str, str],
) -> LoggedModel:
    """Log a bundle as the run's model, unless this very bundle is there; gives the model.

    A model that was begun and not ended is ended; an older bundle's model stays beside the new
    one, since a registry may point to it. It bears the run's ``name``, in which MLflow allows no
    dot, so that models can be told apart where they stand in one list.
    """
    digest = bundle_digest(bundle)
    for model in run_models(client, run_id):
        if model.source_run_id == run_id and model.tags.get(_BUNDLE_TAG) == digest:
            break
    else:
        model = client.create_logged_model(
            experiment_id=client.get_run(run_id).info.experiment_id,
            name=name.replace(".", "_"),
            source_run_id=run_id,
            tags={_BUNDLE_TAG: digest},
            params=params,
            model_type="two_tower",
        )
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if model.status != LoggedModelStatus.READY:
        _upload(client, run_id, model, bundle, users)
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model


def resolve_bundle(uri: str, tracking_uri: str | None, *, downloads: Path = DOWNLOADS) -> Path:
    """The bundle directory of a model, on this machine.

    Args:
        uri: ``models:/name@alias``, ``models:/name/3``, ``models:/m-<id>``,
            ``runs:/<run id>/model``, a run directory, a bundle directory, or a directory that
            ``save_model`` wrote.
        tracking_uri: the store; as :func:`tracking.store.resolve_uri` takes it.
        downloads: where a model is put, once, that does not lie on this machine.

    Raises:
        TrackingError: there is no such model, or its store cannot be reached.
    """
    path = Path(uri)
    if not uri.startswith(("models:/", "runs:/")):
        return _local_bundle(path)
    with reading(tracking_uri, f"{uri}: must be a model in") as client, quiet("mlflow"):
        local = _fetch(_artifact_location(client, uri), client.tracking_uri, downloads)
    return _local_bundle(local)


def is_alias(uri: str) -> bool:
    """Whether an address may come to mean another model: an alias does, all else does not."""
    return uri.startswith("models:/") and "@" in uri


def find_model(uri: str, tracking_uri: str | None) -> FoundModel:
    """What the address of a model, as :func:`resolve_bundle` takes it, means now.

    Raises:
        TrackingError: there is no such alias or version, or the store cannot be reached.
    """
    if uri.startswith("runs:/"):
        return FoundModel(uri, run_id=uri.removeprefix("runs:/").strip("/").partition("/")[0])
    if not uri.startswith("models:/") or _is_logged_model(uri):
        return FoundModel(uri)
    with reading(tracking_uri, f"{uri}: must be a model in") as client:
        found = _find_version(client, uri)
    version = str(found.version)
    return FoundModel(f"models:/{found.name}/{version}", version, found.run_id or None)


def _local_bundle(path: Path) -> Path:
    """The bundle in a directory that is one, a run's, or an MLflow model's."""
    if (path / bundles.MANIFEST).is_file() or (path / bundles.VALUES).is_file():
        return path
    if (path / "MLmodel").is_file():
        try:  # not Model.load, which reads the path as an address
            described = yaml.safe_load((path / "MLmodel").read_text(encoding="utf-8"))
            flavor = described["flavors"]["python_function"]
            return path / str(flavor["artifacts"]["bundle"]["path"])
        except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError):
            pass  # not one of ours
    elif path.is_dir() and (path / MODEL_NAME).is_dir():
        return _local_bundle(path / MODEL_NAME)
    raise TrackingError(
        f"{path}: must be a bundle or run directory with a model of ours, "
        "or an address such as models:/bookends@champion, models:/bookends/3 or runs:/<id>/model"
    )


def _artifact_location(client: MlflowClient, uri: str) -> str:
    """Where MLflow keeps the files of a model."""
    kind, _, rest = uri.partition(":/")
    if kind == "runs":
        run_id, _, name = rest.strip("/").partition("/")
        name = name or MODEL_NAME
        for model in finished_models(client, run_id):
            if name in (MODEL_NAME, model.name):
                return str(model.artifact_location)
        raise TrackingError(f"runs:/{run_id}/{name}: the run must have a model, but logged none")
    if _is_logged_model(uri):
        return str(client.get_logged_model(rest).artifact_location)
    version = _find_version(client, uri)
    if version.model_id:
        return str(client.get_logged_model(version.model_id).artifact_location)
    return str(client.get_model_version_download_uri(version.name, version.version))


def _is_logged_model(uri: str) -> bool:
    """Whether the address names a model by its own id, ``models:/m-...``, in no registry."""
    return re.fullmatch(r"models:/m-[0-9a-f]{32}", uri) is not None


def _find_version(client: MlflowClient, uri: str) -> ModelVersion:
    """The registered version that ``models:/name@alias`` or ``models:/name/3`` means now.

    Raises:
        TrackingError: the address names neither an alias nor a version.
    """
    rest = uri.partition(":/")[2]
    name, at, alias = rest.partition("@")
    if at:
        return client.get_model_version_by_alias(name, alias)
    name, _, number = rest.rpartition("/")
    if not name:
        raise TrackingError(
            f"{uri}: must end in a version or an alias, such as models:/{rest}/1 or "
            f"models:/{rest}@champion"
        )
    return client.get_model_version(name, number)


def _fetch(location: str, tracking_uri: str, downloads: Path) -> Path:
    """The files at a location: where they lie, or a copy made once."""
    if location.startswith("/"):
        return Path(location)
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    held = downloads / hashlib.sha256(f"{tracking_uri}\n{location}".encode()).hexdigest()[:32]
    if not held.exists():
        with suppress(FileExistsError), new_directory(held) as made:  # another process may be first
            copied = download_artifacts(
                artifact_uri=location, dst_path=str(made / "copy"), tracking_uri=tracking_uri
            )
            Path(copied).rename(made / MODEL_NAME)
    return held / MODEL_NAME


def bundle_digest(bundle: Path) -> str:
    """SHA-256 over the paths and contents of a bundle's files, 24 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(path for path in bundle.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(bundle).as_posix()}\n{file_digest(file)}\n".encode())
    return digest.hexdigest()[:24]


def _upload(
    client: MlflowClient, run_id: str, model: LoggedModel, bundle: Path, users: Sequence[str]
) -> None:
    description = Model(
        artifact_path=model.artifact_location,
        model_uuid=model.model_id,
        run_id=run_id,
        model_id=model.model_id,
    )
    with TemporaryDirectory() as directory:
        path = Path(directory) / MODEL_NAME
        with quiet("mlflow.pyfunc"):
            save_model(bundle, path, users=users, description=description)
        client.log_model_artifacts(model.model_id, str(path))
