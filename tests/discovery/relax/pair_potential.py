"""A fast potential for tests, named by its file as a user names one: pairs of atoms with a length of their own."""

from ase.calculators.lj import LennardJones

from matscout.potentials.calculators import CalculatorPotential
from matscout.potentials.potential import Facts

FACTS = Facts("pairs", "1", "", "PBE", "none", "MIT", "nobody")
KNOWN = frozenset(("Na", "Cl", "Cs", "K", "Br", "I", "Li", "F", "Rb"))


def load_potential() -> CalculatorPotential:
    calculator = LennardJones(sigma=2.5, epsilon=0.05, rc=7.5, smooth=True)
    return CalculatorPotential(calculator, FACTS, KNOWN)
