"""CHGNet: a charge-informed potential trained on corrected energies; the package `chgnet` ships the weights."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import SYMBOLS, Crystal
from matscout.engine.process_setup import subnormals_flushed
from matscout.errors import InputError
from matscout.potentials.potential import EnergiesAndForces, Facts, check_weights, gathered

GPA: Final = 1 / 160.21766208  # eV/Å³
HEAVIEST: Final = 94
CITATION: Final = "B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3"
SHIPPED: Final = {  # file, SHA-256, functional, corrections and training data by model, of chgnet 0.4.2
    "0.3.0": (
        "chgnet_0.3.0_e29f68s314m37.pth.tar",
        "d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1",
        "PBE",
        columns.MP2020,
        "MPtrj (Materials Project)",
    ),
    "r2scan": (
        "chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
        "8eba3db0f35a2788bb3ae22885ad340591e27996f213c6643af522a633b50dad",
        "r2SCAN",
        columns.UNCORRECTED,
        "MP-r2SCAN (Materials Project), after MPtrj",
    ),
}


@dataclass(frozen=True)
class CHGNet:
    """CHGNet 0.3, or its transfer to r2SCAN.

    Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3. BSD licence.

    Attributes:
        model: the model of the package chgnet.
        facts: facts about the potential.
    """

    model: Any
    facts: Facts
    elements: frozenset[str] = frozenset(SYMBOLS[1 : HEAVIEST + 1])

    @classmethod
    def load(cls, name: str = "0.3.0", device: str = "cpu") -> "CHGNet":
        """Read the weights that the installed package ships; nothing is downloaded.

        Args:
            name: one of `SHIPPED`.
            device: cpu or cuda.

        Raises:
            InputError: the package is not installed, or ships other weights.
        """
        try:
            import chgnet  # pyright: ignore[reportMissingImports]
            from chgnet.model import CHGNet as Model  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError('chgnet needs the extra `potentials`: pip install -e ".[potentials]"') from error
        file, expected, functional, corrections, training_data = SHIPPED[name]
        sha256 = check_weights(Path(chgnet.__path__[0]) / "pretrained" / name / file, expected)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its version and device
            model = Model.load(model_name=name, use_device=device, verbose=False)
        model.eval()
        model.requires_grad_(requires_grad=False)
        facts = Facts(
            name=f"CHGNet-{name}",
            version=version("chgnet"),
            weights_sha256=sha256,
            functional=functional,
            corrections=corrections,
            licence="BSD-3-Clause",
            citation=CITATION,
            training_data=training_data,
        )
        return cls(model, facts)

    def energies(self, crystals: Sequence[Crystal]) -> NDArray[np.float64]:
        """(n,) eV per cell, NaN for a cell with an isolated atom; see `Potential`."""
        found = np.full(len(crystals), np.nan)
        for row, crystal in enumerate(crystals):
            if (graph := self._graph(crystal)) is not None:
                with torch.no_grad():
                    found[row] = float(self.model.predict_graph(graph, task="e")["e"]) * crystal.n_atoms
        return found

    def energies_and_forces(self, crystals: Sequence[Crystal]) -> EnergiesAndForces:
        """See `Potential`."""
        found = {}
        for row, crystal in enumerate(crystals):
            if (graph := self._graph(crystal)) is not None:
                with subnormals_flushed():
                    said = self.model.predict_graph(graph, task="efs")
                stress = np.asarray(said["s"], dtype=np.float64) * GPA
                found[row] = float(said["e"]) * crystal.n_atoms, np.asarray(said["f"], dtype=np.float64), stress
        return gathered(crystals, found)

    def _graph(self, crystal: Crystal) -> Any:
        """The graph of a cell; None if CHGNet cannot make one."""
        if not set(crystal.species) <= self.elements:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about figures that are not used
            try:
                return self.model.graph_converter(crystal.to_structure())
            except ValueError:  # an atom without neighbours
                return None
