"""The second judge: a potential's energies on the aligned scale, with its error, and how it compares with the ensemble.

Its scale is joined to DFT's on known training crystals, like that of the labels in `hypothetical`. On known validation
crystals both judges are compared with DFT. A potential has seen most of them in its own training: its errors there are
too small, so that they serve for the correlation of both errors alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from matscout import columns
from matscout.composition_vectors import atomic_fractions
from matscout.crystal import Crystal
from matscout.curation.energies.database_pairs import Pairs
from matscout.discovery.relax.relax_all import loaded_judge
from matscout.engine import parallel_stream
from matscout.errors import InputError, StoreError
from matscout.hypothetical.potential_labels import CORRECTION, ENERGY, MANIFEST_NAME, SECOND_ENERGY, Labels
from matscout.hypothetical.potential_scale import (
    DISAGREEMENT_TO_ERROR,
    EnergyScale,
    disagreement_noise,
    element_noise,
    known_pairs,
)
from matscout.params import Curation, Offsets, Relaxation
from matscout.potentials.potential import Facts
from matscout.resume.parts import Parts
from matscout.sources.energy_corrections import correction_per_atom

Array = NDArray[np.float64]

LARGEST_KNOWN: Final = 30  # atoms of a known crystal whose energy is computed here
N_ALIGNED: Final = 500  # training crystals that join a potential's scale where no labels hold its energies
OF_EACH_ELEMENT: Final = 10  # of them, as far as there are so many
CHUNK: Final = 20  # crystals of a piece of work
FEWEST_ROWS: Final = 30  # validation crystals for a correlation
CORRELATION_UNKNOWN: Final = 0.5  # with fewer
LARGEST_CORRELATION: Final = 0.9
KNOWN_TO_NEW: Final = 5.0  # error on new crystals over that on those of its own training: SevenNet-0 on WBM


@dataclass(frozen=True)
class Opinion:
    """What the potential says of n crystals.

    Attributes:
        energy: (n,) formation energy on the aligned scale, eV/atom; NaN with an element that no known crystal joins.
        std: (n,) standard deviation of its error, eV/atom.
        taught: whether the ensemble learned hypothetical crystals from the labels of a potential.
    """

    energy: Array
    std: Array
    taught: bool = False


@dataclass(frozen=True)
class Comparison:
    """Both judges against DFT on known validation crystals.

    Attributes:
        n: crystals.
        correlation: of both errors.
        mae_potential, mae_ensemble: eV/atom; NaN without any crystal.
    """

    n: int
    correlation: float
    mae_potential: float
    mae_ensemble: float

    @classmethod
    def of(cls, truth: Array, potential: Array, ensemble: Array) -> "Comparison":
        """From (n,) formation energies, eV/atom."""
        usable = np.isfinite(truth) & np.isfinite(potential) & np.isfinite(ensemble)
        first, second = potential[usable] - truth[usable], ensemble[usable] - truth[usable]
        n = int(usable.sum())
        if n < FEWEST_ROWS or not first.std() * second.std():
            return cls(n, CORRELATION_UNKNOWN, *(float(np.abs(e).mean()) if n else np.nan for e in (first, second)))
        found = float(np.corrcoef(first, second)[0, 1])
        kept = float(np.clip(found, 0.0, LARGEST_CORRELATION))
        return cls(n, kept, float(np.abs(first).mean()), float(np.abs(second).mean()))

    def to_json(self) -> dict[str, Any]:
        """For the summary; null for what is not known."""
        told = {"mae_potential": self.mae_potential, "mae_ensemble": self.mae_ensemble}
        told = {name: None if np.isnan(value) else round(value, 6) for name, value in told.items()}
        return {"n_validation_crystals": self.n, "correlation_of_errors": round(self.correlation, 6), **told}


@dataclass(frozen=True)
class PotentialJudge:
    """The potential's word on formation energies.

    Attributes:
        facts: of the potential.
        scale: joins its energies to the aligned ones.
        comparison: with the ensemble.
        labels: of hypothetical crystals by two potentials, whose disagreement tells the error; null = none.
        known: curated rows with their fold.
        offsets: how scales are joined.
        residuals, fractions: (n,) errors on known validation crystals, and their (n, 118) atomic fractions.
        taught: whether the ensemble learned hypothetical crystals from the labels of a potential.
    """

    facts: Facts
    scale: EnergyScale
    comparison: Comparison
    labels: Labels | None
    known: pd.DataFrame
    offsets: Offsets
    residuals: Array
    fractions: Array
    taught: bool

    def opinion(self, energies: Array, crystals: Sequence[Crystal]) -> Opinion:
        """The aligned energies of relaxed crystals, with their errors.

        The spread of two potentials' difference, over compositions of like elements, is the error. The factor from
        disagreement to error of the labels makes up for unrelaxed atoms too, and is not used here.

        Args:
            energies: (n,) the potential's, eV/atom.
            crystals: the relaxed cells.
        """
        fractions = atomic_fractions([crystal.species for crystal in crystals])
        return Opinion(self.scale.aligned(energies, crystals), self._std(fractions), taught=self.taught)

    def _std(self, fractions: Array) -> Array:
        if self.labels is not None:
            noise = disagreement_noise(self.labels, self.labels.table, self.known, self.offsets, fractions)
            return noise / DISAGREEMENT_TO_ERROR
        if not len(self.residuals):
            raise InputError(
                "no validation crystal tells the error of the potential, and no labels by two potentials do; give "
                "hypothetical.path a folder of labels, or the split a validation fold"
            )
        return KNOWN_TO_NEW * element_noise(self.residuals, self.fractions, fractions)


def make_potential_judge(
    facts: Facts,
    settings: Relaxation,
    curation: Curation,
    *,
    materials: Path,
    split: Path,
    predictions: Path,
    labels: Path | None,
    taught: bool,
    parts: Parts,
    workers: int,
) -> PotentialJudge:
    """Join the potential's scale to DFT's, and compare both judges on known validation crystals.

    Args:
        facts: of the potential.
        settings: the section `relaxation`.
        curation: how offsets are fitted.
        materials: curated table.
        split: material_id and fold.
        predictions: of known crystals by the ensemble.
        labels: folder of labels by potentials, or null. If they are this potential's, no training crystal is computed.
        taught: whether such labels trained the ensemble.
        parts: of this run, which keep the energies that are computed.
        workers: processes.

    Raises:
        InputError: too few known crystals join the scale.
    """
    known = pd.read_parquet(materials).merge(pd.read_parquet(split), on=columns.MATERIAL_ID)
    known = known.loc[~known[columns.SYNTHETIC].astype(bool) & known[columns.FORMATION_ENERGY_ALIGNED].notna()]
    found = _read_labels(labels, known, curation.offsets)
    small = known.loc[known[columns.SPECIES].map(len) <= LARGEST_KNOWN].sort_values(columns.MATERIAL_ID)
    validation = _some(small.loc[small[columns.FOLD] == columns.VALIDATION], settings.n_known, settings.seed)
    training = small.iloc[:0]
    if found is None or found.potential.weights_sha256 != facts.weights_sha256 or not facts.weights_sha256:
        training = _of_all_elements(small.loc[small[columns.FOLD] == columns.TRAIN], N_ALIGNED, settings.seed)
    rows = pd.concat([validation, training])
    crystals = [Crystal.from_row(row) for row in rows.to_dict("records")]
    energies = _energies(crystals, settings, parts, workers)
    pairs = _pairs(found, training, energies[len(validation) :], facts, known, curation.offsets)
    scale = EnergyScale.of(pairs, curation.offsets, facts.corrections)
    chosen = crystals[: len(validation)]
    aligned = scale.aligned(energies[: len(validation)], chosen)
    truth = validation[columns.FORMATION_ENERGY_ALIGNED].to_numpy(np.float64)
    told = pd.read_parquet(predictions, columns=[columns.MATERIAL_ID, columns.FORMATION_ENERGY])
    said = told.drop_duplicates(columns.MATERIAL_ID).set_index(columns.MATERIAL_ID)[columns.FORMATION_ENERGY]
    ensemble = said.reindex(validation[columns.MATERIAL_ID]).to_numpy(np.float64)
    usable = np.isfinite(aligned)
    return PotentialJudge(
        facts,
        scale,
        Comparison.of(truth, aligned, ensemble),
        found if found is not None and found.table[SECOND_ENERGY].notna().to_numpy().any() else None,
        known,
        curation.offsets,
        (aligned - truth)[usable],
        atomic_fractions([crystal.species for crystal in chosen])[usable],
        taught,
    )


def _read_labels(folder: Path | None, known: pd.DataFrame, offsets: Offsets) -> Labels | None:
    """The labels, if there are any and enough known crystals join their scale to DFT's."""
    if folder is None or not (Path(folder) / MANIFEST_NAME).is_file():
        return None
    labels = Labels.read(folder)
    try:
        for column in (ENERGY, SECOND_ENERGY):
            known_pairs(labels.known, known, offsets, potential=labels.potential.name, column=column)
    except InputError:  # labels of another database: this run's known crystals are computed instead
        return None
    return labels


