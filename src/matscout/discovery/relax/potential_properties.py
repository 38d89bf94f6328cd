"""What goals are really about, for relaxed crystals, by the potential that relaxed them: columns with their errors."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax.after_relaxation import NoValueError
from matscout.discovery.relax.equation_of_state import bulk_modulus
from matscout.discovery.relax.insertion_voltage import average_voltage
from matscout.discovery.relax.relax_all import loaded
from matscout.discovery.relax.surface_energy import surface_energy
from matscout.engine import parallel_stream
from matscout.errors import StoreError
from matscout.params import Goal, Relaxation
from matscout.potentials.potential import Potential
from matscout.resume.parts import Parts

Compute = Callable[[Crystal, Potential, Relaxation], tuple[dict[str, float], str]]

PROPERTIES: Final[dict[str, tuple[Compute, tuple[str, ...]]]] = {  # of `relaxation.properties`: how, and its columns
    columns.SURFACE_ENERGY: (surface_energy, (columns.SURFACE_ENERGY,)),
    columns.AVERAGE_VOLTAGE: (average_voltage, (columns.AVERAGE_VOLTAGE, columns.VOLUME_CHANGE)),
    columns.BULK_MODULUS_POTENTIAL: (bulk_modulus, (columns.BULK_MODULUS_POTENTIAL,)),
}
ERRORS: Final = {  # in the column's unit, of the value: root mean squares of benchmarks/discovery/potential_properties
    columns.SURFACE_ENERGY: (0.0, 0.12),
    columns.AVERAGE_VOLTAGE: (0.5, 0.0),
    columns.VOLUME_CHANGE: (0.1, 0.0),
    columns.BULK_MODULUS_POTENTIAL: (0.0, 0.075),
}
REASON: Final = "_reason"
DETAIL: Final = "_detail"
FAILED: Final = "failed"


def asked_properties(settings: Relaxation, goal: Goal) -> tuple[str, ...]:
    """Names of `PROPERTIES`: those of the settings, and those whose columns the goal names."""
    wanted = {*settings.properties, *(aim.column for aim in goal.relaxed)}
    return tuple(name for name, (_, made) in PROPERTIES.items() if wanted & {name, *made})


def properties_of_all(
    crystals: Sequence[Crystal], names: Sequence[str], settings: Relaxation, parts: Parts, *, workers: int
) -> pd.DataFrame:
    """Compute properties of relaxed crystals side by side; a killed run goes on with the one that it was at.

    Args:
        crystals: n at rest.
        names: of `PROPERTIES`.
        settings: the section `relaxation`.
        parts: of this very run; what they hold already is not done again.
        workers: processes; the results do not depend on their number.

    Returns:
        n rows: each column with its error (`_std`); NaN where a property cannot be told, for the reason in
        `<property>_reason` and, in words, `<property>_detail`.

    Raises:
        StoreError: the parts were changed from outside.
    """
    tasks = [(place, name, crystal) for place, crystal in enumerate(crystals) for name in names]
    todo = [task for task in tasks if parts.table(_part(*task[:2])) is None]
    function = partial(_compute_one, settings, parts.folder.resolve())
    for _ in parallel_stream(function, todo, workers=workers, description="properties", unit="property"):
        pass
    rows: list[dict[str, Any]] = [{} for _ in crystals]
    for place, name, _ in tasks:
        if (table := parts.table(_part(place, name))) is None:
            raise StoreError(f"{parts.folder} was changed while it was read; run the stage again")
        rows[place] |= table.to_pylist()[0]
    return pd.DataFrame(rows, index=range(len(crystals)))


def _compute_one(settings: Relaxation, folder: Path, task: tuple[int, str, Crystal]) -> None:
    place, name, crystal = task
    row = _row(name, crystal, loaded(settings), settings)
    Parts(folder).save_table(_part(place, name), pa.Table.from_pylist([row]))


def _row(name: str, crystal: Crystal, potential: Potential, settings: Relaxation) -> dict[str, Any]:
    compute, made = PROPERTIES[name]
    values, reason = dict.fromkeys(made, np.nan), ""
    try:
        values, detail = compute(crystal, potential, settings)
    except NoValueError as error:
        reason, detail = error.reason, error.detail
    except Exception as error:  # noqa: BLE001 -- libraries fail on odd crystals in many ways; none stops the stage
        reason, detail = FAILED, f"{type(error).__name__}: {error}"
    if not reason and not np.isfinite(list(values.values())).all():
        reason, detail = FAILED, "the potential gives no finite energy"
        values = dict.fromkeys(made, np.nan)
    row: dict[str, Any] = {}
    for column, value in values.items():
        absolute, relative = ERRORS[column]
        row |= {column: float(value), column + columns.STD: float(np.hypot(absolute, relative * value))}
    return row | {name + REASON: reason, name + DETAIL: detail}


def _part(place: int, name: str) -> str:
    return f"{name}-{place}"
