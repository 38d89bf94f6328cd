"""Templates: symmetry is found once and holds for every filling; volumes are sums over ions.

The library is pymatgen's own, whole, and pymatgen is left as it was.
"""

import subprocess
import sys

import numpy as np
import pytest
from pymatgen.analysis.prototypes import get_protostructure_label_from_moyopy
from pymatgen.core import Lattice, Structure
from pymatgen.util.provenance import is_valid_bibtex

from matscout.crystal import Crystal
from matscout.discovery.propose.crystal_templates import Parent, make_template, pymatgen_prototypes
from matscout.discovery.propose.ionic_volumes import closest_contacts, fit_ionic_volumes, volume_scales
from matscout.discovery.propose.oxidation_states import ion_table

TABLE = ion_table()
ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def template_of(structure, name="parent"):
    return make_template(name, Crystal.from_structure(structure))


def test_rock_salt_becomes_two_slots_of_a_primitive_cell():
    template = template_of(ROCK_SALT)
    assert (template.n_atoms, template.n_slots, template.space_group, template.pearson) == (2, 2, 225, "cF8")
    assert template.volume == pytest.approx(5.64**3 / 4)
    nearest, next_nearest = 5.64 / 2, 5.64 / np.sqrt(2)
    np.testing.assert_allclose(template.distances, [[next_nearest, nearest], [nearest, next_nearest]])


def test_cell_and_order_of_atoms_do_not_matter():
    template = template_of(ROCK_SALT)
    shuffled = ROCK_SALT * (2, 1, 1)
    shuffled = Structure.from_sites([shuffled[i] for i in np.random.default_rng(0).permutation(len(shuffled))])
    other = template_of(shuffled)
    assert other.label(other.elements) == template.label(template.elements)
    np.testing.assert_allclose(other.distances, template.distances, atol=1e-6)


def test_labels_agree_with_pymatgen_for_parents_and_for_fillings(sample_records):
    compared = 0
    for record in sample_records[::4]:
        template = make_template(record.material_id, record.crystal)
        if template.n_slots != 3:
            continue
        for elements in (template.elements, ("Sr", "Ti", "O"), ("Tl", "B", "Mo")):
            filled = template.fill(elements).to_structure()
            expected = get_protostructure_label_from_moyopy(filled, raise_errors=True).split(":")[0]
            assert template.label(elements) == expected.split("_", 1)[1]
            compared += 1
    assert compared > 20


def test_filling_scales_the_volume_and_keeps_the_space_group():
    template = template_of(ROCK_SALT)
    child = template.fill(("F", "Li"), volume_scale=0.4)
    assert child.volume == pytest.approx(0.4 * template.volume)
    assert child.reduced_formula == "LiF"
    assert make_template("child", child).space_group == 225


def rock_salts(volumes):
    """Parents whose volume is exactly the sum of the given ionic volumes."""
    parents = []
    for cation, anion in [(c, a) for c in ("Na+", "K+", "Rb+", "Li+") for a in ("Cl-", "F-", "Br-")]:
        edge = np.cbrt(4 * (volumes[cation] + volumes[anion]))
        ions = {name: TABLE.names.index(name) for name in (cation, anion)}
        symbols = {name: TABLE.elements[row] for name, row in ions.items()}
        structure = Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(edge), [symbols[cation], symbols[anion]], [[0, 0, 0], [0.5, 0.5, 0.5]]
        )
        template = template_of(structure)
        by_element = {symbols[name]: row for name, row in ions.items()}
        parents.append(Parent(template, tuple(by_element[e] for e in template.elements)))
    return parents


def test_ratios_of_volumes_are_recovered_from_compounds_that_add_up():
    true = {"Na+": 14, "K+": 22, "Rb+": 26, "Li+": 9, "Cl-": 27, "F-": 12, "Br-": 33}
    parents = rock_salts(true)
    fitted = fit_ionic_volumes(TABLE, parents)
    old, new = (np.array([TABLE.names.index(name) for name in pair]) for pair in (("Cl-", "Na+"), ("Br-", "Rb+")))
    scale = volume_scales(fitted, old, new[None], np.array([1, 1]))
    assert scale[0] == pytest.approx((33 + 26) / (27 + 14), rel=0.02)
    assert np.isnan(fitted[TABLE.names.index("Ti4+")])  # never seen: no volume, no guess


def test_contacts_shrink_with_the_cube_root_of_the_volume():
    template = template_of(ROCK_SALT)
    filled = np.array([[TABLE.names.index("Cl-"), TABLE.names.index("Na+")]] * 2)
    full, shrunk = closest_contacts(TABLE, template, filled, np.array([1.0, 0.125]))
    assert shrunk == pytest.approx(full / 2)
    assert 0.9 < full < 1.1  # a known salt has typical bonds


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
