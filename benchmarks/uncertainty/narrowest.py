"""How much narrower than one width for all can intervals be? By the errors at hand, and in a world of known scales.

`narrowest_steps` knows every error and still may set one width only for all rows of like scale. `limits` has a world:

Errors are Laplace with scales b = exp(σ z), z normal. With b known, the interval of 90 % of each row is ± b ln 10.
One width for all is ± w with E[exp(-w / b)] = 0.1. The narrowest intervals of 90 % on average cut every density at
one height: ± b ln(c / b) where b < c, none elsewhere, with E[min(b / c, 1)] = 0.1; they give up on the hard rows.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import spearmanr

LEVEL = 0.9
SIGMAS = (0.3, 0.6, 0.9, 1.2)
N_NODES, N_DRAWS, SEED = 4001, 100_000, 17


def narrowest_steps(error: NDArray[np.float64], scale: NDArray[np.float64], n_steps: int, floor: float = 0.0) -> float:
    """No mean half width below this covers `LEVEL` of the rows, if rows of one step of `scale` have one width.

    Choosing the widths is a problem of integers; Lagrange's dual bounds it from below.

    Args:
        error: (n,) absolute; the widths may be chosen with these before one's eyes.
        scale: (n,) by whose rank the rows are cut into steps of like size.
        n_steps: how many.
        floor: share of the rows that every step must cover.
    """
    step = (np.argsort(np.argsort(scale, kind="stable"), kind="stable") * n_steps) // len(error)
    sorted_errors = [np.sort(error[step == number]) for number in range(n_steps)]

    def dual(log_price: float) -> float:
        price = np.exp(log_price)  # of a row that is not covered, in units of width
        value = price * LEVEL * len(error)
        for own in sorted_errors:
            widths = np.concatenate([[0.0], own])
            covered = np.arange(len(widths))
            value += (len(own) * widths - price * covered)[covered >= floor * len(own)].min()
        return float(value / len(error))

    start = np.log(error.mean() * len(error) / n_steps)
    found = minimize_scalar(lambda log_price: -dual(log_price), bounds=(start - 15, start + 10), method="bounded")
    return dual(float(found.x))


def limits() -> list[dict[str, float]]:
    """By σ: rank correlation of b and the error, and how much narrower the two kinds of intervals are on average."""
    found = []
    miss = 1 - LEVEL
    for sigma in SIGMAS:
        z = np.linspace(-8, 8, N_NODES)
        weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
        scale = np.exp(sigma * z)
        constant = brentq(lambda w, b=scale, p=weight: float(p @ np.exp(-w / b)) - miss, 1e-3, 1e4)
        height = brentq(lambda c, b=scale, p=weight: float(p @ np.minimum(b / c, 1)) - miss, 1e-3, 1e5)
        same = float(weight @ (scale * np.log(1 / miss)))
        narrowest = float(weight @ np.where(scale < height, scale * np.log(np.maximum(height / scale, 1)), 0))
        hardest = scale >= np.exp(sigma * 1.2816)  # a tenth of the rows
        rng = np.random.default_rng(SEED)
        drawn = np.exp(sigma * rng.normal(size=N_DRAWS))
        found.append(
            {
                "sigma": sigma,
                "spearman": float(spearmanr(drawn, np.abs(rng.laplace(0, drawn))).statistic),
                "same_coverage_narrower_by": 1 - same / constant,
                "narrowest_narrower_by": 1 - narrowest / constant,
                "narrowest_covers_hardest_tenth": _mean(1 - np.minimum(scale / height, 1), weight, hardest),
                "constant_covers_hardest_tenth": _mean(1 - np.exp(-constant / scale), weight, hardest),
            }
        )
    return found


def _mean(values: np.ndarray, weight: np.ndarray, rows: np.ndarray) -> float:
    return float(weight[rows] @ values[rows] / weight[rows].sum())


if __name__ == "__main__":
    for row in limits():
        print({name: round(value, 3) for name, value in row.items()})
