"""Label hypothetical crystals with a potential: draw them, minimise over the volume, write the labels.

The work is done in parts, so a killed run resumes where it stopped. `data/sample/build_potential.py` made the bundled
labels this way from the training rows of the bundled sample.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import moyopy
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.core import Composition

from matscout import columns
from matscout.crystal import Crystal, formula_key
from matscout.curated_table import CuratedTable
from matscout.errors import InputError
from matscout.files import atomic_path, write_json
from matscout.hypothetical.draw_crystals import BROAD, SIMILAR, Drawn, draw
from matscout.hypothetical.least_energies import KnowsMinima, least_energies
from matscout.hypothetical.potential_labels import (
    CORRECTION,
    ENERGY,
    EXCHANGED,
    MINIMUM,
    POINTS,
    ROUTE,
    SCALE,
    SECOND_ENERGY,
    Labels,
    exchanged_text,
)
from matscout.params import Hypothetical
from matscout.potentials.load_potential import load_potential
from matscout.progress import progress
from matscout.resume.parts import Parts
from matscout.sources.energy_corrections import correction_per_atom

PART: Final = 200  # crystals per part; a killed run loses one part per process at most
SYMPREC: Final = 0.01  # Å, of the parents' primitive cells
DIGITS: Final = 6  # of the parents' cells, Å and fractional
LARGEST_KNOWN: Final = 60  # atoms; larger known crystals are not used to align the energy scales
SECOND_SHARE: Final = 8  # the second potential labels one part in eight
COUNT_NAME: Final = "own_labels.json"


def build_labels(
    materials: Path,
    split: Path,
    destination: Path,
    *,
    n: int,
    n_similar: int,
    seed: int,
    potential: str,
    second: str | None,
    workers: int,
    within: frozenset[str] = frozenset(),
    known_by: Path | None = None,
    volumes: KnowsMinima | None = None,
) -> None:
    """Draw hypothetical crystals from the training rows, label them, and write a folder that `Labels` reads.

    Finished parts wait in `.checkpoints/label-crystals/`, from which a killed run resumes, also with another `n` or
    `n_similar`.

    Args:
        materials: curated table.
        split: material_id and fold. Test and validation rows are never parents, and never labelled.
        destination: folder to write.
        n: crystals to draw by the recipe `BROAD`. A few per cent have no minimum and are left out.
        n_similar: crystals to draw by the recipe `SIMILAR`; they follow in the table.
        seed: seed of the draws.
        potential: name of the potential that labels all crystals, see `potentials.load_potential`.
        second: name of another one, which labels a share of them. Their disagreement measures the labels' error.
        workers: processes; the labels do not depend on their number.
        within: the elements that a crystal may consist of; empty = all.
        known_by: folder of other labels. If the same potential made them, its energies of known crystals are taken
            over.
        volumes: knows the volumes of most minima, so that a label takes a third of the time; None = the minimum of
            every crystal is searched for.

    Raises:
        InputError: no crystal of these elements can be drawn, or a potential's package is not installed.
    """
    curated = CuratedTable(materials).with_folds(split)
    training = curated.loc[(curated[columns.FOLD] == columns.TRAIN) & ~curated[columns.SYNTHETIC].astype(bool)]
    parents, prototypes = _parents(training)
    barred = frozenset(formula_key(species) for species in curated[columns.SPECIES])
    draws = partial(draw, parents, prototypes, barred=barred, within=within)
    blocks = _blocks([(draws(seed=seed, recipe=BROAD), n), (draws(seed=seed + 1, recipe=SIMILAR), n_similar)])
    drawn = [item for block in blocks.values() for item in block]
    if not drawn:
        raise InputError(
            f"no hypothetical crystal of the elements {', '.join(sorted(within))} can be drawn from {len(parents)} "
            "training crystals: every formula is known, or no crystal is similar enough; name more elements"
        )
    known = training.loc[training[columns.FORMATION_ENERGY].notna() & (training[columns.N_ATOMS] <= LARGEST_KNOWN)]
    before = None if known_by is None else Labels.read(known_by)
    if before is not None and before.potential.weights_sha256 == load_potential(potential).facts.weights_sha256:
        known = known.iloc[:0]
    else:
        before = None
    pieces = [known.iloc[start : start + PART] for start in range(0, len(known), PART)]
    facts = {name: load_potential(name).facts for name in (potential, second) if name}
    weights = {name: [told.version, told.weights_sha256] for name, told in facts.items()}
    settings = {
        "seed": seed,
        "potential": potential,
        "second": second,
        "weights": weights,
        "part": PART,
        "within": sorted(within),
        "volumes": None if volumes is None else volumes.fingerprint,
    }
    with Parts.kept("label-crystals", settings=settings, inputs=[materials, split], code=[__name__]) as parts:
        todo = [
            (name, [item.crystal(parents[item.parent_id]) for item in block])
            for name, block in blocks.items()
            if parts.file(name, "npz") is None
        ]
        _map(partial(_label_part, (potential, second), volumes, parts.folder), todo, workers, "labels")
        todo = [(number, piece) for number, piece in enumerate(pieces) if parts.file(_known(number), "npz") is None]
        _map(partial(_known_part, potential, second, parts.folder), todo, workers, "known crystals")
        labelled = _joined(parts, list(blocks))
        energies = _joined(parts, [_known(number) for number in range(len(pieces))]) if pieces else {}
        _write(destination, (potential, second), (drawn, labelled), parents, (known, energies), before)


def label_own_crystals(
    materials: Path, split: Path, settings: Hypothetical, destination: Path, *, workers: int
) -> None:
    """The stage `label`: crystals of the user's own elements, labelled as `hypothetical.own` says.

    Args:
        materials: curated table.
        split: material_id and fold.
        settings: the section `hypothetical`; with `own.n: 0` the folder holds no labels.
        destination: folder to write.
        workers: processes.

    Raises:
        InputError: see `build_labels`.
    """
    own = settings.own
    with atomic_path(destination, mark=COUNT_NAME) as folder:
        folder.mkdir()
        if own.n:
            build_labels(
                materials,
                split,
                folder,
                n=0,
                n_similar=own.n,
                seed=own.seed,
                potential=own.potential,
                second=None,
                workers=workers,
                within=frozenset(own.elements or ()),
                known_by=Path(settings.path),
            )
        write_json(folder / COUNT_NAME, {"drawn": own.n})


def _blocks(draws: Sequence[tuple[Iterator[Drawn], int]]) -> dict[str, list[Drawn]]:
    """The first crystals of each draw in blocks of `PART`, by name of the part: number of the draw, place, length."""
    blocks = {}
    for number, (items, size) in enumerate(draws):
        chosen = list(itertools.islice(items, size))
        for place, start in enumerate(range(0, len(chosen), PART)):
            block = chosen[start : start + PART]
            blocks[f"drawn{number}-{place:04d}-{len(block)}"] = block
    return blocks


def _known(number: int) -> str:
    """Name of a part of the known crystals."""
    return f"known-{number:04d}"


def _map(function: partial, tasks: Sequence[tuple[object, ...]], workers: int, description: str) -> None:
    """Run all tasks in `workers` processes; each task writes its own file."""
    if workers == 1:
        for task in progress(tasks, description=description, unit="part"):
            function(task)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for _ in progress(pool.map(function, tasks), description=description, unit="part", total=len(tasks)):
            pass


def _label_part(
    potentials: tuple[str, str | None], volumes: KnowsMinima | None, folder: Path, task: tuple[str, list[Crystal]]
) -> None:
    (potential, second), (name, crystals) = potentials, task
    likely = None if volumes is None else volumes(crystals)
    found = least_energies(load_potential(potential), crystals, likely)
    other = np.full(len(crystals), np.nan)
    rows = np.flatnonzero(np.isfinite(found.energy)) if _is_labelled_twice(name) else np.zeros(0, dtype=np.int64)
    there = [_scaled(crystals[row], found.scale[row]) for row in rows]
    if there and second:
        other[rows] = load_potential(second).energies(there) / [crystal.n_atoms for crystal in there]
    labels = {"energy": found.energy, "scale": found.scale, "points": found.points, "second": other}
    Parts(folder).save_arrays(name, labels)


def _is_labelled_twice(part: str) -> bool:
    return int(part.split("-")[1]) % SECOND_SHARE == 0


def _known_part(potential: str, second: str | None, folder: Path, task: tuple[int, pd.DataFrame]) -> None:
    number, rows = task
    crystals = [Crystal.from_row(row) for row in rows.to_dict("records")]
    atoms = [crystal.n_atoms for crystal in crystals]
    nothing = np.full(len(crystals), np.nan)
    energies = [load_potential(name).energies(crystals) / atoms if name else nothing for name in (potential, second)]
    Parts(folder).save_arrays(_known(number), {"energy": energies[0], "second": energies[1]})


def _scaled(crystal: Crystal, scale: float) -> Crystal:
    return Crystal(crystal.lattice * np.cbrt(scale), crystal.species, crystal.frac_coords)


def _write(
    destination: Path,
    names: tuple[str, str | None],
    labelled_crystals: tuple[Sequence[Drawn], Mapping[str, NDArray[np.float64]]],
    parents: Mapping[str, Crystal],
    known: tuple[pd.DataFrame, Mapping[str, NDArray[np.float64]]],
    before: Labels | None,
) -> None:
    drawn, labelled = labelled_crystals
    found = np.flatnonzero(np.isfinite(labelled["energy"])).tolist()
    crystals = [drawn[row].crystal(parents[drawn[row].parent_id]) for row in found]
    table = pd.DataFrame(
        {
            ROUTE: [drawn[row].route for row in found],
            columns.PARENT_ID: [drawn[row].parent_id for row in found],
            EXCHANGED: [exchanged_text(drawn[row]) for row in found],
            SCALE: [drawn[row].scale for row in found],
            ENERGY: labelled["energy"][found],
            SECOND_ENERGY: labelled["second"][found],
            CORRECTION: _corrections(crystals),
            MINIMUM: labelled["scale"][found],
            POINTS: labelled["points"][found],
        }
    )
    rows, energies = known
    cells = [Crystal.from_row(row) for row in rows.to_dict("records")]
    references = pd.DataFrame(
        {
            columns.MATERIAL_ID: rows[columns.MATERIAL_ID].to_numpy(),
            ENERGY: energies.get("energy", []),
            SECOND_ENERGY: energies.get("second", []),
            CORRECTION: _corrections(cells),
        }
    )
    references = references.loc[references[ENERGY].notna()].reset_index(drop=True)
    for name, column in zip(names, (ENERGY, SECOND_ENERGY), strict=True):
        if name and load_potential(name).facts.corrections == columns.MP2020:  # stored energies contain no corrections
            table[column] -= table[CORRECTION]
            references[column] -= references[CORRECTION]
    facts = replace(load_potential(names[0]).facts, corrections=columns.MP2020)  # of the column `correction`
    Labels(facts, parents, table, references if before is None else before.known).write(destination)


def _joined(parts: Parts, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    arrays = [dict(np.load(parts.written(name, "npz"))) for name in names]
    return {key: np.concatenate([part[key] for part in arrays]) for key in arrays[0]}


def _corrections(crystals: Sequence[Crystal]) -> list[float]:
    return [
        correction_per_atom(crystal.to_structure(), columns.MP2020)
        for crystal in progress(crystals, description="corrections", unit="crystal")
    ]


def _parents(training: pd.DataFrame) -> tuple[dict[str, Crystal], dict[str, str]]:
    """Primitive, symmetrised cells of the training rows, and the name of each one's prototype; both by id."""
    logging.getLogger("moyo").setLevel(logging.ERROR)  # it warns about cells that are not primitive, which is harmless
    parents, prototypes = {}, {}
    for row in training.to_dict("records"):
        primitive = _primitive(Crystal.from_row(row))
        if primitive is None:
            continue
        parents[row[columns.MATERIAL_ID]] = primitive
        formula = Composition(row[columns.FORMULA]).anonymized_formula
        prototypes[row[columns.MATERIAL_ID]] = f"{formula}_{row[columns.SPACE_GROUP]}_{row[columns.N_ATOMS_PRIMITIVE]}"
    return parents, prototypes


def _primitive(crystal: Crystal) -> Crystal | None:
    """The primitive, symmetrised cell; None if the symmetry search fails."""
    elements = sorted(set(crystal.species))
    numbers = [elements.index(symbol) for symbol in crystal.species]
    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), numbers)
    try:
        found = moyopy.MoyoDataset(cell, symprec=SYMPREC).prim_std_cell
    except (ValueError, RuntimeError):
        return None
    positions = np.round(np.array(found.positions, dtype=np.float64) % 1, DIGITS) % 1
    return Crystal(
        np.round(np.array(found.basis, dtype=np.float64), DIGITS), tuple(elements[i] for i in found.numbers), positions
    )
