"""Universal potentials that label crystals; their weights come with their packages (extra `potentials`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.errors import InputError
from matscout.files import sha256_of

SEVENNET_0: Final = "7net-0"
BATCH: Final = 4  # cells at once; larger batches overflow a CPU's cache and are slower


class Potential(Protocol):
    """A potential: total energies of crystals.

    Attributes:
        name: such as `SevenNet_0__11Jul2024`.
        version: of the package that holds the weights.
        weights_sha256: of the file of weights.
        functional: of the calculations that trained it.
        corrections: scheme of the corrections that its energies contain.
        licence: of the weights.
        citation: of the potential.
    """

    name: str
    version: str
    weights_sha256: str
    functional: str
    corrections: str
    licence: str
    citation: str

    def energies(self, crystals: Sequence[Crystal]) -> NDArray[np.float64]:
        """(n,) eV per cell, NaN for a cell with an element that the potential does not know."""
        ...


@dataclass(frozen=True)
class SevenNet:
    """SevenNet-0: an equivariant potential trained on MPtrj, PBE and PBE+U without corrections.

    Park et al., J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190. MIT licence.
    """

    model: Any
    cutoff: float
    known: frozenset[int]
    name: str
    version: str
    weights_sha256: str
    functional: str = "PBE"
    corrections: str = columns.UNCORRECTED
    licence: str = "MIT"
    citation: str = "Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190"

    @classmethod
    def load(cls, name: str = SEVENNET_0) -> "SevenNet":
        """Read the weights that the installed package ships; nothing is downloaded.

        Args:
            name: of the weights, as the package knows them.

        Returns:
            The potential on the CPU, for energies alone.

        Raises:
            InputError: the package is not installed.
        """
        try:
            import sevenn  # pyright: ignore[reportMissingImports]
            from sevenn.util import (  # pyright: ignore[reportMissingImports]
                load_checkpoint,
                pretrained_name_to_path,
            )
        except ImportError as error:
            raise InputError(f'{name} needs the extra `potentials`: pip install -e ".[potentials]"') from error
        path = Path(pretrained_name_to_path(name))
        checkpoint = load_checkpoint(str(path))
        model = checkpoint.build_model()
        model.delete_module_by_key("force_output")  # energies alone need no gradient: half the time
        model.key_grad = None
        model.set_is_batch_data(True)
        model.eval()
        model.requires_grad_(requires_grad=False)
        known = frozenset(int(z) for z in checkpoint.config["_type_map"])
        return cls(
            model, float(checkpoint.config["cutoff"]), known, path.parent.name, sevenn.__version__, sha256_of(path)
        )

    def energies(self, crystals: Sequence[Crystal]) -> NDArray[np.float64]:
        """(n,) eV per cell; see `Potential`."""
        found = np.full(len(crystals), np.nan)
        usable = [row for row, crystal in enumerate(crystals) if self.known >= {int(z) for z in crystal.atomic_numbers}]
        usable.sort(key=lambda row: crystals[row].n_atoms)
        for start in range(0, len(usable), BATCH):
            rows = usable[start : start + BATCH]
            found[rows] = self._batch([crystals[row] for row in rows])
        return found

    def _batch(self, crystals: Sequence[Crystal]) -> NDArray[np.float64]:
        import sevenn._keys as keys  # pyright: ignore[reportMissingImports]
        from ase import Atoms
        from sevenn.atom_graph_data import AtomGraphData  # pyright: ignore[reportMissingImports]
        from sevenn.train.dataload import unlabeled_atoms_to_graph  # pyright: ignore[reportMissingImports]
        from torch_geometric.data import Batch

        cells = [Atoms(list(c.species), scaled_positions=c.frac_coords, cell=c.lattice, pbc=True) for c in crystals]
        graphs = [AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(cell, self.cutoff)) for cell in cells]
        with torch.no_grad():
            said = self.model(Batch.from_data_list(graphs))
        return said[keys.PRED_TOTAL_ENERGY].double().numpy().reshape(-1)


@dataclass(frozen=True)
class CHGNet:
    """CHGNet 0.3: a charge-informed potential trained on corrected energies of MPtrj; energies only.

    Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3. BSD licence.
    """

    model: Any
    name: str
    version: str
    weights_sha256: str
    functional: str = "PBE"
    corrections: str = columns.MP2020
    licence: str = "BSD-3-Clause"
    citation: str = "B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3"

    @classmethod
    def load(cls) -> "CHGNet":
        """Read the weights that the installed package ships; nothing is downloaded.

        Returns:
            The potential on the CPU.

        Raises:
            InputError: the package is not installed.
        """
        try:
            import chgnet  # pyright: ignore[reportMissingImports]
            from chgnet.model import CHGNet as Model  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError('chgnet needs the extra `potentials`: pip install -e ".[potentials]"') from error
        model = Model.load(use_device="cpu", verbose=False)
        model.eval()
        model.requires_grad_(requires_grad=False)
        weights = next((Path(chgnet.__path__[0]) / "pretrained" / "0.3.0").glob("*.tar"))
        return cls(model, "CHGNet-0.3.0", chgnet.__version__, sha256_of(weights))

    def energies(self, crystals: Sequence[Crystal]) -> NDArray[np.float64]:
        """(n,) eV per cell, NaN for a cell with an isolated atom; see `Potential`."""
        found = np.full(len(crystals), np.nan)
        for row, crystal in enumerate(crystals):
            try:
                graph = self.model.graph_converter(crystal.to_structure())
            except ValueError:  # an atom without neighbours
                continue
            with torch.no_grad():
                found[row] = float(self.model.predict_graph(graph, task="e")["e"]) * crystal.n_atoms
        return found


POTENTIALS: Final[dict[str, Any]] = {"sevennet-0": SevenNet, "chgnet": CHGNet}
