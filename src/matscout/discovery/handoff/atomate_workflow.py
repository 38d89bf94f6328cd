"""A script that relaxes exported candidates with atomate2."""

from collections.abc import Sequence

SCRIPT_NAME = "relax_with_atomate2.py"

_TEMPLATE = '''"""Relax the exported candidates with the Materials Project's GGA workflow.

    pip install atomate2
    python {name}                 # runs here, one after the other
    python {name} --remote        # submits with jobflow-remote instead

Results belong into data/feedback/*.jsonl of the repository: `material_id` (the folder's last part),
`lattice`, `species`, `frac_coords`, `functional` (PBE), `formation_energy_per_atom` (eV/atom, MP2020-corrected),
`band_gap` (eV); then `matscout feedback` and `dvc repro`.
"""

import sys
from pathlib import Path

from atomate2.vasp.flows.mp import MPGGADoubleRelaxStaticMaker
from atomate2.vasp.powerups import update_user_potcar_settings
from jobflow import run_locally
from pymatgen.core import Structure

HERE = Path(__file__).parent
CANDIDATES = (
{candidates}
)


def main() -> None:
    for name in CANDIDATES:
        structure = Structure.from_file(HERE / name / "POSCAR")
        flow = MPGGADoubleRelaxStaticMaker().make(structure)
        if "Yb" in structure.composition:
            flow = update_user_potcar_settings(flow, {{"Yb": "Yb_3"}})  # as the Materials Project since 2023
        flow.append_name(f" {{name}}")
        flow.update_metadata({{"matscout_id": name.rsplit("_", 1)[-1]}})
        if "--remote" in sys.argv:
            from jobflow_remote import submit_flow

            submit_flow(flow)
        else:
            run_locally(flow, create_folders=True)


if __name__ == "__main__":
    main()
'''


def workflow_script(names: Sequence[str]) -> str:
    """The script's text for candidates in the folders `names` beside it."""
    return _TEMPLATE.format(name=SCRIPT_NAME, candidates="\n".join(f'    "{name}",' for name in names))
