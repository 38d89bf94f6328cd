"""Formation energies by a potential on the aligned scale, with their errors, and a comparison with the ensemble.

The energy scale of the potential is converted to that of DFT with known training crystals, like that of the labels in
`hypothetical`. On known validation crystals, potential and ensemble are compared with DFT. A potential has seen most of
these in its own training, so its errors on them are too small; they are used only for the correlation of both errors.
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
from matscout.compositions import atomic_fractions
from matscout.crystal import Crystal
from matscout.curated_table import CuratedTable
from matscout.curation.reference_offsets import Pairs
from matscout.discovery.relax.descent import loaded_judge, part_name
from matscout.engine import n_workers, parallel_stream
from matscout.errors import InputError, StoreError
from matscout.hypothetical.potential_labels import CORRECTION, ENERGY, MANIFEST_NAME, SECOND_ENERGY, Labels
from matscout.hypothetical.potential_scale import (
    DISAGREEMENT_TO_ERROR,
    EnergyScale,
    disagreement_noise,
    element_noise,
    known_pairs,
)
from matscout.params import Offsets, Params, Relaxation
from matscout.potentials.potential import Facts
from matscout.resume.parts import Parts
from matscout.sources.energy_corrections import correction_per_atom

Array = NDArray[np.float64]

LARGEST_KNOWN: Final = 30  # largest number of atoms of a known crystal whose energy is computed here
N_ALIGNED: Final = (
    500  # training crystals used to convert the scale if the labels contain no energies by this potential
)
OF_EACH_ELEMENT: Final = 10  # the least number of these that contain each element, if there are so many
CHUNK: Final = 20  # crystals per piece of work
FEWEST_ROWS: Final = 30  # least number of validation crystals for a correlation
CORRELATION_UNKNOWN: Final = 0.5  # correlation assumed with fewer
LARGEST_CORRELATION: Final = 0.9
KNOWN_TO_NEW: Final = 5.0  # ratio of the error on new crystals to that on training crystals; from SevenNet-0 on WBM


@dataclass(frozen=True)
class Opinion:
    """The potential's predictions for n crystals.

    Attributes:
        energy: (n,) formation energy on the aligned scale, eV/atom; NaN for a crystal with an element that is in no
            known crystal of the scale.
        std: (n,) standard deviation of its error, eV/atom.
        taught: whether the ensemble was trained on hypothetical crystals labelled by a potential.
    """

    energy: Array
    std: Array
    taught: bool = False


@dataclass(frozen=True)
class Comparison:
    """Ensemble and potential compared with DFT on known validation crystals.

    Attributes:
        n: number of crystals.
        correlation: correlation of the two errors.
        mae_potential, mae_ensemble: mean absolute errors, eV/atom; NaN without any crystal.
    """

    n: int
    correlation: float
    mae_potential: float
    mae_ensemble: float

    @classmethod
    def of(cls, truth: Array, potential: Array, ensemble: Array) -> "Comparison":
        """Compare (n,) formation energies, eV/atom."""
        usable = np.isfinite(truth) & np.isfinite(potential) & np.isfinite(ensemble)
        first, second = potential[usable] - truth[usable], ensemble[usable] - truth[usable]
        n = int(usable.sum())
        if n < FEWEST_ROWS or not first.std() * second.std():
            return cls(n, CORRELATION_UNKNOWN, *(float(np.abs(e).mean()) if n else np.nan for e in (first, second)))
        found = float(np.corrcoef(first, second)[0, 1])
        kept = float(np.clip(found, 0.0, LARGEST_CORRELATION))
        return cls(n, kept, float(np.abs(first).mean()), float(np.abs(second).mean()))

    def to_json(self) -> dict[str, Any]:
        """The content for the summary; unknown values are null."""
        told = {"mae_potential": self.mae_potential, "mae_ensemble": self.mae_ensemble}
        told = {name: None if np.isnan(value) else round(value, 6) for name, value in told.items()}
        return {"n_validation_crystals": self.n, "correlation_of_errors": round(self.correlation, 6), **told}


@dataclass(frozen=True)
class PotentialJudge:
    """Predicts formation energies with a potential.

    Attributes:
        facts: facts about the potential.
        scale: converts its energies to the aligned scale.
        comparison: comparison with the ensemble.
        labels: hypothetical crystals labelled by two potentials, whose disagreement gives the error; None = no labels.
        known: curated rows with their fold.
        offsets: settings of the fit of the scale.
        residuals, fractions: (n,) errors on known validation crystals, and their (n, 118) atomic fractions.
        taught: whether the ensemble was trained on hypothetical crystals labelled by a potential.
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

        The error is the spread of the difference between two potentials, for compositions of similar elements. The
        labels of unrelaxed crystals multiply it by a factor that also allows for unrelaxed atoms; it is not used here.

        Args:
            energies: (n,) energies by the potential, eV/atom.
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
                "the error of the potential is unknown: there are no validation crystals and no labels by two "
                "potentials; name a folder of labels in hypothetical.path, or give the split a validation fold"
            )
        return KNOWN_TO_NEW * element_noise(self.residuals, self.fractions, fractions)


