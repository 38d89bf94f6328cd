"""The library is pymatgen's own, whole, and pymatgen is left as it was."""

import subprocess
import sys

from pymatgen.util.provenance import is_valid_bibtex

from matscout.discovery.propose.crystal_templates import pymatgen_prototypes

N_PROTOTYPES = 288


def test_the_library_is_whole():
    assert len(pymatgen_prototypes().AFLOW_PROTOTYPE_LIBRARY) == N_PROTOTYPES
    assert all(
        len(entry["snl"].structure) and entry["tags"]["aflow"]
        for entry in pymatgen_prototypes().AFLOW_PROTOTYPE_LIBRARY
    )


def test_pymatgen_still_checks_the_references_of_others():
    assert is_valid_bibtex("@article{a, title={b}}")
    assert not is_valid_bibtex("no reference")


def test_its_own_references_are_not_parsed():
    code = "import sys; from matscout.discovery.propose.crystal_templates import pymatgen_prototypes as p; p(); print('bibtexparser' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
