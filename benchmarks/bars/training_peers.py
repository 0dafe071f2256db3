"""Training against LightFM and implicit, with the same item features and by ids alone."""

from __future__ import annotations

import itertools

from benchmarks.sides import Side, SideError, alternate
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, faster
from benchmarks.training_sides import start_product
from benchmarks.worlds import training_world

DIM = 96
BATCH_SIZES = (512, 8192)
NOTE = (
    "A positive of ours is trained against 5 negatives and through two neural towers where the "
    "fusion is not identity; of theirs against 1, Hogwild over shared factors. Peers run whole "
    "epochs over all train interactions, which is best for them."
)


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Positives a second beside each peer."""
    folder = training_world(sizes)
    arrays = {"path": str(folder / "arrays.npz"), "dim": DIM}
    lightfm = "benchmarks.peers:start_lightfm_bpr"
    with_features = Side(lightfm, arrays | {"with_features": True}, is_peer=True)
    ids_only = Side(lightfm, arrays | {"with_features": False}, is_peer=True)
    implicit = Side(
        "benchmarks.peers:start_implicit_bpr",
        arrays,
        is_peer=True,
        environment={"OPENBLAS_NUM_THREADS": "1"},
    )
    return [
        *_compare(
            sizes, "adaptive_mimic", {"LightFM, item features": with_features}, Target(">=", 2.0)
        ),
        *_compare(sizes, "identity", {"LightFM, ids": ids_only, "implicit BPR": implicit}, None),
    ]


def _compare(sizes: Sizes, fusion: str, peers: dict[str, Side], beyond: Target | None) -> list[Row]:
    """Our batch sizes and the peers, all in turn."""
    name = "classic model" if fusion == "adaptive_mimic" else "identity"
    folder = str(training_world(sizes))
    ours = {
        f"batch {size}": Side(
            start_product,
            {
                "folder": folder,
                "batch_size": size,
                "n_positives": sizes.steps[size] * size,
                "fusion": fusion,
            },
        )
        for size in BATCH_SIZES
    }
    try:
        timings = alternate(ours | peers, rounds=sizes.rounds)
    except SideError as error:
        return [Row(f"training, {name}, against peers", None, note=f"Not measured: {error}")]
    rows = []
    for batch, peer in itertools.product(ours, peers):
        is_first, mine, theirs = peer.startswith("LightFM"), timings[batch], timings[peer]
        cpu = {
            "CPU microseconds a positive, ours": mine,
            "theirs": theirs,
        }
        each = {k: 1e6 * t.median_cpu / t.count("positives") for k, t in cpu.items()}
        each |= {
            "positives of a run, ours": mine.count("positives"),
            "theirs ": theirs.count("positives"),
        }
        rows.append(
            faster(
                f"training, {name}, {batch}, against {peer}",
                "positives",
                mine,
                peer,
                theirs,
                bar=Target(">=", 1.0) if is_first else None,
                beyond=beyond if is_first else Target(">=", 1.0),
                note=NOTE,
                counted=each,
            )
        )
    return rows
