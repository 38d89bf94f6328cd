"""Relax many crystals at once with torch-sim: each evaluation of the potential serves all of a batch.

Cohen et al., AI Sci. 1, 025003 (2025), doi:10.1088/3050-287X/ae1799. The algorithm is that of `descent`: BFGS on atoms
and the logarithm of the cell's deformation, with the same limits.
"""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculatorError

from matscout.crystal import Crystal
from matscout.discovery.relax.descent import EXPLODED, SYMPREC, Descent, moved, starting_atoms
from matscout.errors import InputError
from matscout.params import Relaxation
from matscout.potentials.calculators import crystal_of
from matscout.potentials.potential import Potential

CPU: Final = "cpu"
GPU: Final = "cuda"
ATOMS: Final = {CPU: 100, GPU: 1000}  # of a batch: a core gains nothing from more, a GPU's memory holds these


def batch_device(settings: Relaxation, device: str) -> str | None:
    """The device on which batches are relaxed; None = crystals are relaxed one by one with ASE.

    Args:
        settings: the section `relaxation`, whose `batches` decides.
        device: `compute.device`: cpu, cuda or auto.

    Raises:
        InputError: batches are asked for, and torch-sim is not installed.
    """
    found = GPU if device != CPU and torch.cuda.is_available() else CPU
    if settings.batches == "never" or (settings.batches == "auto" and found == CPU):
        return None
    if find_spec("torch_sim") is not None:
        return found
    if settings.batches == "auto":
        return None
    raise InputError(
        "relaxation.batches = 'always' needs torch-sim: with Python 3.12 or newer, pip install -e '.[batches]'; "
        "or choose auto or never"
    )


def engine_of(device: str | None) -> str:
    """What relaxes, in words, for the summary."""
    return f"ASE {version('ase')}" if device is None else f"torch-sim {version('torch-sim-atomistic')} on {device}"


def in_batches(crystals: Sequence[Crystal], device: str) -> list[list[int]]:
    """Indices of crystals in batches of similar size and at most `ATOMS` atoms; a larger crystal is a batch."""
    batches: list[list[int]] = []
    room = 0
    for place in sorted(range(len(crystals)), key=lambda place: crystals[place].n_atoms):
        if not batches or crystals[place].n_atoms > room:
            batches.append([])
            room = ATOMS[device]
        batches[-1].append(place)
        room -= crystals[place].n_atoms
    return batches


def descend_together(
    names: Sequence[str], crystals: Sequence[Crystal], potential: Potential, settings: Relaxation
) -> list[Descent | None]:
    """Relax a batch of crystals.

    The optimiser works in double precision on a core, the potential where it was loaded.

    Args:
        names: names of the crystals, see `descend`.
        crystals: the unrelaxed crystals.
        potential: gives energies, forces and stresses.
        settings: limits, and whether the cell and the symmetry may change.

    Returns:
        One relaxation per crystal; None for one that does not come to rest here. `descend` relaxes it again, by itself
        and with another optimiser if need be, and says why it fails.
    """
    found: list[Descent | None] = [None] * len(crystals)
    usable = [place for place, crystal in enumerate(crystals) if set(crystal.species) <= potential.elements]
    try:
        for row, descent in _descend([names[p] for p in usable], [crystals[p] for p in usable], potential, settings):
            found[usable[row]] = descent
    except (RuntimeError, CalculatorError, np.linalg.LinAlgError):  # an odd cell, or too little memory
        pass
    return found


