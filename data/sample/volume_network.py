"""A network that has learned the volumes of a potential's minima; `build_pretrained.py --volumes` makes it.

python data/sample/volume_network.py        # how far its labels lie above the minima (extra `potentials`, seconds)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from matscout import columns
from matscout.crystal import Crystal, formula_key
from matscout.errors import StoreError
from matscout.files import sha256_of
from matscout.graphs.graph_store import GraphStore
from matscout.hypothetical.least_energies import LikelyMinima, least_energies
from matscout.hypothetical.potential_labels import ENERGY, MINIMUM, POINTS, Labels
from matscout.hypothetical.potential_scale import crystal_of
from matscout.hypothetical.training_rows import fold_of
from matscout.models.inference import distributions, embed
from matscout.models.saved_member import load_member
from matscout.params import Graphs, load_params
from matscout.potentials.load_potential import load_potential

LOG_SCALE: Final = "log_scale"  # its target: logarithm of the volume at the minimum over the given one
N_MEASURED: Final = 800  # held-out crystals
SURE: Final = 0.045  # largest standard deviation of a log_scale that needs no further volume


@dataclass(frozen=True)
class VolumeNetwork:
    """The network in a folder.

    Attributes:
        folder: of a member with the target `LOG_SCALE`.
    """

    folder: Path

    @property
    def fingerprint(self) -> str:
        """Hash of the folder."""
        return sha256_of(self.folder)

    def __call__(self, crystals: Sequence[Crystal]) -> LikelyMinima:
        """The likely minima of crystals; one without a graph keeps its volume, and is not sure.

        Raises:
            StoreError: the folder holds no such member.
        """
        member = load_member(self.folder)
        if LOG_SCALE not in member.card.targets:
            raise StoreError(
                f"{self.folder} does not predict {LOG_SCALE} but {', '.join(member.card.targets)}: "
                "name the folder that data/sample/build_pretrained.py --volumes writes"
            )
        graph = member.card.graph
        store, _ = GraphStore.from_usable(
            [str(row) for row in range(len(crystals))], crystals, Graphs(**member.card.graphs)
        )
        rows = store.ids.astype(np.int64)
        embeddings = embed(
            member.model, store, np.arange(len(rows)), n_neighbors=graph["n_neighbors"], cutoff=graph["cutoff"]
        )
        said = distributions(member.model, embeddings)[LOG_SCALE]
        log_scale, is_sure = np.zeros(len(crystals)), np.zeros(len(crystals), dtype=np.bool_)
        log_scale[rows], is_sure[rows] = said.median(), said.spread() <= SURE
        return LikelyMinima(log_scale, is_sure)


def main() -> None:
    """Compare labels at the network's volumes with searched minima of held-out crystals."""
    params = load_params().hypothetical
    labels = Labels.read(Path(params.path))
    table = labels.table.loc[(labels.table[POINTS] > 1) & labels.table[MINIMUM].notna()]
    rows = [(row, crystal_of(labels, row)) for row in table.to_dict("records")]
    held = [it for it in rows if fold_of(formula_key(it[1].species), params.calibration) == columns.CALIBRATION]
    truth, crystals = zip(*((row[ENERGY], crystal) for row, crystal in held[:N_MEASURED]), strict=True)
    likely = VolumeNetwork(Path(__file__).parent / "volumes")(crystals)
    excess = (least_energies(load_potential("sevennet-0"), crystals, likely).energy - truth)[likely.is_sure]
    print(
        f"{len(crystals)} held-out crystals, sure of {likely.is_sure.mean():.1%}; labels lie above the minima by "
        f"{excess.mean():.4f} eV/atom (median {np.median(excess):.4f}, 99 % at most {np.quantile(excess, 0.99):.3f})"
    )


if __name__ == "__main__":
    main()