def _pairs(
    labels: Labels | None, training: pd.DataFrame, energies: Array, facts: Facts, known: pd.DataFrame, offsets: Offsets
) -> Pairs:
    if labels is not None and training.empty:
        return known_pairs(labels.known, known, offsets, potential=facts.name)
    structures = [Crystal.from_row(row).to_structure() for row in training.to_dict("records")]
    own = np.array([correction_per_atom(structure, facts.corrections) for structure in structures])
    table = pd.DataFrame(
        {
            columns.MATERIAL_ID: training[columns.MATERIAL_ID].to_numpy(),
            ENERGY: energies - own,
            CORRECTION: [correction_per_atom(structure, columns.MP2020) for structure in structures],
        }
    )
    return known_pairs(table, known, offsets, potential=facts.name)


def _some(rows: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """`n` of the rows, or all, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(rows))[:n]
    return rows.iloc[np.sort(order)]


def _of_all_elements(rows: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """About `n` of the rows, drawn by the seed, with `OF_EACH_ELEMENT` of every element first."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    symbols = [set(species) for species in rows[columns.SPECIES]]
    seen, needed, others = Counter[str](), list[int](), list[int]()
    for place in order:
        rare = any(seen[symbol] < OF_EACH_ELEMENT for symbol in symbols[place])
        (needed if rare else others).append(place)
        if rare:
            seen.update(symbols[place])
    return rows.iloc[sorted([*needed, *others[: max(0, n - len(needed))]])]


def _energies(crystals: Sequence[Crystal], settings: Relaxation, parts: Parts, workers: int) -> Array:
    """(n,) energies of known crystals at their own cells, eV/atom; kept piece by piece."""
    pieces = [crystals[start : start + CHUNK] for start in range(0, len(crystals), CHUNK)]
    todo = [(number, piece) for number, piece in enumerate(pieces) if parts.table(_name(number)) is None]
    function = partial(_energies_of_piece, settings, parts.folder.resolve())
    for _ in parallel_stream(function, todo, workers=workers, description="known crystals", unit="piece"):
        pass
    found = [parts.table(_name(number)) for number in range(len(pieces))]
    if any(table is None for table in found):
        raise StoreError(f"{parts.folder} was changed while it was read; run the stage again")
    return np.concatenate([np.zeros(0), *(table.column(0).to_numpy() for table in found if table is not None)])


def _energies_of_piece(settings: Relaxation, folder: Path, task: tuple[int, Sequence[Crystal]]) -> None:
    number, crystals = task
    energies = loaded_judge(settings).energies(crystals) / [crystal.n_atoms for crystal in crystals]
    Parts(folder).save_table(_name(number), pa.table({ENERGY: energies}))


def _name(number: int) -> str:
    return f"known-{number}"
