"""One structure to one graph, by the same path as a whole store."""

from pymatgen.core import Structure

from matscout.crystal import Crystal
from matscout.errors import InputError
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.graphs.store.graph_store import GraphStore
from matscout.params import Graphs


def create_crystal_graph(
    structure: Structure | Crystal,
    *,
    n_neighbors: int = 12,
    cutoff: float = 8.0,
    asymmetric_unit: bool = True,
    symprec: float = 1e-3,
) -> CrystalGraph:
    """Neighbour graph of one crystal; the structure is not changed.

    Args:
        structure: an ordered periodic structure.
        n_neighbors: nearest neighbours per atom; ties at the last shell are kept.
        cutoff: Å; shells that begin beyond it are dropped, but never an atom's nearest.
        asymmetric_unit: symmetry-inequivalent atoms only, with multiplicities.
        symprec: Å, symmetry tolerance.

    Raises:
        InputError: partial occupation, overlapping atoms, no volume, or an unknown element.
    """
    crystal = structure if isinstance(structure, Crystal) else _crystal_of(structure)
    settings = Graphs(n_neighbors=n_neighbors, asymmetric_unit=asymmetric_unit, symprec=symprec)
    store = GraphStore.from_crystals([crystal.reduced_formula], [crystal], settings)
    return store.batch([0], n_neighbors=n_neighbors, cutoff=cutoff)


def _crystal_of(structure: Structure) -> Crystal:
    try:
        return Crystal.from_structure(structure)
    except ValueError as error:
        raise InputError(str(error)) from error
