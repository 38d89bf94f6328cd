"""Hand-off: the best candidates as a folder of inputs for calculations, with their provenance.

A script in it relaxes them with atomate2.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import yaml
from pymatgen.core import Structure
from pymatgen.io.vasp.sets import BadInputSetWarning, MPRelaxSet

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.cif_files import cif_text, folder_name
from matscout.discovery.handoff.candidate_records import Origins, provenance_card, structure_lines
from matscout.discovery.relax.relaxed_table import BEFORE, RELAXED_NAME, SUMMARY_NAME, final_ranking
from matscout.errors import InputError
from matscout.files import atomic_path, check_replaceable, sha256_of, write_bytes, write_csv, write_json
from matscout.layout import RANKED
from matscout.params import PARAMS_FILE

NOT_IN_CSV = (*columns.CRYSTAL, *(name + BEFORE for name in columns.CRYSTAL))
MARK: Final = "handoff.json"  # SHA-256 of every file that the export wrote; only a folder with it is replaced
SHOWN: Final = 3


def export_bundle(
    ranked: Path,
    destination: Path,
    *,
    relaxed: Path | None = None,
    top: int = 20,
    ids: Sequence[str] | None = None,
    batch: bool = False,
    origins: Origins | None = None,
) -> pd.DataFrame:
    """Export the first candidates, or those named, into the folder `destination`.

    The folder holds `candidates.csv`, `candidates.jsonl` (OPTIMADE), an atomate2 script and, for each
    candidate, `candidate.cif`, `POSCAR`, `INCAR`, `KPOINTS`, `POTCAR.spec` and `card.json`. A relaxed
    candidate has its relaxed cell, with `unrelaxed.cif` beside it.

    Args:
        ranked: `ranked.parquet` of the stage `screen`.
        relaxed: folder of the stage `relax`: what it relaxed comes first, in its order; None = none.
        destination: folder that is absent, empty, or an earlier export without changes.
        top: how many of the best, ignored where `ids` are given.
        ids: candidate ids, in the order wanted.
        batch: the diverse set to compute together instead of the best, at most `top` of it.
        origins: where weights, data and licences lie, for the cards; None looks in `data/`.

    Returns:
        The rows exported.

    Raises:
        InputError: no such file, an unknown id, fewer than one candidate to export, a ranking that is older than
            `params.yaml`, or a folder that holds other files than an export wrote there.
    """
    destination = Path(destination)
    check_replaceable(destination, MARK)
    _check_untouched(destination)
    check_up_to_date(ranked)
    rows = _chosen(ranked, relaxed, top, ids, batch=batch)
    relaxation = _relaxation(relaxed)
    origins = Origins() if origins is None else origins
    evidence = origins.read(ranked)
    with atomic_path(destination, mark=MARK) as folder:
        folder.mkdir()
        names = {
            _write_candidate(folder, row, provenance_card(row, evidence, relaxation)): str(row[columns.CANDIDATE_ID])
            for row in rows.to_dict("records")
        }
        write_csv(folder / "candidates.csv", rows.drop(columns=[c for c in NOT_IN_CSV if c in rows]))
        (folder / "candidates.jsonl").write_text("".join(f"{line}\n" for line in structure_lines(rows)))
        (folder / SCRIPT_NAME).write_text(workflow_script(names))
        write_json(folder / MARK, _hashes(folder))
    return rows


def _check_untouched(destination: Path) -> None:
    """Do not overwrite an export that someone works in: what they added or changed exists nowhere else."""
    if not (destination / MARK).is_file():
        return
    try:
        written = json.loads((destination / MARK).read_bytes())
    except ValueError as error:
        raise InputError(
            f"{destination / MARK} is not a list of an export's files ({error}); give another folder"
        ) from error
    found = _hashes(destination)
    if own := sorted(name for name, sha256 in found.items() if name != MARK and written.get(name) != sha256):
        names = ", ".join(own[:SHOWN]) + (f" and {len(own) - SHOWN} more" if len(own) > SHOWN else "")
        raise InputError(
            f"{destination} holds files that matscout did not export or that have changed since: {names}; choose "
            "another folder"
        )


def _hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def check_up_to_date(ranked: Path, root: Path = Path()) -> None:
    """Reject this repository's ranking if `params.yaml` has changed since it was made.

    Args:
        ranked: the ranking; another one than the repository's passes.
        root: root of the repository.

    Raises:
        InputError: a parameter of the stage `screen` was changed since; the message names it.
    """
    lock, params = root / "dvc.lock", root / PARAMS_FILE
    if Path(ranked).resolve() != (root / RANKED).resolve() or not lock.is_file() or not params.is_file():
        return
    stage = (yaml.safe_load(lock.read_text()).get("stages") or {}).get("screen") or {}
    made_with = (stage.get("params") or {}).get(PARAMS_FILE.name) or {}
    present = yaml.safe_load(params.read_text())
    if changed := sorted(name for name, value in made_with.items() if value != _value(present, name)):
        raise InputError(
            f"{ranked} is older than {PARAMS_FILE}: {', '.join(changed)} changed since it was ranked; run `dvc repro`"
        )


def _value(tree: Any, name: str) -> Any:
    """The value under a dotted name; None if there is none."""
    for part in name.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _chosen(ranked: Path, relaxed: Path | None, top: int, ids: Sequence[str] | None, *, batch: bool) -> pd.DataFrame:
    ranked = Path(ranked)
    if not ranked.is_file():
        raise InputError(f"{ranked} not found: run the stage `screen` first (dvc repro screen)")
    table = pd.read_parquet(ranked)
    if relaxed is not None and (Path(relaxed) / RELAXED_NAME).is_file():
        table = final_ranking(table, pd.read_parquet(Path(relaxed) / RELAXED_NAME))
    if ids is None:
        if top < 1:
            raise InputError(f"top = {top} leaves nothing to export; give at least 1")
        if batch:
            if columns.BATCH not in table or not table[columns.BATCH].to_numpy().any():
                raise InputError(f"{ranked} holds no batch: run the stage `screen` again (dvc repro screen)")
            table = table.loc[table[columns.BATCH] > 0].sort_values(columns.BATCH)
        return table.head(top).reset_index(drop=True)
    unknown = sorted(set(ids) - set(table[columns.CANDIDATE_ID]))
    if unknown:
        raise InputError(
            f"{ranked} holds no candidate {unknown}; ids look like {table[columns.CANDIDATE_ID].iloc[0]!r}"
        )
    return table.set_index(columns.CANDIDATE_ID, drop=False).loc[list(ids)].reset_index(drop=True)


def _relaxation(folder: Path | None) -> Mapping[str, Any] | None:
    """The summary of the stage `relax`; None if nothing was relaxed."""
    path = None if folder is None else Path(folder) / SUMMARY_NAME
    if path is None or not path.is_file():
        return None
    told = json.loads(path.read_text())
    return told if told["potential"] else None


def _write_candidate(folder: Path, row: dict[str, Any], card: dict[str, Any]) -> str:
    name = folder_name(row)
    crystal = Crystal.from_row(row)
    own = folder / name
    own.mkdir()
    (own / "candidate.cif").write_text(cif_text(crystal))
    if isinstance(row.get(columns.LATTICE + BEFORE), np.ndarray):
        before = Crystal.from_row({name: row[name + BEFORE] for name in columns.CRYSTAL})
        (own / "unrelaxed.cif").write_text(cif_text(before))
    write_vasp_inputs(crystal.to_structure(), own)
    text = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False)  # in its order: the most important is on top
    write_bytes(own / "card.json", f"{text}\n".encode())
    return name


POTCARS = "PBE_52"  # the oldest set that VASP still distributes; MPRelaxSet's own PBE set is not available
YTTERBIUM = {"Yb": columns.YB_3}  # used by the Materials Project when it recomputed all Yb compounds in 2023...
YTTERBIUM_POTCARS = "PBE_54"  # ...and the oldest set that contains it


def write_vasp_inputs(structure: Structure, folder: Path) -> None:
    """Write POSCAR, INCAR, KPOINTS and POTCAR.spec of the Materials Project's GGA/GGA+U relaxation.

    The labels are PBE and PBE+U energies computed with this set, so results can be put on the same hull.
    `POTCAR.spec` names the potentials; the potentials themselves need a VASP licence. Crystals with ytterbium take
    Yb_3, out of the set PBE_54.
    """
    has_ytterbium = "Yb" in structure.composition
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadInputSetWarning)  # it warns about the choice that POTCARS explains
        warnings.simplefilter("ignore", UserWarning)  # and about electronegativities, which are not used here
        inputs = MPRelaxSet(
            structure,
            user_potcar_functional=YTTERBIUM_POTCARS if has_ytterbium else POTCARS,
            user_potcar_settings=YTTERBIUM if has_ytterbium else {},
        )
        inputs.write_input(str(folder), potcar_spec=True)


SCRIPT_NAME = "relax_with_atomate2.py"

_TEMPLATE = '''"""Relax the exported candidates with the Materials Project's GGA workflow.

    pip install atomate2
    python {name}                 # runs on this machine, one after the other
    python {name} --remote        # submits with jobflow-remote instead

