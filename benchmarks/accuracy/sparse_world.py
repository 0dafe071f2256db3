"""A shop where most users have six items, and what is popular changes from month to month."""

from __future__ import annotations

from pathlib import Path

import numpy as np

N_USERS, N_ITEMS, N_THEMES = 1000, 500, 25
DAY, DAYS = 86_400, 1000


def write_sparse_world(directory: Path, seed: int = 0) -> Path:
    """``users.csv`` of the shop: user_id, item_id, timestamp; gives its path.

    An item has a theme, an appeal of its own and a day of release; it draws most in the fifth of
    the time after that, so that popularity is that of the moment. A user buys 3 + Poisson(3) items
    within a quarter of the time and walks between themes: the same again with probability .7, the
    next .2, any .1. Items of other themes draw a thirtieth. Nothing else is known of anybody.
    """
    rng = np.random.default_rng(seed)
    theme = rng.integers(N_THEMES, size=N_ITEMS)
    release, base = rng.uniform(-0.3, 0.9, N_ITEMS), rng.normal(0, 0.7, N_ITEMS)
    lines = ["user_id,item_id,timestamp"]
    for user in range(N_USERS):
        first, n = rng.uniform(0, 0.75), 3 + rng.poisson(3)
        times = np.sort(first + 0.25 * rng.uniform(size=n))
        now, bought = int(rng.integers(N_THEMES)), np.zeros(N_ITEMS, dtype=bool)
        for time in times:
            now = _next_theme(now, rng)
            age = time - release
            draw = np.exp(base + np.exp(-np.maximum(age, 0) / 0.2)) * (age >= 0) * ~bought
            draw *= np.where(theme == now, 1, 1 / 30)
            item = int(rng.choice(N_ITEMS, p=draw / draw.sum()))
            bought[item] = True
            lines.append(f"u{user:04},i{item:03},{int(time * DAYS * DAY) + 10**9}")
    path = directory / "users.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _next_theme(now: int, rng: np.random.Generator) -> int:
    chance = rng.uniform()
    if chance < 0.7:
        return now
    return (now + 1) % N_THEMES if chance < 0.9 else int(rng.integers(N_THEMES))
