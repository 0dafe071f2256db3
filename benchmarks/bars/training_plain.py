"""Training the classic model: the product's trainer against the plain loop of the same maths."""

from __future__ import annotations

from benchmarks import training_sides
from benchmarks.sides import Side, Timing, alternate, run_once
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, faster, number
from benchmarks.worlds import training_world

BARS = {1024: Target(">=", 3.0), 8192: Target(">=", 8.0)}
OF_FLOOR = Target(">=", 0.5)


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Positives a second at each batch size, and how near the floor of the matrix rate they are."""
    folder = str(training_world(sizes))
    flops = run_once(Side(training_sides.start_flops, {"folder": folder}))
    rows = []
    for batch_size, bar in BARS.items():
        n = sizes.steps[batch_size] * batch_size
        settings = {
            "folder": folder,
            "batch_size": batch_size,
            "n_positives": n,
            "fusion": "adaptive_mimic",
            "device": device,
        }
        timings = alternate(
            {
                "product": Side(training_sides.start_product, settings),
                "float32": Side(training_sides.start_product, settings | {"precision": "float32"}),
                "plain loop": Side(training_sides.start_plain, settings),
                "matrix product": Side(training_sides.start_matrix_product, {"device": device}),
            },
            rounds=sizes.rounds,
        )
        rows += rows_of(batch_size, bar, timings, flops)
    return rows


def rows_of(
    batch_size: int, bar: Target, timings: dict[str, Timing], flops: dict[str, float]
) -> list[Row]:
    """The ratio to the plain loop, and the share of the floor."""
    ours, plain, matrix = timings["product"], timings["plain loop"], timings["matrix product"]
    what = f"training, classic model, batch {batch_size}"
    rate = matrix.rate("gflop")
    needed = (
        ours.count("user_rows") * flops["user"]
        + ours.count("item_rows") * flops["item"]
        + plain.count("item_rows") * flops["pair"]
    ) / 1e9
    floor = needed / rate
    tower_rows = {
        name: timing.count("user_rows") + timing.count("item_rows")
        for name, timing in (("ours", ours), ("plain", plain))
    }
    speedup = faster(
        what,
        "positives",
        ours,
        "plain loop",
        plain,
        bar=bar,
        note="Ours multiplies matrices in the default precision, which is bfloat16 where the "
        "processor computes in it; the plain loop in float32.",
        counted={
            "tower rows of a run, ours": tower_rows["ours"],
            "plain": tower_rows["plain"],
            "ratio of rows": tower_rows["plain"] / tower_rows["ours"],
            "last loss, ours": ours.counted[-1]["loss"],
            "plain loop's": plain.counted[-1]["loss"],
        },
    )
    reached = Row(
        f"{what}, share of the floor",
        floor / ours.median,
        unit="of the floor",
        beyond=OF_FLOOR,
        ours=f"{number(ours.median)} s",
        against=f"floor {number(floor)} s",
        note="The floor: operations of the distinct tower rows and of the pairs, features counted "
        "by their entries, at the measured rate of a float32 matrix product. No gathers, no "
        "optimizer, no drawing of negatives.",
        counted={"GFLOP of a run": needed, "GFLOP/s of the matrix product": rate},
        timings={"product": ours, "matrix product": matrix},
    )
    single = timings["float32"]
    loss = {"last loss, ours": single.counted[-1]["loss"]}
    in_float32 = faster(
        f"{what}, in float32", "positives", single, "plain loop", plain, counted=loss
    )
    return [speedup, in_float32, reached]
