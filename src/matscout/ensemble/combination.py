"""Choose, on the validation fold, which members count and how their point estimates are combined."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.metrics import mean_absolute_error
from matscout.ensemble.mixture import Mixture
from matscout.models.families.distribution import Distribution

Array = NDArray[np.float64]
Method = Literal["median", "mean", "stack"]

METHODS: tuple[Method, ...] = ("median", "mean", "stack")


@dataclass(frozen=True)
class Combination:
    """The combination of the members for one target.

    Attributes:
        method: `median` or `mean` of the members' point estimates, or `stack`: their weighted sum.
        weights: weights of the point estimates by member that is kept, in order, sum 1.
        validation_mae: validation MAE by member, including dropped ones, in the target's unit.
        drop_factor: a member is dropped above this times the median member's validation MAE.
    """

    method: Method
    weights: dict[str, float]
    validation_mae: dict[str, float]
    drop_factor: float | None

    @property
    def dropped(self) -> tuple[str, ...]:
        """Members left out because they would increase the error."""
        return tuple(name for name in self.validation_mae if name not in self.weights)

    def mixture(self, members: Mapping[str, Distribution]) -> Mixture:
        """The kept members' distributions as one, with equal weights.

        Weights that minimise the error of the point estimate leave few members, whose disagreement says less about
        the error than that of all.
        """
        return Mixture.of([members[name] for name in self.weights])

    def point_estimate(self, estimates: Mapping[str, Array]) -> Array:
        """(n,) from the members' (n,) point estimates."""
        kept = np.stack([estimates[name] for name in self.weights])
        if self.method == "median":
            return np.median(kept, axis=0)
        return np.array(list(self.weights.values())) @ kept

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; `from_json` reads it back."""
        return {**asdict(self), "dropped": list(self.dropped), "order": list(self.weights)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From `to_json`; JSON files are sorted by key, so the members' order is kept apart."""
        weights = {name: content["weights"][name] for name in content["order"]}
        return cls(content["method"], weights, dict(content["validation_mae"]), content["drop_factor"])


def choose_combination(
    estimates: Mapping[str, Array], truth: Array, *, method: Method, drop_factor: float | None
) -> Combination:
    """Drop members that increase the error and weight the rest.

    Args:
        estimates: (n,) point estimates by member on validation rows, in the target's unit.
        truth: (n,) labels of the same rows.
        method: see `Combination`.
        drop_factor: see `Combination`; None keeps all members.

    Returns:
        The members that are kept, with their weights.
    """
    errors = {name: mean_absolute_error(truth, estimate) for name, estimate in estimates.items()}
    limit = np.inf if drop_factor is None else drop_factor * float(np.median(list(errors.values())))
    kept = [name for name, error in errors.items() if error <= limit]
    weights = np.full(len(kept), 1 / len(kept))
    if method == "stack":
        weights = stacking_weights(np.stack([estimates[name] for name in kept], axis=1), truth)
    return Combination(method, dict(zip(kept, weights.tolist(), strict=True)), errors, drop_factor)


def stacking_weights(estimates: Array, truth: Array) -> Array:
    """Weights >= 0 of sum 1 that minimise the mean absolute error, by linear programming.

    min sum_i t_i  with  -t_i <= y_i - sum_k w_k p_ik <= t_i

    Args:
        estimates: (n, n_members).
        truth: (n,).

    Returns:
        (n_members,).
    """
    from scipy.optimize import linprog  # only fitting needs it: prediction starts without
    from scipy.sparse import eye, hstack, vstack

    n_rows, n_members = estimates.shape
    cost = np.concatenate([np.zeros(n_members), np.full(n_rows, 1 / n_rows)])
    slack = eye(n_rows)
    bounds = vstack([hstack([estimates, -slack]), hstack([-estimates, -slack])], format="csr")
    solution = linprog(
        cost,
        A_ub=bounds,
        b_ub=np.concatenate([truth, -truth]),
        A_eq=np.concatenate([np.ones(n_members), np.zeros(n_rows)])[None],
        b_eq=[1.0],
        method="highs",
    )
    weights = np.maximum(solution.x[:n_members], 0)
    return weights / weights.sum()
