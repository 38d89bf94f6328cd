"""`matscout relax`: relax a user's own crystals and predict them like candidates."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pandas as pd

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.discovery.cif_files import cif_text
from matscout.discovery.relax.batched_descent import batch_device, engine_of
from matscout.discovery.relax.descent import potentials_of
from matscout.discovery.relax.potential_judge import make_potential_judge
from matscout.discovery.relax.potential_properties import PROPERTIES
from matscout.discovery.relax.relax import relaxed_table
from matscout.discovery.relax.relaxed_table import OF_RIVALS
from matscout.discovery.screen.candidate_scores import Judge
from matscout.discovery.screen.user_crystals import usable_crystals
from matscout.discovery.stability.energy_above_hull import References
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.errors import InputError
from matscout.files import atomic_path
from matscout.layout import MATERIALS, SPLIT, STAND_INS
from matscout.params import load_params
from matscout.resume.parts import Parts
from matscout.sources.files.named_structures import USER_SOURCE

CIFS_MARK: Final = "relaxed_by_matscout.txt"
SHOWN_COLUMNS: Final = (
    columns.CANDIDATE_ID,
    columns.FORMULA,
    columns.RANK,
    columns.GOAL_PROBABILITY,
    columns.FORMATION_ENERGY,
    columns.ENERGY_ABOVE_HULL,
    columns.BAND_GAP,
    columns.SPACE_GROUP,
    *columns.BY_RELAXATION,
    "energy_gained",
    "judges_disagree",
    "relaxed_into",
    "reason",
)


def relax_structures(
    paths: Sequence[Path],
    goal: str,
    *,
    potential: str | None,
    members: Path,
    ensemble: Path,
    properties: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[Rejection]]:
    """Relax the crystals in files and predict them with ensemble and potential; see `relax.relax` for the table.

    Args:
        paths: files and folders.
        goal: name of a goal in params.yaml.
        potential: potential that relaxes and gives energies; None = those in params.yaml.
        members: folder of members.
        ensemble: folder of the calibration.
        properties: of `potential_properties.PROPERTIES`, beside those of params.yaml and of the goal.

    Returns:
        One row per crystal that the ensemble can predict before its relaxation, best first; and the rejected ones.

    Raises:
        InputError: no crystal can be used, the goal or a property is not defined, or the potential is not available.
    """
    if unknown := sorted(set(properties) - set(PROPERTIES)):
        raise InputError(f"property {unknown[0]!r} is unknown; choose from {', '.join(PROPERTIES)}")
    params = load_params()
    settings = params.relaxation.model_copy(update={"properties": (*params.relaxation.properties, *properties)})
    if potential is not None:
        settings = settings.model_copy(update={"potential": potential, "judge": None})
    goals = params.screening.goals
    if goal not in goals:
        raise InputError(f"goal {goal!r} is not defined in params.yaml; choose one of {sorted(goals)}")
    for path, stage in ((MATERIALS, "curate"), (SPLIT, "split")):
        if not path.is_file():
            raise InputError(
                f"{path} is missing, but the energy scale of the potential is fitted to it; run `dvc repro {stage}`"
            )
    ids, crystals, rejections = usable_crystals(paths, params.curation.validity)
    stand_ins = STAND_INS if STAND_INS.is_file() else None
    predictor = EnsemblePredictor.load(members, ensemble).for_hypothetical()
    judge = Judge(predictor, References.read(MATERIALS, stand_ins), goals[goal])
    judge.check()
    judged = judge.judge(ids, crystals)
    rejections += [replace(item, source=USER_SOURCE, file=item.material_id, row=0) for item in judged.rejections]
    if judged.table.empty:
        raise InputError(f"none of {len(ids)} crystal(s) can be predicted; the first: {rejections[0].detail}")
    rows = pd.DataFrame([crystals[row].to_row() for row in judged.rows])
    rows[columns.FORMULA] = [crystals[row].reduced_formula for row in judged.rows]
    named = judged.table.rename(columns={columns.MATERIAL_ID: columns.CANDIDATE_ID})
    chosen = judge.rank(pd.concat([named.reset_index(drop=True), rows], axis=1))
    batches_on = batch_device(settings, params.compute.device)
    labels = path if (path := Path(params.hypothetical.path)).is_dir() else None
    with Parts.kept(
        "relax_own",
        settings=[
            settings.model_dump(mode="json"),
            params.curation.model_dump(mode="json"),
            potentials_of(settings),
            engine_of(batches_on),
        ],
        inputs=[*paths, MATERIALS, SPLIT, *([labels] if labels else [])],
        code=[__name__],
    ) as parts:
        second = make_potential_judge(
            params, settings, materials=MATERIALS, split=SPLIT, ensemble=ensemble, labels=labels, parts=parts
        )
        nobody = pd.DataFrame(columns=list(OF_RIVALS))
        table = relaxed_table(
            chosen, judge, second, settings, nobody, materials=MATERIALS, parts=parts, batches_on=batches_on
        )
        return table, rejections


def write_relaxed_cifs(folder: Path, table: pd.DataFrame) -> int:
    """Write the relaxed cells that converged as CIF, by name, and return their number.

    Raises:
        InputError: the folder holds other files.
    """
    with atomic_path(folder, mark=CIFS_MARK) as path:
        path.mkdir()
        (path / CIFS_MARK).write_text("Relaxed by a universal potential; see the table of `matscout relax`.\n")
        rested = table.loc[table["converged"].to_numpy(bool)]
        for place, row in enumerate(rested.to_dict("records"), start=1):
            name = "".join(c if c.isalnum() or c in "-_" else "_" for c in str(row[columns.CANDIDATE_ID]))
            (path / f"{place:04d}_{name}.cif").write_text(cif_text(Crystal.from_row(row)))
    return len(rested)
