"""Where work runs: two environment variables, and options of commands that override them.

`MATSCOUT_ENGINE` is `local` (the default) or `ray`; `MATSCOUT_WORKERS` is how many worker processes run at once.
Neither changes a result, so neither is a parameter and neither makes a stage run again.
"""

import os
from dataclasses import dataclass
from typing import Self

from matscout.errors import ParameterError

WORKERS_VARIABLE = "MATSCOUT_WORKERS"
ENGINE_VARIABLE = "MATSCOUT_ENGINE"
LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)
INSIDE_A_WORKER = {ENGINE_VARIABLE: LOCAL, WORKERS_VARIABLE: "1"}  # a worker does not start workers itself


@dataclass(frozen=True)
class Switch:
    """Where work runs.

    Attributes:
        engine: one of `ENGINES`.
        workers: processes at once; None = not set.
    """

    engine: str
    workers: int | None

    @classmethod
    def read(cls, engine: str | None = None, workers: int | None = None) -> Self:
        """Read the environment; what is given here overrides it.

        Args:
            engine: one of `ENGINES`; None = `MATSCOUT_ENGINE`, or `local` where that is unset.
            workers: processes at once; None = `MATSCOUT_WORKERS`.

        Returns:
            Where work runs.

        Raises:
            ParameterError: the engine is unknown, or `MATSCOUT_WORKERS` is not a whole number of at least 1.
        """
        name = os.environ.get(ENGINE_VARIABLE, LOCAL) if engine is None else engine
        if name not in ENGINES:
            told = f"{ENGINE_VARIABLE}={name!r}" if engine is None else f"engine {name!r}"
            raise ParameterError(f"{told} is unknown; choose from {', '.join(ENGINES)}, or unset it")
        return cls(name, _workers_told() if workers is None else workers)


def n_workers() -> int:
    """Worker processes to use: as set, else the number of cores that this process may run on."""
    return Switch.read().workers or n_cores()


def n_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_cards() -> list[str]:
    """The graphics cards this process may use, by the names that `CUDA_VISIBLE_DEVICES` takes."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [card for card in told.split(",") if card]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _workers_told() -> int | None:
    value = os.environ.get(WORKERS_VARIABLE)
    if value is None:
        return None
    if not value.isdigit() or int(value) < 1:
        raise ParameterError(f"{WORKERS_VARIABLE}={value!r} must be a whole number of at least 1, or unset")
    return int(value)