Then, in the repository: `matscout collect` this folder, `matscout feedback`, `dvc repro`. Task documents of a
database can be collected too: save each as JSON anywhere below this folder.
"""

import sys
from pathlib import Path

from atomate2.vasp.flows.mp import MPGGADoubleRelaxStaticMaker
from atomate2.vasp.powerups import update_user_potcar_settings
from jobflow import run_locally
from pymatgen.core import Structure

HERE = Path(__file__).parent
CANDIDATES = {{  # folder: id
{candidates}
}}


def main() -> None:
    for name, identity in CANDIDATES.items():
        structure = Structure.from_file(HERE / name / "POSCAR")
        flow = MPGGADoubleRelaxStaticMaker().make(structure)
        if "Yb" in structure.composition:
            flow = update_user_potcar_settings(flow, {{"Yb": "Yb_3"}})  # as the Materials Project since 2023
        flow.append_name(f" {{name}}")
        flow.update_metadata({{"matscout_id": identity}})
        if "--remote" in sys.argv:
            from jobflow_remote import submit_flow

            submit_flow(flow)
        else:
            run_locally(flow, create_folders=True, root_dir=HERE / name)


if __name__ == "__main__":
    main()
'''


def workflow_script(ids: Mapping[str, str]) -> str:
    """The text of the script for candidates in folders beside it; ids by folder."""
    lines = "\n".join(f'    "{name}": "{identity}",' for name, identity in ids.items())
    return _TEMPLATE.format(name=SCRIPT_NAME, candidates=lines)
