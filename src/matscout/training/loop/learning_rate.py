"""Learning rates as pure functions of the step: no state to save or to lose."""

import math
from collections.abc import Callable
from typing import Final

START_DIVISOR = 25.0  # peak over first learning rate
END_DIVISOR = 1e4  # peak over last learning rate


def one_cycle(step: int, *, total: int, peak: float, warmup: float) -> float:
    """Learning rate of `step` in [0, total): a cosine rise to `peak`, then a cosine fall to almost zero.

    Smith & Topin, "Super-convergence" (2019), in the two-phase form of fastai.

    Args:
        step: index of the optimisation step, from 0.
        total: number of steps of the whole training.
        peak: largest learning rate.
        warmup: share of the steps before the peak.

    Returns:
        The learning rate, positive.
    """
    rise = warmup * total
    if step < rise:
        return _cosine(peak / START_DIVISOR, peak, step / rise)
    return _cosine(peak, peak / END_DIVISOR, (step - rise) / max(total - 1 - rise, 1))


def cosine(step: int, *, total: int, peak: float, warmup: float) -> float:
    """Learning rate of `step` in [0, total): a straight rise to `peak`, then half a cosine down to zero at `total`.

    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), eq. 5, with one period.

    Args:
        step: index of the optimisation step, from 0.
        total: number of steps of the whole training.
        peak: largest learning rate.
        warmup: share of the steps before the peak.

    Returns:
        The learning rate, positive.
    """
    rise = warmup * total
    if step < rise:
        return peak * (step + 1) / (math.ceil(rise) + 1)
    return _cosine(peak, 0.0, (step - rise) / max(total - rise, 1))


SCHEDULES: Final[dict[str, Callable[..., float]]] = {"one_cycle": one_cycle, "cosine": cosine}


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
