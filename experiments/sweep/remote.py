"""A worker on another machine: what its parent gives it in place of a shared disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc

from experiments.settings import Tree
from experiments.signals import Interrupted
from experiments.sweep.directory import SweepDirectory
from experiments.sweep.proxy import open_proxy, put_file, report_node
from experiments.sweep.shipping import ShippedFile, finder
from experiments.sweep.state import Assignment, load_state
from experiments.sweep.trial import FindData
from experiments.sweep.worker import Place, StopCheck, Worker
from recsys.config import DataConfig
from recsys.errors import TrackingError
from sweeps.storage import open_storage
from tracking.processes import Owner


@dataclass(frozen=True)
class Remote:
    """What a worker is given that shares nothing with its parent but the network."""

    launch: str
    """Name of this one start."""
    parent: Owner
    address: str
    """HOST:PORT of what the parent serves."""
    data: tuple[ShippedFile, ...] | None
    """The prepared data set; None where all machines have it."""
    changes: Tree
    """Settings that differ from those of the study: whole paths, and where data sets are kept."""
    tracking_uri: str | None
    """None for no tracker that all machines reach."""


def work(assignment: Assignment, remote: Remote, get: Callable[[Any], Any], node: str) -> None:
    """Run trials until none is left, or a signal comes; the trial under way is queued again then.

    Args:
        assignment: of the worker; its storage is empty where the parent's proxy is meant.
        remote: what goes with it.
        get: gives the array that a part of the data set stands for.
        node: of the cluster, on which it runs.

    Raises:
        TrackingError: the parent is gone.
        BookendsError: what speaks against this machine, as data that it cannot get.
    """
    url, stop = assignment.storage, StopCheck(None)
    storage = open_storage(url) if url else open_proxy(remote.address)
    try:
        with stop.on_signals(), suppress(Interrupted):
            report_node(remote.address, remote.launch, node)
            state = load_state(storage, assignment.study)
            place = _place(remote, assignment, finder(state.fingerprint, remote.data, get))
            Worker(assignment, state, remote.changes, storage, stop, place).run()
    except grpc.RpcError as error:
        details = error.details() if isinstance(error, grpc.Call) else error
        raise TrackingError(
            f"the sweep's parent at {remote.address} no longer answers ({details})"
        ) from None
    finally:
        storage.close()


def _place(remote: Remote, assignment: Assignment, find: FindData) -> Place:
    launch = {"name": remote.launch, "parent": asdict(remote.parent)}
    return Place(
        name=f"worker-{assignment.index}",
        tracking_uri=remote.tracking_uri,
        find_data=find,
        keep_finalist=lambda *given: _send_finalist(remote.address, *given),
        note={"launch": launch},
    )


def _send_finalist(address: str, *given: Any) -> None:
    """Have a finalist's files in the sweep's directory, on the parent's machine."""
    with tempfile.TemporaryDirectory() as place:
        directory = SweepDirectory(Path(place))
        directory.keep_finalist(*given)
        for path in directory.finalists_dir.iterdir():
            put_file(address, path)


def whole_paths(config: DataConfig, cache_dir: Path | None) -> dict[str, str]:
    """The settings of the data that name files, as they hold in any working directory."""
    places: dict[str, Path | str] = {f"{name}_path": at for name, at in config.sources.items()}
    places["cache_dir"] = cache_dir or config.cache_dir
    return {
        name: str(place.absolute() if isinstance(place, Path) else place)
        for name, place in places.items()
    }
