"""A network that has learned the volumes of a potential's minima; `build_pretrained.py --volumes` makes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from matscout.crystal import Crystal
from matscout.errors import StoreError
from matscout.files import sha256_of
from matscout.graphs.graph_store import GraphStore
from matscout.hypothetical.least_energies import LikelyMinima
from matscout.models.inference import distributions, embed
from matscout.models.saved_member import load_member
from matscout.params import Graphs

LOG_SCALE: Final = "log_scale"  # its target: logarithm of the volume at the minimum over the given one
SURE: Final = 0.045  # largest standard deviation of a log_scale that needs no further volume


@dataclass(frozen=True)
class VolumeNetwork:
    """The network in a folder.

    Where it is sure, energies at its volumes lie about .004 eV/atom above the minimum (400 held-out crystals of the
    bundled labels).

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
