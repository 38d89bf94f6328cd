"""The pair potential, in a process that is killed after some evaluations."""

import os
import signal
from itertools import count

from pair_potential import FACTS, KNOWN
from pair_potential import load_potential as load_pairs

from matscout.potentials.calculators import CalculatorPotential

LIFE = int(os.environ.get("LIFE", "12"))  # evaluations: more than one crystal needs, fewer than all of them do


class Deadly(CalculatorPotential):
    def energies_and_forces(self, crystals):
        if next(CALLS) >= LIFE:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().energies_and_forces(crystals)


CALLS = count()


def load_potential() -> Deadly:
    return Deadly(load_pairs().calculator, FACTS, KNOWN)