def _descend(
    names: Sequence[str], crystals: Sequence[Crystal], potential: Potential, settings: Relaxation
) -> Iterator[tuple[int, Descent]]:
    """The relaxations that end, each with the index of its crystal."""
    import torch_sim as ts  # pyright: ignore[reportMissingImports]
    from torch_sim.constraints import FixSymmetry  # pyright: ignore[reportMissingImports]
    from torch_sim.optimizers.bfgs import bfgs_init, bfgs_step  # pyright: ignore[reportMissingImports]

    if not crystals:
        return
    model = _model(potential)
    atoms = [_right_handed(starting_atoms(name, c, settings)) for name, c in zip(names, crystals, strict=True)]
    state: Any = ts.initialize_state(atoms, model.device, model.dtype)
    if settings.symmetry:
        # Makes cells and positions exact; symmetric forces and stresses then keep them so. torch-sim 0.6.2 would adjust
        # new positions as if the cell had not changed.
        kept = FixSymmetry.from_state(state, symprec=SYMPREC, adjust_positions=False, adjust_cell=False)
        state.constraints = [kept]
    start = _atoms_of(state)
    state = bfgs_init(state, model, cell_filter=ts.CellFilter.frechet if settings.cell else None)
    state.max_atoms = torch.full_like(
        state.max_atoms, int(state.max_atoms.max())
    )  # 0.6.2 cuts off smaller cells' strain
    before, rows = state.energy.tolist(), torch.arange(len(crystals))
    volumes = torch.tensor([crystal.volume for crystal in crystals])
    for step in range(settings.steps + 1):
        if step:
            state = bfgs_step(state, model)
        ratio = torch.linalg.det(state.cell) / volumes[rows]
        sound = torch.isfinite(state.energy) & (ratio > 1 / EXPLODED) & (ratio < EXPLODED)
        on_atoms = ts.system_wise_max_force(state)
        at_rest = sound & (on_atoms < settings.force)
        if settings.cell:
            at_rest &= state.cell_forces.norm(dim=2).amax(dim=1) < settings.force
        ended = zip(rows.tolist(), state.energy.tolist(), on_atoms.tolist(), _atoms_of(state), strict=True)
        for (row, energy, force, end), done in zip(ended, at_rest.tolist(), strict=True):
            if done:
                n, shift = len(end), moved(start[row], end)
                yield row, Descent(_as_given(end, crystals[row]), before[row] / n, energy / n, step, force, shift)
        goes_on = sound & ~at_rest
        if not goes_on.any():
            return
        if not goes_on.all():
            state, rows = state[goes_on.nonzero().flatten()], rows[goes_on]


def _model(potential: Potential) -> Any:
    """The potential as torch-sim wants it; the state stays on a core, in double precision."""
    from torch_sim.models.interface import ModelInterface  # pyright: ignore[reportMissingImports]

    class PotentialModel(ModelInterface):
        _device, _dtype = torch.device("cpu"), torch.float64
        _compute_stress = _compute_forces = True

        def forward(self, state: Any, **_: Any) -> dict[str, torch.Tensor]:
            said = potential.energies_and_forces([crystal_of(atoms) for atoms in _atoms_of(state)])
            arrays = {"energy": said.energies, "forces": np.concatenate(said.forces), "stress": said.stresses}
            return {name: torch.from_numpy(values) for name, values in arrays.items()}

    return PotentialModel()


def _atoms_of(state: Any) -> list[Atoms]:
    """ASE's atoms of each cell of a state, in its positions."""
    cells = state.row_vector_cell.numpy()
    ends = state.n_atoms_per_system.cumsum(0)[:-1].numpy()
    positions, numbers = (np.split(array.numpy(), ends) for array in (state.positions, state.atomic_numbers))
    return [Atoms(z, positions=p, cell=c, pbc=True) for z, p, c in zip(numbers, positions, cells, strict=True)]


def _right_handed(atoms: Atoms) -> Atoms:
    """The same atoms in a cell of positive determinant, which torch-sim takes for its volume."""
    if np.linalg.det(atoms.cell.array) < 0:
        atoms.set_cell(-atoms.cell.array)
    return atoms


def _as_given(atoms: Atoms, crystal: Crystal) -> Crystal:
    """The relaxed crystal, with lattice vectors that point as those of the given one."""
    if np.linalg.det(crystal.lattice) < 0:
        atoms.set_cell(-atoms.cell.array)
    return crystal_of(atoms)
