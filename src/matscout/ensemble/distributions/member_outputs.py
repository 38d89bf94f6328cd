"""What the members say of one target, with how far the crystals lie from the training set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from matscout.models.families.distributions import Distribution

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TargetOutputs:
    """Outputs for n crystals.

    Attributes:
        members: distributions by member, each of n crystals.
        distance: (n,) from the training set, about 1 within it (see `distance.TrainingReference`).
    """

    members: Mapping[str, Distribution]
    distance: Array

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """Of some of the crystals."""
        return type(self)({name: member.take(rows) for name, member in self.members.items()}, self.distance[rows])

    def only(self, name: str) -> Self:
        """Of one member alone."""
        return type(self)({name: self.members[name]}, self.distance)
