"""Measurement 2: OQMD's perovskites against the Materials Project: matches, fitted offset, held-out residuals."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.curation.disguised_rows import record_of
from benchmarks.shared_rows import SHARED, crystal_of, file_of, read_file
from matscout.curation.curate import curate_records
from matscout.params import Curation
from matscout.sources.record import Record

PEROVSKITES = SHARED / "oqmd_perovskites"


def measure_offsets(params: Curation, *, workers: int) -> dict[str, Any]:
    """Curate both databases (of the large one the formulas that the other has) and read the fit."""
    oqmd = [_record(row, "oqmd") for row in read_file(PEROVSKITES / "oqmd_perovskites_11265.jsonl.gz")]
    formulas = {record.crystal.reduced_formula for record in oqmd}
    project: dict[str, Record] = {}
    for file in (file_of("mp_36k"), PEROVSKITES / "mp_perovskites_1784.jsonl.gz"):
        for row in read_file(file):
            record = _record(row, "materials_project")
            if record.crystal.reduced_formula in formulas:
                project.setdefault(record.material_id, record)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        curate_records([*project.values(), *oqmd], [], {}, params, Path(folder), workers=workers)
        summary = json.loads((Path(folder) / "summary.json").read_text())
    fit = summary["offsets"]["sources"]["oqmd/PBE"]
    telling = sorted(fit["elements"].items(), key=lambda item: -item[1]["n_pairs"])[:12]
    return {
        "rows": {"materials_project": len(project), "oqmd": len(oqmd)},
        "wall_s": round(time.perf_counter() - started, 1),
        "rejected": summary["rejected"],
        "duplicates": summary["duplicates"],
        "matched_materials": fit["n_pairs"],
        "constant": fit["constant"],
        "elements_of_most_pairs": dict(telling),
        "held_out": fit["held_out"],
        "label_noise": summary["label_noise"],
    }


def _record(row: dict[str, Any], source: str) -> Record:
    name = f"oqmd-{row['material_id']}" if source == "oqmd" else row["material_id"]
    labels = {key: row.get(key) for key in ("formation_energy_per_atom", "band_gap")}
    return record_of(name, source, crystal_of(row), **labels)
