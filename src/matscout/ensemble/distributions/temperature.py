"""One temperature per target, which rises with the distance from the training set.

T(d) = T d^gamma: how much wider than predicted the errors are. Members overlook how much worse they do
on crystals unlike those that trained them; gamma is what the validation fold says about it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.distributions.mixture import Mixture

Array = NDArray[np.float64]

LOG_RANGE = (-3.0, 3.0)  # of T: 0.05 to 20
EXPONENT_RANGE = (0.0, 2.0)  # far crystals are never trusted more
DISTANCE_RANGE = (0.25, 4.0)  # beyond what a validation fold can teach, T stays where it was


@dataclass(frozen=True)
class Temperature:
    """T and gamma."""

    value: float
    distance_exponent: float

    def at(self, distance: Array) -> Array:
        """(n,) temperatures of crystals at these distances."""
        return self.value * np.clip(distance, *DISTANCE_RANGE) ** self.distance_exponent


def fit_temperature(mixture: Mixture, distance: Array, truth: Array) -> Temperature:
    """The temperature of least negative log-likelihood on rows that trained no member.

    Args:
        mixture: predictions for n rows.
        distance: (n,) from the training set.
        truth: (n,) labels.
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
