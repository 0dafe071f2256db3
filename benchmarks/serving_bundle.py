"""A bundle of any size to serve from, made of random arrays: no data, no training.

    python -m benchmarks.serving_bundle artifacts/million --items 1000000 --dim 96

Vectors lie about the centres of genres, as learned ones do; cosine over a temperature of 0.1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import Bags
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.ranking import Vectors
from recsys.recommender import Recommender
from recsys.recommender.books import Books

N_GENRES = 200
TEMPERATURE = 0.1


def build_recommender(
    n_items: int, n_users: int, dim: int, *, n_seen: int = 50, seed: int = 0
) -> Recommender:
    """A recommender of random vectors.

    Args:
        n_items: size of the catalogue.
        n_users: how many users are known.
        dim: length of the vectors.
        n_seen: items that each user has.
        seed: what is drawn depends on it alone.
    """
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((N_GENRES, dim)).astype(np.float32)
    genres = rng.integers(0, N_GENRES, n_items)
    items = _about(centres, genres, rng)
    users = _about(centres, rng.integers(0, N_GENRES, n_users), rng)
    users *= np.float32(1 / TEMPERATURE)
    seen = rng.integers(0, n_items, n_users * n_seen).astype(np.int32)
    return Recommender(
        users=Vocabulary(_names("u", n_users)),
        books=Books(_books(n_items, genres)),
        vectors=Vectors(users, items),
        seen=Bags(np.arange(n_users + 1, dtype=np.int64) * n_seen, seen, n_items),
        popularity=rng.geometric(0.01, n_items).astype(np.int64),
        provenance={"made_by": "benchmarks.serving_bundle", "seed": seed},
    )


def _about(centres: np.ndarray, genres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors about the centre of each row's genre; made in blocks, in one array."""
    vectors = rng.standard_normal((len(genres), centres.shape[1]), dtype=np.float32)
    for start in range(0, len(genres), 1 << 16):
        block = vectors[start : start + (1 << 16)]
        block += centres[genres[start : start + (1 << 16)]]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def _names(letter: str, n: int) -> pa.Array:
    digits = pc.utf8_lpad(pa.array(np.arange(n)).cast(pa.string()), 8, padding="0")
    return pc.binary_join_element_wise(letter, digits, "")


def _books(n_items: int, genres: np.ndarray) -> pa.Table:
    names = pa.array([f"Genre {number}" for number in range(N_GENRES)])
    ids = _names("b", n_items)
    return pa.table(
        {
            "item_id": ids,
            "title": pc.binary_join_element_wise("The Book of ", ids, ""),
            "author": pc.binary_join_element_wise("Author ", _names("", n_items), ""),
            "categories": names.take(pa.array(genres)),
        }
    )


def main() -> None:
    """Make a bundle from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=96)
    arguments = parser.parse_args()
    recommender = build_recommender(arguments.items, arguments.users, arguments.dim)
    recommender.save(arguments.out)


if __name__ == "__main__":
    main()
