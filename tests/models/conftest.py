"""Crystals, graphs and untrained models that the tests of this room share."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matscout import params
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.graphs.graph_store import create_crystal_graph
from matscout.models.architectures import build_encoder
from matscout.models.model import CrystalModel, PropertyHead, build_model

ROOT = Path(__file__).parents[2]
TARGETS = {"formation_energy_per_atom": "laplace", "band_gap": "hurdle"}


@pytest.fixture(scope="session")
def repository_params() -> params.Params:
    return params.load_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def member_of(repository_params) -> Callable[[str], params.Member]:
    """The member of params.yaml with a given architecture: a new architecture needs a block there."""

    def find(architecture: str) -> params.Member:
        return next(m for m in repository_params.members.values() if m.architecture == architecture)

    return find


@pytest.fixture(scope="session")
def model_of(member_of, repository_params) -> Callable[[str], CrystalModel]:
    """A new untrained model, the same on every call; in double precision, so that invariances are sharp."""

    def build(architecture: str) -> CrystalModel:
        torch.manual_seed(7)
        return build_model(member_of(architecture), repository_params.targets).double().eval()

    return build


@pytest.fixture
def tiny_model() -> CrystalModel:
    torch.manual_seed(3)
    encoder = build_encoder("cgcnn", cutoff=5.0, hidden_dim=8, n_layers=1, n_radial=6)
    return CrystalModel(encoder, PropertyHead(8, TARGETS)).eval()


def to_double(graph: CrystalGraph) -> CrystalGraph:
    values = [getattr(graph, field.name) for field in fields(graph)]
    return CrystalGraph(*[v.double() if torch.is_tensor(v) and v.is_floating_point() else v for v in values])


@pytest.fixture(scope="session")
def graph_of(member_of) -> Callable[..., CrystalGraph]:
    """The graph of a structure as a member of an architecture sees it, in double precision."""

    def build(architecture: str, structure: Structure, *, asymmetric_unit: bool = False) -> CrystalGraph:
        settings = member_of(architecture).graph.model_dump()
        return to_double(create_crystal_graph(structure, **settings, asymmetric_unit=asymmetric_unit))

    return build


@pytest.fixture(scope="session")
def collate() -> Callable[[list[CrystalGraph]], CrystalGraph]:
    """Graphs to one graph, as the definition says: indices shifted, everything else appended."""

    def join(graphs: list[CrystalGraph]) -> CrystalGraph:
        first_atom = np.cumsum([0] + [g.n_atoms for g in graphs])
        return CrystalGraph(
            atomic_numbers=torch.cat([g.atomic_numbers for g in graphs]),
            multiplicity=torch.cat([g.multiplicity for g in graphs]),
            crystal_of_atom=torch.cat([g.crystal_of_atom + i for i, g in enumerate(graphs)]),
            centers=torch.cat([g.centers + int(n) for g, n in zip(graphs, first_atom, strict=False)]),
            neighbors=torch.cat([g.neighbors + int(n) for g, n in zip(graphs, first_atom, strict=False)]),
            edge_vectors=torch.cat([g.edge_vectors for g in graphs]),
            n_crystals=len(graphs),
        )

    return join


@pytest.fixture(scope="session")
def structures() -> dict[str, Structure]:
    """High symmetry with ties, low symmetry, one atom, and a distorted perovskite."""
    rng = np.random.default_rng(11)
    strontium_titanate = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    )
    shifts = rng.normal(0, 0.03, (len(strontium_titanate), 3))
    distorted = Structure(
        strontium_titanate.lattice, strontium_titanate.species, strontium_titanate.frac_coords + shifts
    )
    return {
        "caesium": Structure(Lattice.cubic(6.14), ["Cs"], [[0, 0, 0]]),
        "rock_salt": Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        ),
        "rutile": Structure.from_spacegroup(
            "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
        ),
        "perovskite": strontium_titanate,
        "distorted": distorted,
        "triclinic": Structure(
            Lattice.from_parameters(5.1, 6.3, 7.4, 81, 97, 105),
            ["Li", "Fe", "P", "O", "O", "Na"],
            [[0.1, 0.1, 0.2], [0.6, 0.5, 0.1], [0.3, 0.7, 0.6], [0.8, 0.9, 0.8], [0.2, 0.4, 0.9], [0.9, 0.2, 0.5]],
        ),
    }
