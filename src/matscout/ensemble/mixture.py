"""The ensemble's predictive distribution: a weighted mixture of its members' distributions; its intervals.

One temperature per target rises with the distance d from the training set, T(d) = T d^gamma: how much wider than
predicted the errors are. Members underestimate how much larger their errors are on crystals unlike those that trained
them; the validation fold sets gamma.

Conformal scores belong to one of two families of nested intervals; a score measures how far out a label lies.

`scaled`: the estimate plus and minus q times a scale of each row, for a symmetric distribution
(Papadopoulos et al., "Normalized nonconformity measures for regression conformal prediction", 2008).

`central`: the mixture's own quantiles that enclose the probability q, for a distribution with a point mass and
one long tail (Chernozhukov, Wüthrich & Zhu, "Distributional conformal prediction", PNAS 2021): a certain metal
gets the interval [0, 0]; that of a doubtful one reaches as high as its tail and no lower than zero.

`choose_combination` finds, on the validation fold, which members count and how their point estimates are combined.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.metrics import mean_absolute_error
from matscout.models.families.distribution import Distribution

Array = NDArray[np.float64]

BISECTIONS = 60
BODY_NODES, TAIL_NODES = 96, 32  # per component of a quadrature: errors below 0.2 %


@dataclass(frozen=True)
class Mixture:
    """F(y) = sum_k w_k F_k(y) over members k, for n materials at once.

    Attributes:
        components: one distribution per member, each of n materials, all of one family.
        weights: (n_members,) float64, not negative, sum 1.
    """

    components: tuple[Distribution, ...]
    weights: Array

    @classmethod
    def of(cls, components: Sequence[Distribution], weights: Array | None = None) -> "Mixture":
        """A mixture with these weights, or with equal ones."""
        if weights is None:
            weights = np.full(len(components), 1 / len(components))
        return cls(tuple(components), np.asarray(weights, dtype=np.float64))

    @property
    def has_hurdle(self) -> bool:
        """Whether a value of exactly zero has a probability of its own."""
        return any(component.HAS_MASS_AT_ZERO for component in self.components)

    def cdf(self, value: Array) -> Array:
        """(n,) F(value)."""
        return self._average([component.cdf(value) for component in self.components])

    def cdf_below(self, value: Array) -> Array:
        """(n,) F(value-): without the jump that a hurdle has at zero."""
        return self.cdf(value) - np.where(value == 0, self.probability_zero(), 0)

    def probability_zero(self) -> Array:
        """(n,) probability of exactly zero (a metal): 0 for distributions without a hurdle."""
        return self._average([component.mass_at_zero() for component in self.components])

    def mean(self) -> Array:
        """(n,) expected value; for log-Laplace members, the average of their medians."""
        return self._average([component.center() for component in self.components])

    def aleatoric_std(self) -> Array:
        """(n,) root of the members' mean squared spread: the mean noise that the members predict."""
        return np.sqrt(self._average([component.spread() ** 2 for component in self.components]))

    def epistemic_std(self) -> Array:
        """(n,) standard deviation of the members' centers: their disagreement."""
        mean = self.mean()
        return np.sqrt(self._average([(component.center() - mean) ** 2 for component in self.components]))

    def std(self) -> Array:
        """(n,) by the law of total variance: std^2 = aleatoric^2 + epistemic^2.

        A log-Laplace may have no variance, so its spread is half the width of the central 68.27 % (see there).
        """
        return np.hypot(self.aleatoric_std(), self.epistemic_std())

    def log_density(self, value: Array) -> Array:
        """(n,) log of the density, or of the probability where the value sits on a hurdle's atom."""
        terms = np.stack([component.log_density(value) for component in self.components])
        with np.errstate(divide="ignore"):
            return np.logaddexp.reduce(terms + np.log(self.weights)[:, None], axis=0)

    def quantile(self, level: float | Array) -> Array:
        """(n,) smallest y with F(y) >= level, (n,) or one, by bisection between the members' own quantiles."""
        quantiles = np.stack([component.quantile(level) for component in self.components])
        low, high = quantiles.min(axis=0), quantiles.max(axis=0)
        lowest = low.copy()
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            is_above = self.cdf(middle) >= level
            low, high = np.where(is_above, low, middle), np.where(is_above, middle, high)
        return np.where(self.cdf(lowest) >= level, lowest, high)

    def median(self) -> Array:
        """(n,) quantile 0.5 of the mixture (not the median of the members' medians)."""
        return self.quantile(0.5)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Mixture":
        """The mixture of some of the materials."""
        return replace(self, components=tuple(component.take(rows) for component in self.components))

    def tempered(self, temperature: float | Array) -> "Mixture":
        """The mixture stretched about its centre: scales and disagreement times `temperature`, (n,) or one.

        The centre is the weighted mean of the modes, so that the standard deviation of a Laplace
        mixture scales exactly; a log-Laplace is stretched in the logarithm. A hurdle's log-odds are
        divided by the temperature (Guo et al., "On calibration of modern neural networks", 2017).
        """
        center = self._average([component.mode() for component in self.components])
        return replace(self, components=tuple(component.tempered(center, temperature) for component in self.components))

    def moved(self, by: Array) -> "Mixture":
        """The same mixture elsewhere: (n,) is added to every value."""
        return replace(self, components=tuple(component.moved(by) for component in self.components))

    def crps(self, truth: Array) -> Array:
        """(n,) continuous ranked probability score: integral of (F(y) - [y >= truth])^2 dy.

        Trapezoids over the union of the components' quantiles, where the integrand bends.
        """
        grid = self._grid(truth)  # (n_nodes, n)
        is_right = grid[:-1] >= truth
        # the node at the truth closes the left part with F and opens the right part with F - 1
        cdf = np.stack([self.cdf(nodes) for nodes in grid])
        left, right = cdf[:-1] - is_right, cdf[1:] - is_right
        return ((left**2 + right**2) / 2 * np.diff(grid, axis=0)).sum(axis=0)

    def _grid(self, truth: Array) -> Array:
        tail = np.logspace(-7, -2, TAIL_NODES)[:-1]
        levels = np.concatenate([tail, np.linspace(0.01, 0.99, BODY_NODES), 1 - tail[::-1]])
        nodes = [component.quantile(levels[:, None]) for component in self.components]
        return np.sort(np.concatenate([*nodes, truth[None]]), axis=0)

    def _average(self, values: Sequence[Array]) -> Array:
        return np.einsum("k,k...->...", self.weights, np.stack(values))


