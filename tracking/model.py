"""The bundle of a run as an MLflow model: tensors, JSON and Arrow, and the code that reads them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

import recsys
from tracking.store import quiet

with warnings.catch_warnings():
    # MLflow warns of type hints of its own while it is imported.
    warnings.filterwarnings("ignore", r".*Any type hint is inferred", UserWarning)
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature

MODEL_NAME = "model"
UNKNOWN_READER = "a reader never seen"
_BUNDLE_TAG = "bookends.bundle"
_SERVING_FILE = Path(__file__).with_name("serving.py")
_SERVED_WITH = (
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scipy",
    "torch",
)
_MLFLOW_RANGE = "mlflow>=3.17.2,<3.19"


def signature() -> ModelSignature:
    """What the model takes and gives: readers' ids and two options in, ranked books out."""
    columns = ("user_id", "rank", "item_id", "score", "title", "source")
    types = {"rank": "long", "score": "double"}
    return ModelSignature(
        inputs=Schema([ColSpec("string", "user_id")]),
        outputs=Schema([ColSpec(types.get(name, "string"), name) for name in columns]),
        params=ParamSchema(
            [ParamSpec("k", "long", 10), ParamSpec("exclude_seen", "boolean", True)]
        ),
    )


def requirements() -> list[str]:
    """What must be installed to serve: from the version that trained up to the next major one."""
    ranges = [_MLFLOW_RANGE]
    for name in _SERVED_WITH[1:]:
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
    """
    # dtype object: MLflow compares the columns in a way that pandas' text type will not take.
    names = pd.Index(["user_id"], dtype=object)
    example = pd.DataFrame([[reader] for reader in [*readers, UNKNOWN_READER]], columns=names)
    mlflow.pyfunc.save_model(
        path=str(path),
        python_model=str(_SERVING_FILE),
        artifacts={"bundle": str(bundle)},
        code_paths=[str(Path(recsys.__file__).parent)],
        signature=signature(),
        input_example=(example, {"k": 10, "exclude_seen": True}),
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


def bundle_digest(bundle: Path) -> str:
    """SHA-256 over the paths and contents of a bundle's files, 24 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(path for path in bundle.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.relative_to(bundle).as_posix()}\n{content}\n".encode())
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
