"""SevenNet: equivariant potentials trained on MPtrj; the package `sevenn` ships the weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import SYMBOLS, Crystal
from matscout.engine.process_setup import subnormals_flushed
from matscout.errors import InputError
from matscout.potentials.potential import EnergiesAndForces, Facts, check_weights, from_voigt, gathered

BATCH: Final = 4  # cells at once; larger batches overflow a CPU's cache and are slower
GPU_ATOMS: Final = 1000  # atoms at once on a GPU, so that they fit into a small one
VOIGT: Final = [0, 1, 2, 4, 5, 3]  # sevenn's xx, yy, zz, xy, yz, xz in the usual order
CITATION: Final = "Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190"
SHIPPED: Final = {  # SHA-256 by name, of sevenn 0.13.0
    "7net-0": "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
    "7net-l3i5": "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
}


@dataclass(frozen=True)
class SevenNet:
    """A SevenNet trained on MPtrj: PBE and PBE+U energies without corrections.

    Park et al., J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190. MIT licence.

    Attributes:
        checkpoint: the checkpoint of the package sevenn.
        facts: facts about the potential.
        device: device that it runs on.
    """

    checkpoint: Any
    facts: Facts
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def load(cls, name: str, device: str = "cpu") -> "SevenNet":
        """Read the weights that the installed package ships; nothing is downloaded.

        Args:
            name: one of `SHIPPED`.
            device: cpu or cuda.

        Raises:
            InputError: the package is not installed, or ships other weights.
        """
        try:
            import sevenn  # pyright: ignore[reportMissingImports]
            from sevenn.util import (  # pyright: ignore[reportMissingImports]
                load_checkpoint,
                pretrained_name_to_path,
            )
        except ImportError as error:
            raise InputError(f"{name} needs the package sevenn: pip install sevenn==0.13.0") from error
        path = Path(pretrained_name_to_path(name))
        sha256 = check_weights(path, SHIPPED[name])
        facts = Facts(
            name=path.parent.name,
            version=sevenn.__version__,
            weights_sha256=sha256,
            functional="PBE",
            corrections=columns.UNCORRECTED,
            licence="MIT",
            citation=CITATION,
            training_data="MPtrj (Materials Project)",
        )
        return cls(load_checkpoint(str(path)), facts, torch.device(device))

    @property
    def elements(self) -> frozenset[str]:
        """Symbols of the elements that it supports."""
        return frozenset(SYMBOLS[int(z)] for z in self.checkpoint.config["_type_map"])

    @cached_property
    def _with_forces(self) -> Any:
        model = self.checkpoint.build_model()
        model.set_is_batch_data(True)
        model.eval()
        model.requires_grad_(requires_grad=False)  # of the weights; forces are gradients by distances
        return model.to(self.device)

    @cached_property
    def _energies_alone(self) -> Any:
        model = self.checkpoint.build_model()
        model.delete_module_by_key("force_output")  # energies alone need no gradient, which halves the time
        model.key_grad = None
        model.set_is_batch_data(True)
        model.eval()
        model.requires_grad_(requires_grad=False)
        return model.to(self.device)

    def energies(self, crystals: Sequence[Crystal]) -> NDArray[np.float64]:
        """(n,) eV per cell; see `Potential`."""
        import sevenn._keys as keys  # pyright: ignore[reportMissingImports]

        found = np.full(len(crystals), np.nan)
        for rows in self._batches(crystals):
            with torch.no_grad():
                said = self._energies_alone(self._graphs([crystals[row] for row in rows]))
            found[rows] = said[keys.PRED_TOTAL_ENERGY].double().cpu().numpy().reshape(-1)
        return found

    def energies_and_forces(self, crystals: Sequence[Crystal]) -> EnergiesAndForces:
        """See `Potential`."""
        import sevenn._keys as keys  # pyright: ignore[reportMissingImports]

        found = {}
        for rows in self._batches(crystals):
            graphs = self._graphs([crystals[row] for row in rows])
            with subnormals_flushed():
                said = self._with_forces(graphs)
            energies = said[keys.PRED_TOTAL_ENERGY].detach().double().cpu().numpy().reshape(-1)
            stresses = -said[keys.PRED_STRESS].detach().double().cpu().numpy().reshape(-1, 6)[:, VOIGT]
            forces = said[keys.PRED_FORCE].detach().double().cpu().numpy()
            ends = np.cumsum([crystals[row].n_atoms for row in rows])
            parts = np.split(forces, ends[:-1])
            for row, energy, force, stress in zip(rows, energies, parts, stresses, strict=True):
                found[row] = float(energy), force, from_voigt(stress)
        return gathered(crystals, found)

    def _batches(self, crystals: Sequence[Crystal]) -> Iterator[list[int]]:
        """Indices of the supported crystals, in batches of similar size."""
        usable = [row for row, crystal in enumerate(crystals) if self.elements >= set(crystal.species)]
        usable.sort(key=lambda row: crystals[row].n_atoms)
        size = BATCH
        if self.device.type != "cpu" and usable:
            size = max(1, GPU_ATOMS // crystals[usable[-1]].n_atoms)
        yield from (usable[start : start + size] for start in range(0, len(usable), size))

    def _graphs(self, crystals: Sequence[Crystal]) -> Any:
        from ase import Atoms
        from sevenn.atom_graph_data import AtomGraphData  # pyright: ignore[reportMissingImports]
        from sevenn.train.dataload import unlabeled_atoms_to_graph  # pyright: ignore[reportMissingImports]
        from torch_geometric.data import Batch

        cutoff = float(self.checkpoint.config["cutoff"])
        cells = [Atoms(list(c.species), scaled_positions=c.frac_coords, cell=c.lattice, pbc=True) for c in crystals]
        graphs: list[Any] = [AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(cell, cutoff)) for cell in cells]
        batch: Any = Batch.from_data_list(graphs)
        return batch.to(self.device)
