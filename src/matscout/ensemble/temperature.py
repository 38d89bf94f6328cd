"""One temperature per target: how much wider than predicted the errors are."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from matscout.ensemble.mixture import Mixture

Array = NDArray[np.float64]

LOG_RANGE = (-3.0, 3.0)  # e^-3 = 0.05 to e^3 = 20


def fit_temperature(mixture: Mixture, truth: Array) -> float:
    """The temperature of least negative log-likelihood on rows that trained no member.

    Args:
        mixture: predictions for n rows.
        truth: (n,) their labels.
    """

    def negative_log_likelihood(log_temperature: float) -> float:
        return -float(mixture.tempered(np.exp(log_temperature)).log_density(truth).mean())

    solution = minimize_scalar(negative_log_likelihood, bounds=LOG_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(solution.x))
