"""Relaxation: the shortlist's cells moved downhill by a pretrained potential; before and after stand side by side."""

import contextlib
import importlib.util
import io
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.propose.crystal_templates import make_template
from matscout.errors import InputError
from matscout.params import Relaxation
from matscout.progress import progress

if TYPE_CHECKING:
    from matscout.discovery.screen.candidate_scores import Judge

RELAXED_NAME: Final = "relaxed.parquet"
BEFORE: Final = "_before"
AFTER: Final = "_after"


def check_relaxation(settings: Relaxation) -> None:
    """Refuse a potential that is not installed, before any work.

    Raises:
        InputError: the message says what to install.
    """
    if settings.model is not None and importlib.util.find_spec(settings.model) is None:
        raise InputError(
            f"screening.relaxation.model = {settings.model!r} is not installed: pip install -e '.[relax]', "
            "or set it to null"
        )


def relax(best: pd.DataFrame, judge: "Judge", settings: Relaxation) -> pd.DataFrame:
    """Relax cell and atoms of some candidates, and judge what comes out.

    CHGNet 0.3 (Deng et al., Nature Machine Intelligence 5, 1031, 2023; its weights come with the package) and
    ase's FIRE with a cell filter. Energies are the potential's, not on the scale of the hull.

    Args:
        best: candidates as in `ranked.parquet`.
        judge: predicts the relaxed crystals too.
        settings: the section `screening.relaxation`.

    Returns:
        One row a candidate: id, `converged`, `steps`, then with the endings `_before` and `_after` the crystal,
        space group, volume per atom, the potential's energy per atom, and every column that the judge gives (null
        after a relaxation into a cell that cannot be judged).
    """
    from matscout.discovery.screen.candidate_scores import (
        crystals_of,  # `export` names the columns without the ensemble's code
    )

    potential = _load()
    crystals = crystals_of(best)
    results = [_relax(potential, crystal, settings) for crystal in progress(crystals, description="relaxation")]
    relaxed = [crystal for crystal, _ in results]
    ids = best[columns.CANDIDATE_ID].tolist()
    judged = judge.judge(ids, relaxed)
    after = judged.table.drop(columns=columns.MATERIAL_ID).set_index(judged.rows).reindex(range(len(ids)))
    before = best[list(after.columns)].reset_index(drop=True)
    table = pd.DataFrame({columns.CANDIDATE_ID: ids, **{k: [told[k] for _, told in results] for k in results[0][1]}})
    for ending, found in ((BEFORE, crystals), (AFTER, relaxed)):
        shapes = pd.DataFrame([_shape(crystal) for crystal in found])
        said = before if ending == BEFORE else after
        table = pd.concat([table, shapes.add_suffix(ending), said.add_suffix(ending)], axis=1)
    return table


def _load() -> Any:
    from chgnet.model.dynamics import StructOptimizer  # pyright: ignore[reportMissingImports]  # an extra

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints its version and device
        warnings.simplefilter("ignore")
        return StructOptimizer(optimizer_class="FIRE", use_device="cpu")


def _relax(potential: Any, crystal: Crystal, settings: Relaxation) -> tuple[Crystal, dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ase's renamed filters and of figures that CHGNet does not use
        told = potential.relax(
            crystal.to_structure(), fmax=settings.force, steps=settings.steps, verbose=False, relax_cell=True
        )
    path = told["trajectory"]
    largest = float(np.linalg.norm(path.forces[-1], axis=1).max())
    return Crystal.from_structure(told["final_structure"]), {
        "converged": largest <= settings.force,
        "steps": len(path.energies) - 2,  # the start is noted before the first step, the end twice
        "potential_energy_before": float(path.energies[0]) / crystal.n_atoms,
        "potential_energy_after": float(path.energies[-1]) / crystal.n_atoms,
    }


def _shape(crystal: Crystal) -> dict[str, Any]:
    template = make_template("relaxed", crystal)
    return {
        **crystal.to_row(),
        columns.SPACE_GROUP: None if template is None else template.space_group,
        columns.VOLUME_PER_ATOM: crystal.volume / crystal.n_atoms,
    }