@dataclass(frozen=True)
class TargetOutputs:
    """Outputs for n crystals.

    Attributes:
        members: distributions by member, each of n crystals.
        distance: (n,) from the training set, about 1 within it (see `training_distance.TrainingReference`).
    """

    members: Mapping[str, Distribution]
    distance: Array

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """The outputs for some of the crystals."""
        return type(self)({name: member.take(rows) for name, member in self.members.items()}, self.distance[rows])

    def only(self, *names: str) -> Self:
        """The outputs of some members alone."""
        return type(self)({name: self.members[name] for name in names}, self.distance)


LOG_RANGE = (-3.0, 3.0)  # of T: 0.05 to 20
EXPONENT_RANGE = (0.0, 2.0)  # distributions are never narrower for far crystals
DISTANCE_RANGE = (0.25, 4.0)  # beyond the distances of a validation fold, T is constant


@dataclass(frozen=True)
class Temperature:
    """T and gamma."""

    value: float
    distance_exponent: float

    def at(self, distance: Array) -> Array:
        """(n,) temperatures of crystals at these distances."""
        return self.value * np.clip(distance, *DISTANCE_RANGE) ** self.distance_exponent


def fit_temperature(mixture: Mixture, distance: Array, truth: Array) -> Temperature:
    """The temperature of least negative log-likelihood on rows that no member was trained on.

    Args:
        mixture: predictive distributions of n rows.
        distance: (n,) from the training set.
        truth: (n,) labels in the target's unit.

    Returns:
        The temperature, with its dependence on the distance.
    """
    from scipy.optimize import minimize  # only fitting needs it: prediction starts without

    def negative_log_likelihood(parameters: Array) -> float:
        temperature = Temperature(float(np.exp(parameters[0])), float(parameters[1]))
        return -float(mixture.tempered(temperature.at(distance)).log_density(truth).mean())

    solution = minimize(
        negative_log_likelihood,
        x0=np.array([0.0, 0.5]),
        method="Nelder-Mead",
        bounds=[LOG_RANGE, EXPONENT_RANGE],
        options={"xatol": 1e-3, "fatol": 1e-6, "initial_simplex": np.array([[0.0, 0.5], [0.4, 0.5], [0.0, 1.0]])},
    )
    return Temperature(float(np.exp(solution.x[0])), float(solution.x[1]))


Shape = Literal["scaled", "central"]

LARGEST_PROBABILITY = (
    1 - 1e-9
)  # largest probability of a central interval, because the end of a Laplace distribution is infinite


def scaled_scores(truth: Array, estimate: Array, scale: Array) -> Array:
    """Scores of `scaled` intervals: the least q for which estimate ± q scale holds the truth.

    Args:
        truth: (n,) labels in the target's unit.
        estimate: (n,) point estimates in the target's unit.
        scale: (n,) positive.

    Returns:
        (n,).
    """
    return np.abs(truth - estimate) / scale


def scaled_interval(quantile: Array, estimate: Array, scale: Array) -> tuple[Array, Array]:
    """Intervals estimate ± quantile scale.

    Args:
        quantile: (n,) quantile of the scores.
        estimate: (n,) point estimates in the target's unit.
        scale: (n,) positive.

    Returns:
        (n,) low and (n,) high in the target's unit.
    """
    return estimate - quantile * scale, estimate + quantile * scale


def central_scores(truth: Array, mixture: Mixture) -> Array:
    """(n,) least probability of a central interval that holds the truth, in [0, 1].

    The interval of probability q goes from the quantile at (1 - q) / 2 to the one at (1 + q) / 2: it holds y
    where F(y) >= (1 - q) / 2 and F(y-) <= (1 + q) / 2.
    """
    return np.maximum(0.0, np.maximum(1 - 2 * mixture.cdf(truth), 2 * mixture.cdf_below(truth) - 1))


def central_interval(quantile: Array, estimate: Array, mixture: Mixture) -> tuple[Array, Array]:
    """Intervals between two quantiles of the mixture, widened to include the estimate.

    Widening loses no coverage. The estimate, a median over the members, can lie outside the mixture's interval.

    Args:
        quantile: (n,) probability that an interval encloses, in [0, 1].
        estimate: (n,) point estimates in the target's unit.
        mixture: predictive distributions of the n rows.

    Returns:
        (n,) low and (n,) high in the target's unit.
    """
    enclosed = np.minimum(quantile, LARGEST_PROBABILITY)
    low, high = mixture.quantile((1 - enclosed) / 2), mixture.quantile((1 + enclosed) / 2)
    return np.minimum(low, estimate), np.maximum(high, estimate)


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
