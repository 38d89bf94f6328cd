"""`calibration.json`: what turns the members' outputs into a prediction table, and that table's columns.

The columns are point estimate, spread and its parts, interval, members, flags.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import ATOMIC_NUMBERS, SYMBOLS
from matscout.ensemble.calibration.conformal import POOLED
from matscout.ensemble.calibration.target_calibration import STRATA, TargetCalibration, TargetPrediction, strata_of
from matscout.ensemble.mixture import Mixture, TargetOutputs
from matscout.errors import StoreError
from matscout.files import write_json
from matscout.graphs.graph_store import GraphStore

FORMAT_VERSION = 5
CALIBRATION_FILE = "calibration.json"
REFERENCE_FILE = "reference.npz"


@dataclass(frozen=True)
class EnsembleCalibration:
    """The ensemble's fitted state.

    Attributes:
        members: SHA-256 of each member's weights, in the members' order.
        surrogates: the same of the surrogates, which count in `hypothetical` only.
        targets: calibration by target, for crystals such as those that databases hold.
        hypothetical: the same for hypothetical crystals, by target; a target that is absent here uses `targets`.
        metal_target: the hurdle target whose zeros are metals; None = there is none, and one stratum.
        graphs: settings of the graphs that the members read (see `params.Graphs`).
        elements: symbols that every member saw in training.
    """

    members: dict[str, str]
    surrogates: dict[str, str]
    targets: dict[str, TargetCalibration]
    hypothetical: dict[str, TargetCalibration]
    metal_target: str | None
    graphs: dict[str, Any]
    elements: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        content = {
            "format_version": FORMAT_VERSION,
            "members": _weights_json(self.members),
            "surrogates": _weights_json(self.surrogates),
            "targets": {name: target.to_json() for name, target in self.targets.items()},
            "target_order": list(self.targets),
            "hypothetical": {name: target.to_json() for name, target in self.hypothetical.items()},
            "metal_target": self.metal_target,
            "graphs": self.graphs,
            "elements": list(self.elements),
        }
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back what `save` wrote.

        Args:
            path: path of `calibration.json`.

        Returns:
            The ensemble's fitted state.

        Raises:
            StoreError: the file is missing, cut off or of another format version.
        """
        try:
            return cls._from_json(json.loads(Path(path).read_text()))
        except FileNotFoundError as error:
            raise StoreError(f"{path} not found; run `dvc repro evaluate`, or fetch it (dvc pull)") from error
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{path} is cut off or of another format than {FORMAT_VERSION} ({error!r}); run `dvc repro evaluate`"
            ) from error

    @classmethod
    def _from_json(cls, content: Mapping[str, Any]) -> Self:
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {content['format_version']!r}")
        return cls(
            {member["name"]: member["weights_sha256"] for member in content["members"]},
            {surrogate["name"]: surrogate["weights_sha256"] for surrogate in content["surrogates"]},
            {name: TargetCalibration.from_json(content["targets"][name]) for name in content["target_order"]},
            {name: TargetCalibration.from_json(target) for name, target in sorted(content["hypothetical"].items())},
            content["metal_target"],
            content["graphs"],
            tuple(content["elements"]),
        )


def _weights_json(weights: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "weights_sha256": sha256} for name, sha256 in weights.items()]


Array = NDArray[np.float64]
Labels = NDArray[np.str_]

INTERVAL_LEVEL = 0.9
CHUNK_ROWS = 4096


def calibrated(calibration: EnsembleCalibration, outputs: Mapping[str, TargetOutputs]) -> dict[str, TargetPrediction]:
    """Each target's calibrated prediction from the members' outputs."""
    return {target: fitted.predict(outputs[target]) for target, fitted in calibration.targets.items()}


def strata(metal_target: str | None, mixtures: Mapping[str, Mixture], n_rows: int) -> tuple[Labels, tuple[str, ...]]:
    """Stratum of each crystal: metal or not.

    Args:
        metal_target: the hurdle target whose zeros are metals; None = one stratum for all.
        mixtures: calibrated distributions of n_rows crystals, by target.
        n_rows: number of crystals.

    Returns:
        (n_rows,) strata, and every stratum that there can be.
    """
    if metal_target is None:
        return np.full(n_rows, POOLED), ()
    return strata_of(mixtures[metal_target].probability_zero()), STRATA


def prediction_table(
    calibration: EnsembleCalibration,
    outputs: Mapping[str, TargetOutputs],
    predictions: Mapping[str, TargetPrediction],
    *,
    ids: Sequence[str] | Labels,
    sources: Labels | None = None,
) -> pd.DataFrame:
    """Tabulate predictions: id, then for each target the columns of `columns.py`, then the probability of a metal.

    Args:
        calibration: fitted on the validation fold.
        outputs: outputs of the members, by target.
        predictions: what `calibrated` made of them.
        ids: n material ids.
        sources: (n,) database of each row; None = intervals of all databases together.

    Returns:
        n rows, one per crystal, in the order of `ids`; values in the targets' units.
    """
    mixtures = {target: prediction.mixture for target, prediction in predictions.items()}
    stratum, _ = strata(calibration.metal_target, mixtures, len(ids))
    table: dict[str, Array | Sequence[str] | Labels] = {columns.MATERIAL_ID: np.asarray(ids, dtype=object)}
    for target, prediction in predictions.items():
        fitted = calibration.targets[target]
        low, high = fitted.interval(prediction, stratum, INTERVAL_LEVEL, sources)
        table[target] = prediction.estimate
        table[target + columns.STD] = prediction.mixture.std()
        table[target + columns.LO90], table[target + columns.HI90] = low, high
        table[target + columns.ALEATORIC_STD] = prediction.mixture.aleatoric_std()
        table[target + columns.EPISTEMIC_STD] = prediction.mixture.epistemic_std()
        for member in calibration.members:
            table[columns.member_column(target, member)] = outputs[target].members[member].median()
    if calibration.metal_target is not None:
        table[columns.METAL_PROBABILITY] = mixtures[calibration.metal_target].probability_zero()
    return pd.DataFrame(table)


def unseen_elements(store: GraphStore, rows: NDArray[np.int64], trained: Sequence[str]) -> list[str]:
    """Name the elements of each crystal that no training crystal holds.

    Args:
        store: graphs of the crystals.
        rows: (n,) rows of the store.
        trained: symbols of the elements of the training crystals.

    Returns:
        n texts: symbols by atomic number, joined by commas; empty where all elements are known.
    """
    is_unseen = np.ones(len(SYMBOLS), dtype=bool)
    is_unseen[[ATOMIC_NUMBERS[symbol] for symbol in trained]] = False
    found: list[str] = []
    for start in range(0, len(rows), CHUNK_ROWS):
        graph = store.batch(rows[start : start + CHUNK_ROWS], n_neighbors=1, cutoff=1.0)
        numbers, crystals = graph.atomic_numbers.numpy(), graph.crystal_of_atom.numpy()
        unseen: dict[int, set[int]] = {}
        for atom in np.flatnonzero(is_unseen[numbers]):
            unseen.setdefault(int(crystals[atom]), set()).add(int(numbers[atom]))
        found += [",".join(SYMBOLS[z] for z in sorted(unseen.get(row, ()))) for row in range(graph.n_crystals)]
    return found
