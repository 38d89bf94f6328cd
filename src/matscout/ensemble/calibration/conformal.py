"""Split conformal quantiles with finite-sample guarantees: per stratum, per source, or weighted.

A new row exchangeable with the n calibration rows has a score above their ceil((n + 1) level)-th
smallest with probability at most 1 - level (Vovk et al. 2005; Lei et al. 2018).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from matscout.errors import InputError

Array = NDArray[np.float64]
Labels = NDArray[np.str_]

LEVELS = (0.5, 0.8, 0.9, 0.95)
POOLED = "all"
FEWEST_ROWS = 30  # of a group of its own; 19 rows are the least that a level of 0.95 needs


def conformal_quantile(scores: Array, level: float) -> float:
    """The ceil((n + 1) level)-th smallest score; infinite where n rows cannot promise the level."""
    rank = int(np.ceil((len(scores) + 1) * level - 1e-9))  # 10 * 0.9 is 9, not 9.000000000000002
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else float("inf")


def weighted_quantile(scores: Array, weights: Array, new_weights: Array, level: float) -> Array:
    """Weighted conformal quantiles, one for each new row.

    Tibshirani et al., "Conformal prediction under covariate shift" (2019), eq. 8: the level-quantile of sum_j p_j
    delta(s_j) + p_new delta(infinity), with p proportional to the weights.

    Args:
        scores: (n,) conformal scores of the calibration rows.
        weights: (n,) likelihood ratios of the calibration rows, new population over old.
        new_weights: (m,) likelihood ratios of the new rows.
        level: wanted coverage, in (0, 1).

    Returns:
        (m,); infinite where the calibration rows cannot promise the level.
    """
    order = np.argsort(scores, kind="stable")
    cumulated = np.cumsum(weights[order])
    position = np.searchsorted(cumulated, level * (cumulated[-1] + new_weights) * (1 - 1e-12))
    return np.append(scores[order], np.inf)[position]


@dataclass(frozen=True)
class ConformalQuantiles:
    """Score quantiles by group; a group's name is `all`, a stratum, or `source/stratum`.

    Attributes:
        quantiles: quantiles by group and level.
        n_rows: calibration rows by group, including groups too small for quantiles of their own.
        notes: what was substituted and why, in words.
    """

    quantiles: dict[str, dict[float, float]]
    n_rows: dict[str, int]
    notes: tuple[str, ...]

    def group_of(self, stratum: str, source: str | None = None) -> str:
        """The most specific group that has quantiles of its own."""
        candidates = [f"{source}/{stratum}", stratum] if source is not None else [stratum]
        return next((name for name in candidates if name in self.quantiles), POOLED)

    def lookup(self, strata: Labels, level: float, sources: Labels | None = None) -> Array:
        """Quantile of each row's group, the most specific one that has quantiles.

        Args:
            strata: (n,) such as `metal`.
            level: coverage, one of the levels that were fitted.
            sources: (n,) database of each row; None = quantiles of all databases together.

        Returns:
            (n,) quantiles of the conformal scores.
        """
        pairs = np.stack([strata, strata if sources is None else sources], axis=1)
        unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
        groups = [self.group_of(str(stratum), None if sources is None else str(source)) for stratum, source in unique]
        return np.array([self.quantiles[group][level] for group in groups])[inverse.reshape(-1)]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; `from_json` reads it back."""
        quantiles = {group: {f"{level:g}": q for level, q in row.items()} for group, row in self.quantiles.items()}
        return {"quantiles": quantiles, "n_rows": self.n_rows, "notes": list(self.notes)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From `to_json`."""
        quantiles = {
            group: {float(level): q for level, q in row.items()} for group, row in content["quantiles"].items()
        }
        return cls(quantiles, dict(content["n_rows"]), tuple(content["notes"]))


def fit_conformal(
    scores: Array, strata: Labels, sources: Labels, *, expected: Sequence[str], levels: Sequence[float] = LEVELS
) -> ConformalQuantiles:
    """Quantiles of all rows, of each stratum, and of each source's strata where several sources are there.

    Args:
        scores: (n,) how far out the truth lies (see `mixture`), of rows that trained nothing.
        strata: (n,) such as `metal`.
        sources: (n,) database of each row.
        expected: strata that predictions can fall into, present here or not.
        levels: wanted coverages.

    Returns:
        Quantiles by group and level; groups of fewer than `FEWEST_ROWS` rows have none.

    Raises:
        InputError: there is no calibration row at all.
    """
    if len(scores) == 0:
        raise InputError("no validation row has this label, but intervals need some; raise split.validation")
    members = {POOLED: np.ones(len(scores), bool)} | {name: strata == name for name in sorted({*expected, *strata})}
    if len(set(sources)) > 1:
        keys = sorted(set(zip(sources.tolist(), strata.tolist(), strict=True)))
        members |= {f"{source}/{stratum}": (sources == source) & (strata == stratum) for source, stratum in keys}
    n_rows = {name: int(mask.sum()) for name, mask in members.items()}
    quantiles, notes = {}, []
    for name, mask in members.items():
        if name != POOLED and n_rows[name] < FEWEST_ROWS:
            notes.append(f"{name}: {n_rows[name]} rows, fewer than {FEWEST_ROWS}; the pooled quantile is used")
            continue
        quantiles[name] = {level: conformal_quantile(scores[mask], level) for level in levels}
        notes += _replace_infinite(quantiles[name], name, scores[mask])
    return ConformalQuantiles(quantiles, n_rows, tuple(notes))


def _replace_infinite(quantiles: dict[float, float], name: str, scores: Array) -> list[str]:
    """Use the largest score where too few rows promise a level, and add a note."""
    short = [level for level, quantile in quantiles.items() if np.isinf(quantile)]
    for level in short:
        quantiles[level] = float(scores.max())
    n_rows = len(scores)
    promise = f"the largest score is used, which covers {n_rows / (n_rows + 1):.3f}"
    return [f"{name}: {n_rows} rows cannot guarantee a level of {level:g}; {promise}" for level in short]
