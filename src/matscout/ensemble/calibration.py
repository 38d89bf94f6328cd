"""From members to one calibrated prediction per target: combination, temperature, conformal interval.

The validation fold fits all of it. The rows that give the conformal scores must not have tuned what they
score, so scores are cross-fitted: each part of the validation fold is scored by a tuning on the others
(cross-conformal prediction, Vovk 2015), and every row counts. The final tuning uses all of them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.combine import Combination, Method, choose_combination
from matscout.ensemble.conformal import ConformalQuantiles, fit_conformal
from matscout.ensemble.mixture import Mixture
from matscout.ensemble.outputs import TargetOutputs
from matscout.ensemble.temperature import Temperature, fit_temperature

Array = NDArray[np.float64]
Labels = NDArray[np.str_]

METAL, NON_METAL = "metal", "non_metal"
STRATA = (METAL, NON_METAL)
N_PARTS = 5
SOFTENING = 0.25  # in mean spreads; not fitted: parts that chose differently would have scores in different units


@dataclass(frozen=True)
class LabelledRows:
    """Validation rows that have one target's label.

    Attributes:
        truth: (n,) labels in the target's unit.
        strata: (n,) what the ensemble takes them for: `metal` or `non_metal`; `all` without a gap target.
        possible_strata: what predictions can fall into, present here or not.
        sources: (n,) database.
        groups: (n,) duplicate group: a whole group is scored by one tuning.
    """

    truth: Array
    strata: Labels
    possible_strata: tuple[str, ...]
    sources: Labels
    groups: Labels


@dataclass(frozen=True)
class Tuning:
    """What is fitted before the conformal step.

    Attributes:
        combination: members, weights, method.
        temperature: of the mixture.
        softening: added to the standard deviation in the conformal score, in the target's unit; it keeps
            a member that is too certain from making its score the largest (Papadopoulos et al. 2008).
    """

    combination: Combination
    temperature: Temperature
    softening: float

    def mixture(self, outputs: TargetOutputs) -> Mixture:
        """The calibrated predictive distribution."""
        return self.combination.mixture(outputs.members).tempered(self.temperature.at(outputs.distance))

    def point_estimate(self, outputs: TargetOutputs) -> Array:
        """(n,) point estimate, untouched by the temperature."""
        return self.combination.point_estimate(
            {name: outputs.members[name].median() for name in self.combination.weights}
        )


@dataclass(frozen=True)
class TargetCalibration:
    """Everything that turns members' distributions of one target into its columns."""

    tuning: Tuning
    conformal: ConformalQuantiles
    lower_bound: float | None

    def scale(self, mixture: Mixture) -> Array:
        """(n,) unit of the conformal score."""
        return mixture.std() + self.tuning.softening

    def half_width(self, scale: Array, strata: Labels, level: float, sources: Labels | None = None) -> Array:
        """(n,) half of the interval's width, before any cut."""
        return self.conformal.lookup(strata, level, sources) * scale

    def interval(
        self, estimate: Array, scale: Array, strata: Labels, level: float, sources: Labels | None = None
    ) -> tuple[Array, Array]:
        """(n,) low and high; a property that cannot be negative is cut at zero, which loses no coverage."""
        half_width = self.half_width(scale, strata, level, sources)
        low, high = estimate - half_width, estimate + half_width
        return (low if self.lower_bound is None else np.maximum(low, self.lower_bound)), high

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; `from_json` reads it back."""
        return {
            "combination": self.tuning.combination.to_json(),
            "temperature": asdict(self.tuning.temperature),
            "softening": self.tuning.softening,
            "conformal": self.conformal.to_json(),
            "lower_bound": self.lower_bound,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From `to_json`."""
        combination = Combination.from_json(content["combination"])
        tuning = Tuning(combination, Temperature(**content["temperature"]), content["softening"])
        return cls(tuning, ConformalQuantiles.from_json(content["conformal"]), content["lower_bound"])


def tune(outputs: TargetOutputs, truth: Array, *, method: Method, drop_factor: float | None) -> Tuning:
    """Fit combination and temperature on labelled rows that trained no member."""
    estimates = {name: distribution.median() for name, distribution in outputs.members.items()}
    combination = choose_combination(estimates, truth, method=method, drop_factor=drop_factor)
    mixture = combination.mixture(outputs.members)
    temperature = fit_temperature(mixture, outputs.distance, truth)
    spread = mixture.tempered(temperature.at(outputs.distance)).std()
    return Tuning(combination, temperature, SOFTENING * float(spread.mean()))


def fit_target(
    outputs: TargetOutputs,
    rows: LabelledRows,
    *,
    method: Method,
    drop_factor: float | None,
    lower_bound: float | None,
) -> TargetCalibration:
    """Tune on all rows; conformal quantiles from cross-fitted scores.

    Args:
        outputs: of the members for the n validation rows.
        rows: their labels and groups.
        method: of combining.
        drop_factor: see `Combination`.
        lower_bound: least value of the property; null = none.

    Raises:
        InputError: there is no row.
    """
    scores = np.empty(len(rows.truth))
    parts = parts_of(rows.groups)
    for part in np.unique(parts):
        scored = parts == part
        # validation sets of a handful of rows can fall into one part, which then has to tune itself
        fitted = ~scored if not scored.all() else scored
        tuning = tune(outputs.take(fitted), rows.truth[fitted], method=method, drop_factor=drop_factor)
        scores[scored] = _scores(tuning, outputs.take(scored), rows.truth[scored])
    conformal = fit_conformal(scores, rows.strata, rows.sources, expected=rows.possible_strata)
    return TargetCalibration(tune(outputs, rows.truth, method=method, drop_factor=drop_factor), conformal, lower_bound)


def strata_of(metal_probability: Array) -> Labels:
    """(n,) `metal` where a gap of zero is at least as likely as not."""
    return np.where(metal_probability >= 0.5, METAL, NON_METAL)


def parts_of(groups: Sequence[str] | Labels, n_parts: int = N_PARTS) -> NDArray[np.int64]:
    """(n,) part of each row, by the hash of its group: stable when other rows come or go."""
    digests = [hashlib.sha256(group.encode()).digest() for group in groups]
    return np.array([int.from_bytes(digest[:8], "big") % n_parts for digest in digests], dtype=np.int64)


def _scores(tuning: Tuning, outputs: TargetOutputs, truth: Array) -> Array:
    spread = tuning.mixture(outputs).std() + tuning.softening
    return np.abs(truth - tuning.point_estimate(outputs)) / spread