def make_potential_judge(
    params: Params,
    settings: Relaxation,
    *,
    materials: Path,
    split: Path,
    ensemble: Path,
    labels: Path | None,
    parts: Parts,
) -> PotentialJudge:
    """Fit the potential's energy scale to that of DFT, and compare it with the ensemble on known validation crystals.

    Args:
        params: sections `curation` (how offsets are fitted) and `hypothetical` (whether labels trained the ensemble).
        settings: the section `relaxation`, which names the potential.
        materials: curated table.
        split: material_id and fold.
        ensemble: folder of predictions of known crystals.
        labels: folder of labels by potentials, or None. If this potential made them, no training crystal is computed.
        parts: parts of this run, which keep computed energies.

    Raises:
        InputError: there are too few known crystals for the fit.
    """
    facts, offsets = loaded_judge(settings).facts, params.curation.offsets
    known = CuratedTable(materials).with_folds(split)
    known = known.loc[~known[columns.SYNTHETIC].astype(bool) & known[columns.FORMATION_ENERGY_ALIGNED].notna()]
    found = _read_labels(labels, known, offsets)
    small = known.loc[known[columns.SPECIES].map(len) <= LARGEST_KNOWN].sort_values(columns.MATERIAL_ID)
    validation = _some(small.loc[small[columns.FOLD] == columns.VALIDATION], settings.n_known, settings.seed)
    training = small.iloc[:0]
    if found is None or found.potential.weights_sha256 != facts.weights_sha256 or not facts.weights_sha256:
        training = _of_all_elements(small.loc[small[columns.FOLD] == columns.TRAIN], N_ALIGNED, settings.seed)
    rows = pd.concat([validation, training])
    crystals = [Crystal.from_row(row) for row in rows.to_dict("records")]
    energies = _energies(crystals, settings, parts)
    pairs = _pairs(found, training, energies[len(validation) :], facts, known, offsets)
    scale = EnergyScale.of(pairs, offsets, facts.corrections)
    chosen = crystals[: len(validation)]
    aligned = scale.aligned(energies[: len(validation)], chosen)
    truth = validation[columns.FORMATION_ENERGY_ALIGNED].to_numpy(np.float64)
    predictions = ensemble / "predictions.parquet"
    told = pd.read_parquet(predictions, columns=[columns.MATERIAL_ID, columns.FORMATION_ENERGY])
    said = told.drop_duplicates(columns.MATERIAL_ID).set_index(columns.MATERIAL_ID)[columns.FORMATION_ENERGY]
    by_ensemble = said.reindex(validation[columns.MATERIAL_ID]).to_numpy(np.float64)
    usable = np.isfinite(aligned)
    return PotentialJudge(
        facts,
        scale,
        Comparison.of(truth, aligned, by_ensemble),
        found if found is not None and found.table[SECOND_ENERGY].notna().to_numpy().any() else None,
        known,
        offsets,
        (aligned - truth)[usable],
        atomic_fractions([crystal.species for crystal in chosen])[usable],
        params.hypothetical.n > 0,
    )


def _read_labels(folder: Path | None, known: pd.DataFrame, offsets: Offsets) -> Labels | None:
    """The labels, if there are any and there are enough known crystals to fit their scale."""
    if folder is None or not (Path(folder) / MANIFEST_NAME).is_file():
        return None
    labels = Labels.read(folder)
    try:
        for column in (ENERGY, SECOND_ENERGY):
            known_pairs(labels.known, known, offsets, potential=labels.potential.name, column=column)
    except InputError:  # labels made from another database: known crystals of this run are computed instead
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
    """`n` of the rows, or all of them, drawn with the seed."""
    order = np.random.default_rng(seed).permutation(len(rows))[:n]
    return rows.iloc[np.sort(order)]


def _of_all_elements(rows: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """About `n` of the rows, drawn with the seed, starting with `OF_EACH_ELEMENT` rows of every element."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    symbols = [set(species) for species in rows[columns.SPECIES]]
    seen, needed, others = Counter[str](), list[int](), list[int]()
    for place in order:
        rare = any(seen[symbol] < OF_EACH_ELEMENT for symbol in symbols[place])
        (needed if rare else others).append(place)
        if rare:
            seen.update(symbols[place])
    return rows.iloc[sorted([*needed, *others[: max(0, n - len(needed))]])]


def _energies(crystals: Sequence[Crystal], settings: Relaxation, parts: Parts) -> Array:
    """(n,) energies of known crystals in their own cells, eV/atom; each finished piece is kept."""
    pieces = [crystals[start : start + CHUNK] for start in range(0, len(crystals), CHUNK)]
    names = [part_name("known", piece) for piece in pieces]
    todo = [task for task in zip(names, pieces, strict=True) if parts.table(task[0]) is None]
    function = partial(_energies_of_piece, settings, parts.folder.resolve())
    for _ in parallel_stream(function, todo, workers=n_workers(), description="known crystals", unit="piece"):
        pass
    found = [parts.table(name) for name in names]
    if any(table is None for table in found):
        raise StoreError(f"{parts.folder} was changed while it was read; run the stage again")
    return np.concatenate([np.zeros(0), *(table.column(0).to_numpy() for table in found if table is not None)])


def _energies_of_piece(settings: Relaxation, folder: Path, task: tuple[str, Sequence[Crystal]]) -> None:
    name, crystals = task
    energies = loaded_judge(settings).energies(crystals) / [crystal.n_atoms for crystal in crystals]
    Parts(folder).save_table(name, pa.table({ENERGY: energies}))
