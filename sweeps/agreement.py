"""Whether a cheap look at configurations orders them as the full one does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy

from sweeps.findings import RankAgreement

FEWEST = 3
CLOSE, LOOSE = 0.7, 0.4


def rank_agreement(
    low: Mapping[int, float],
    high: Mapping[int, float],
    *,
    low_fidelity: str,
    high_fidelity: str,
) -> RankAgreement:
    """How alike two fidelities order the configurations that were judged by both.

    The configurations that go on to the full look are usually the best of the cheap one; among
    those the order agrees less than among all, so that the agreement is an understatement.

    Args:
        low: {configuration: value} at the cheap fidelity.
        high: the same at the full one.
        low_fidelity: its name, such as "20% of the users".
        high_fidelity: its name, such as "all users".

    Returns:
        Kendall's tau-b and Spearman's rho, ties at their middle rank; None for fewer than three
        configurations with both values, or where one side gives them all the same.
    """
    pairs = [(low[key], high[key]) for key in sorted(low.keys() & high.keys())]
    tau = rho = None
    if len(pairs) >= FEWEST:
        values = np.array(pairs, dtype=np.float64)
        if np.ptp(values, axis=0).all():
            tau = float(scipy.stats.kendalltau(values[:, 0], values[:, 1]).statistic)
            rho = float(scipy.stats.spearmanr(values[:, 0], values[:, 1]).statistic)
    verdict = _verdict(tau, len(pairs), f"{low_fidelity} and {high_fidelity}")
    return RankAgreement(low_fidelity, high_fidelity, len(pairs), tau, rho, verdict)


def _verdict(tau: float | None, n: int, names: str) -> str:
    if n < FEWEST:
        return f"{n} configurations were judged by both {names}: too few to compare their order"
    if tau is None:
        return f"{names} cannot be compared: one gives all {n} configurations the same value"
    how = (
        "order configurations much alike"
        if tau >= CLOSE
        else "agree in part on the order of configurations"
        if tau >= LOOSE
        else "do not agree on the order of configurations"
    )
    return f"{names} {how}: Kendall's tau {tau:.2f} over {n} configurations"
