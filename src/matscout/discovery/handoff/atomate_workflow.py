"""A script that relaxes exported candidates with atomate2."""

from collections.abc import Mapping

SCRIPT_NAME = "relax_with_atomate2.py"

_TEMPLATE = '''"""Relax the exported candidates with the Materials Project's GGA workflow.

    pip install atomate2
    python {name}                 # runs here, one after the other
    python {name} --remote        # submits with jobflow-remote instead

Then, in the repository: `matscout collect` this folder, `matscout feedback`, `dvc repro`. Task documents of a
database count as well: save each as JSON anywhere below this folder.
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
    """The script's text for candidates in folders beside it; ids by folder."""
    lines = "\n".join(f'    "{name}": "{identity}",' for name, identity in ids.items())
    return _TEMPLATE.format(name=SCRIPT_NAME, candidates=lines)
