"""The bundle of a run as an MLflow model: tensors, JSON and Arrow, and the code that reads them."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array

import recsys
from recsys.data.columns import TEXT_FIELDS
from recsys.errors import TrackingError
from recsys.recommender import Recommender
from recsys.recommender.bundle import MANIFEST as BUNDLE_MANIFEST
from recsys.recommender.bundle import VALUES as BUNDLE_VALUES
from recsys.recommender.bundle import file_digest
from tracking.remote_run import finished_models
from tracking.store import (
    STORE_ERRORS,
    connect,
    explain,
    quiet,
    resolve_uri,
    without_password,
)

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
UNKNOWN_READER = "a reader never seen"
_BUNDLE_TAG = "bookends.bundle"
_SERVING_FILE = Path(__file__).with_name("serving.py")
_SERVED_WITH = (
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scipy",
    "torch",
)
_MLFLOW_RANGE = "mlflow>=3.17.2,<3.19"


def signature(book_columns: Sequence[str]) -> ModelSignature:
    """What the model takes and gives, for all of its tasks.

    Each task reads some of the input columns and gives some of the output columns; see
    ``RecommenderModel.predict``.

    Args:
        book_columns: what the model takes of a new book: texts, then numbers.
    """
    inputs = [
        ColSpec("string", "user_id", required=False),
        ColSpec(Array(DataType.string), "liked", required=False),
        ColSpec(Array(DataType.double), "liked_ratings", required=False),
        ColSpec("string", "item_id", required=False),
    ]
    number = AnyType()  # type: ignore[no-untyped-call]  # MLflow's "double" refuses whole prices
    inputs += [
        ColSpec("string" if name in TEXT_FIELDS else number, name, required=False)
        for name in book_columns
    ]
    types = {"position": "long", "rank": "long", "score": "double"}
    outputs = [ColSpec(types.get(name, "string"), name, required=False) for name in OUTPUTS]
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
    bundle: Path, path: Path, *, readers: Sequence[str], description: Model | None = None
) -> None:
    """Write a bundle as a directory that ``mlflow.pyfunc.load_model`` reads.

    Args:
        bundle: directory that ``Recommender.save`` wrote.
        path: directory to make.
        readers: ids for the input example.
        description: MLflow's account of the model, to be completed; a new one where absent.

    Raises:
        ArtifactError: the bundle is damaged.
    """
    recommender = Recommender.load(bundle)
    # dtype object: MLflow compares the columns in a way that pandas' text type will not take.
    names = pd.Index(["user_id", "liked"], dtype=object)
    liked = recommender.items.id_of(np.arange(min(2, len(recommender.items))))
    rows = [*([reader, None] for reader in readers), [UNKNOWN_READER, liked]]
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
    readers: Sequence[str],
    params: dict[str, str],
) -> str:
    """Log a bundle as the run's model, unless this very bundle is there; gives the model's id.

    A model that was begun and not ended is ended; an older bundle's model stays beside the new
    one, since a registry may point to it.
    """
    run = client.get_run(run_id)
    digest = bundle_digest(bundle)
    model = _same_model(client, run_id, run.outputs, digest)
    if model is None:
        model = client.create_logged_model(
            experiment_id=run.info.experiment_id,
            name=MODEL_NAME,
            source_run_id=run_id,
            tags={_BUNDLE_TAG: digest},
            params=params,
            model_type="two_tower",
        )
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if model.status != LoggedModelStatus.READY:
        _upload(client, run_id, model, bundle, readers)
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def send_model_metrics(
    client: MlflowClient, run_id: str, model_id: str, keys: Sequence[str]
) -> None:
    """Show metrics of the run at its model too: the same points, so that none is doubled."""
    known = {metric.key for metric in client.get_logged_model(model_id).metrics or []}
    points: list[Metric] = client.get_run(run_id).data._metric_objs
    missing = [
        Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id)
        for point in points
        if point.key in keys and point.key not in known
    ]
    if missing:
        client.log_batch(run_id, metrics=missing)


def resolve_bundle(
    uri: str, tracking_uri: str | None, *, downloads: Path = Path("artifacts/cache/models")
) -> Path:
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
    address = resolve_uri(tracking_uri)
    try:
        client = connect(address)
        with quiet("mlflow"):
            place = _artifact_location(client, uri)
            local = _fetch(place, address, downloads)
    except STORE_ERRORS as error:
        raise TrackingError(
            f"{uri}: must be a model in {without_password(address)} ({explain(error, address)})"
        ) from error
    return _local_bundle(local)


def _local_bundle(path: Path) -> Path:
    """The bundle in a directory that is one, a run's, or an MLflow model's."""
    if (path / BUNDLE_MANIFEST).is_file() or (path / BUNDLE_VALUES).is_file():
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
        return _location_of_run(client, run_id, name or MODEL_NAME)
    if is_logged_model(uri):
        return str(client.get_logged_model(rest).artifact_location)
    version = find_version(client, uri)
    if version.model_id:
        return str(client.get_logged_model(version.model_id).artifact_location)
    return str(client.get_model_version_download_uri(version.name, version.version))


def is_logged_model(uri: str) -> bool:
    """Whether the address names a model by its own id, ``models:/m-...``, in no registry."""
    return re.fullmatch(r"models:/m-[0-9a-f]{32}", uri) is not None


def find_version(client: MlflowClient, uri: str) -> ModelVersion:
    """The registered version that ``models:/name@alias`` or ``models:/name/3`` means now.

    Raises:
        TrackingError: the address names neither an alias nor a version.
        STORE_ERRORS: there is none, or the store cannot be reached.
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


def _location_of_run(client: MlflowClient, run_id: str, name: str) -> str:
    models = [model for model in finished_models(client, run_id) if model.name == name]
    if not models:
        raise TrackingError(f"runs:/{run_id}/{name}: the run must have a model, but logged none")
    return str(models[0].artifact_location)


def _fetch(location: str, tracking_uri: str, downloads: Path) -> Path:
    """The files at a location: where they lie, or a copy made once."""
    if location.startswith("/"):
        return Path(location)
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    held = downloads / hashlib.sha256(f"{tracking_uri}\n{location}".encode()).hexdigest()[:24]
    if not held.exists():
        downloads.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=downloads, prefix=".") as directory:
            unfinished = Path(directory) / MODEL_NAME
            unfinished.mkdir()
            copied = download_artifacts(
                artifact_uri=location, dst_path=str(unfinished), tracking_uri=tracking_uri
            )
            try:
                Path(copied).replace(held)
            except OSError:
                if not held.exists():  # where it does, another process was first
                    raise
    return held


def bundle_digest(bundle: Path) -> str:
    """SHA-256 over the paths and contents of a bundle's files, 24 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(path for path in bundle.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(bundle).as_posix()}\n{file_digest(file)}\n".encode())
    return digest.hexdigest()[:24]


def _same_model(
    client: MlflowClient, run_id: str, outputs: object, digest: str
) -> LoggedModel | None:
    for output in getattr(outputs, "model_outputs", None) or []:
        model = client.get_logged_model(output.model_id)
        if model.source_run_id == run_id and model.tags.get(_BUNDLE_TAG) == digest:
            return model
    return None


def _upload(
    client: MlflowClient, run_id: str, model: LoggedModel, bundle: Path, readers: Sequence[str]
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
            save_model(bundle, path, readers=readers, description=description)
        client.log_model_artifacts(model.model_id, str(path))
