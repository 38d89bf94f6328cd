"""VASP inputs that put a candidate on the energy scale of the training labels."""

import warnings
from pathlib import Path

from pymatgen.core import Structure
from pymatgen.io.vasp.sets import BadInputSetWarning, MPRelaxSet

POTCARS = "PBE_52"  # the oldest set that VASP still hands out; MPRelaxSet's own PBE is gone


def write_vasp_inputs(structure: Structure, folder: Path) -> None:
    """Write POSCAR, INCAR, KPOINTS and POTCAR.spec of the Materials Project's GGA/GGA+U relaxation.

    The labels are PBE and PBE+U energies computed with this set, so results can stand on the same hull.
    `POTCAR.spec` names the potentials; the potentials themselves need a VASP licence.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadInputSetWarning)  # it warns of the choice that POTCARS explains
        warnings.simplefilter("ignore", UserWarning)  # and of electronegativities that nothing here uses
        inputs = MPRelaxSet(structure, user_potcar_functional=POTCARS)
        inputs.write_input(str(folder), potcar_spec=True)
