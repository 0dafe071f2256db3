"""Training against LightFM and implicit, with the same item features and by ids alone."""

from __future__ import annotations

from benchmarks.sides import Side, SideError, Timing, alternate
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, number
from benchmarks.worlds import training_world

PRODUCT = "benchmarks.training_sides:start_product"
DIM = 96
BATCH_SIZES = (512, 8192)
RUNS_ON_CUDA = False
NOTE = (
    "A positive of ours is trained against 5 negatives and through two neural towers where the "
    "fusion is not identity; of theirs against 1, Hogwild over shared factors. Peers run whole "
    "epochs over all train interactions, which is best for them."
)


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Positives a second beside each peer."""
    folder = training_world(sizes)
    arrays = {"path": str(folder / "arrays.npz"), "dim": DIM}
    lightfm = "benchmarks.peers.lightfm_bpr:start"
    with_features = Side(lightfm, arrays | {"with_features": True}, is_peer=True)
    ids_only = Side(lightfm, arrays | {"with_features": False}, is_peer=True)
    implicit = Side(
        "benchmarks.peers.implicit_bpr:start",
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
            PRODUCT,
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
    for batch in ours:
        for peer in peers:
            is_first = peer.startswith("LightFM")
            rows.append(
                _row(
                    f"training, {name}, {batch}, against {peer}",
                    timings[batch],
                    timings[peer],
                    bar=Target(">=", 1.0) if is_first else None,
                    beyond=beyond if is_first else Target(">=", 1.0),
                )
            )
    return rows


def _row(
    what: str, ours: Timing, theirs: Timing, *, bar: Target | None, beyond: Target | None
) -> Row:
    cpu = {
        side: 1e6 * timing.median_cpu / timing.count("positives")
        for side, timing in (("ours", ours), ("theirs", theirs))
    }
    return Row(
        what,
        ours.rate("positives") / theirs.rate("positives"),
        bar=bar,
        beyond=beyond,
        ours=f"{number(ours.rate('positives'))} positives/s",
        against=f"{number(theirs.rate('positives'))}",
        note=NOTE,
        counted={
            "CPU microseconds a positive, ours": cpu["ours"],
            "theirs": cpu["theirs"],
            "positives of a run, ours": ours.count("positives"),
            "theirs ": theirs.count("positives"),
        },
        timings={"product": ours, "peer": theirs},
    )
