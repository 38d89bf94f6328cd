"""Small structure files of every kind, written here, and what each must be read as: atoms in the cell, or a reason."""

import gzip
import json

CELL = """_cell_length_a {a}
_cell_length_b {b}
_cell_length_c {c}
_cell_angle_alpha {alpha}
_cell_angle_beta {beta}
_cell_angle_gamma {gamma}
"""
SITES = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
TYPED = "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
GYPSUM = """data_gypsum
_chemical_formula_sum 'Ca S O6 H4'
_cell_length_a 5.679
_cell_length_b 15.202
_cell_length_c 6.522
_cell_angle_alpha 90
_cell_angle_beta 118.43
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'I 2/a'
loop_
_space_group_symop_operation_xyz
'x,y,z'
'1/2+x,1/2+y,1/2+z'
'1/2-x,y,-z'
'-x,1/2+y,1/2-z'
'-x,-y,-z'
'1/2-x,1/2-y,1/2-z'
'1/2+x,-y,z'
'x,1/2-y,1/2+z'
"""


def cif(sites, *, a=4.0, b=None, c=None, angles=(90, 90, 90), head="", columns=SITES, name="x"):
    """CIF text: head lines, cell, and a loop of atoms."""
    cell = CELL.format(a=a, b=b or a, c=c or a, alpha=angles[0], beta=angles[1], gamma=angles[2])
    return f"data_{name}\n{head}{cell}{columns}{sites}"


def said(formula=None, z=None, group=None, operators=()):
    """What a CIF says of its crystal as a whole."""
    lines = [f"_chemical_formula_sum '{formula}'"] * bool(formula) + [f"_cell_formula_units_Z {z}"] * bool(z)
    lines += [f"_symmetry_space_group_name_H-M '{group}'"] * bool(group)
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{operator}'" for operator in operators)] * bool(operators)
    return "".join(f"{line}\n" for line in lines)


def poscar(
    names="Cs Cl", counts="1 1", positions="0 0 0\n.5 .5 .5\n", cell="4 0 0\n0 4 0\n0 0 4\n", title="x", scale="1.0"
):
    """POSCAR text."""
    return f"{title}\n{scale}\n{cell}{names}\n{counts}\nDirect\n{positions}"


MONOCLINIC = "Si .1 .2 .3\nO .4 .6 .2\n"
MONOCLINIC_CELL = {"a": 5, "b": 6, "c": 7, "angles": (90, 100, 90)}
P21C = ["x,y,z", "-x,-y,-z", "-x,y+1/2,-z+1/2", "x,-y+1/2,z+1/2"]
CSCL = {"Cs": 1, "Cl": 1}
PAIR = "Cs 0 0 0\nCl .5 .5 .5\n"
MATRIX = [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]]
PYMATGEN = {
    "@module": "os",
    "@class": "system",
    "lattice": {"matrix": MATRIX},
    "sites": [
        {
            "species": [{"element": "Cs", "occu": 1}],
            "abc": [0, 0, 0],
            "properties": {"@module": "os", "@class": "system"},
        },
        {"species": [{"element": "Cl", "oxidation_state": -1, "occu": 1}], "abc": [0.5, 0.5, 0.5]},
    ],
}
OPTIMADE = {
    "lattice_vectors": MATRIX,
    "cartesian_site_positions": [[0, 0, 0], [2, 2, 2]],
    "species_at_sites": ["Cs", "Cl"],
    "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in ("Cs", "Cl")],
    "dimension_types": [1, 1, 1],
    "nperiodic_dimensions": 3,
}
JARVIS = {"lattice_mat": MATRIX, "coords": [[0, 0, 0], [2, 2, 2]], "elements": ["Cs", "Cl"], "cartesian": True}


def changed(document, **changes):
    """JSON text of a document with some keys replaced."""
    return json.dumps(document | changes)


def species(**changes):
    """OPTIMADE's species with the first one changed."""
    first, second = OPTIMADE["species"]
    return [first | changes, second]


# ------------------------------------------------- name, text or bytes, and what it must be read as
FILES = {
    # the symmetry stands in the name of the space group alone
    "lab6.cif": (cif("La 0 0 0\nB .5 .5 .2021\n", a=4.156, head=said("B6 La", group="P m 3 m")), {"La": 1, "B": 6}),
    "silicon.cif": (cif("Si .125 .125 .125\n", a=5.431, head=said("Si", 8, "F d -3 m :2")), {"Si": 8}),
    "silicon_z.cif": (cif("Si .125 .125 .125\n", a=5.431, head=said("Si", 8, "F d -3 m Z")), {"Si": 8}),
    "silicon_1.cif": (cif("Si 0 0 0\n", a=5.431, head=said("Si", 8, "F d -3 m S")), {"Si": 8}),
    "silicon_by_z.cif": (cif("Si .125 .125 .125\n", a=5.431, head=said("Si", 8, "F d -3 m")), {"Si": 8}),
    "silicon_open.cif": (cif("Si .125 .125 .125\n", a=5.431, head=said("Si", None, "F d -3 m")), "symmetry_unclear"),
    "no_symmetry.cif": (cif(PAIR, head=said("Cs Cl")), "symmetry_unclear"),
    "no_symmetry_proven.cif": (cif(PAIR, head=said("Cs Cl", 1)), CSCL),
    "unknown_group.cif": (cif(PAIR, head=said("Cs Cl", 1, "Q 7 seven")), "symmetry_unclear"),
    "group_misfits_cell.cif": (cif(PAIR, a=4, c=5, head=said("Cs Cl", 1, "P m -3 m")), "symmetry_disagrees"),
    "operators_lost.cif": (
        cif("Na 0 0 0\nCl .5 .5 .5\n", a=5.64, head=said("Na Cl", 4, "F m -3 m", ["x,y,z"])),
        {"Na": 4, "Cl": 4},
    ),
    "nearly_special.cif": (
        cif("Zn .3333 .6667 0\nO .3333 .6667 .382\n", a=3.25, c=5.207, angles=(90, 90, 120), head=said("Zn O", 2, "P 63 m c")),
        {"Zn": 2, "O": 2},
    ),
    "hall.cif": (
        cif("Si .125 .125 .125\n", a=5.431, head="_space_group_name_Hall '-F 4vw 2vw 3'\n" + said("Si")),
        {"Si": 8},
    ),
    # elements
    "typed.cif": (cif("HOh1 H 0 0 0\nCl1 Cl .5 .5 .5\n", head=said("H Cl", 1, "P 1"), columns=TYPED), {"H": 1, "Cl": 1}),
    "label_hoh.cif": (cif("HOh1 0 0 0\nCl .5 .5 .5\n", head=said("H Cl", 1, "P 1")), {"H": 1, "Cl": 1}),
    "label_hoh_open.cif": (cif("HOh1 0 0 0\nCl .5 .5 .5\n", head=said(group="P 1")), "element_unclear"),
    "label_oh.cif": (cif("Cl 0 0 0\nOH .5 .5 .5\n", head=said("Cl O H", 1, "P 1")), "hydrogens_missing"),
    "label_oh_open.cif": (cif("Cl 0 0 0\nOH .5 .5 .5\n", head=said(group="P 1")), "element_unclear"),
    "label_wat.cif": (cif("Na 0 0 0\nWat .5 .5 .5\n", head=said("Na O", 1, "P 1")), "unknown_element"),
    "label_wat_open.cif": (cif("Na 0 0 0\nWat .5 .5 .5\n", head=said(group="P 1")), "element_unclear"),
    "label_nh3.cif": (cif("Na 0 0 0\nNH3 .5 .5 .5\n", head=said("Na N H3", 1, "P 1")), "hydrogens_missing"),
    "label_vac.cif": (cif("Na 0 0 0\nVac .5 .5 .5\n", head=said(group="P 1")), "element_unclear"),
    "label_capitals.cif": (cif("CS1 0 0 0\nCL1 .5 .5 .5\n", head=said("Cs Cl", 1, "P 1")), CSCL),
    "label_ambiguous.cif": (cif("CO1 0 0 0\nO1 .5 .5 .5\n", head=said("C O", 1, "P 1")), {"C": 1, "O": 1}),
    "deuterium.cif": (cif("Li Li 0 0 0\nD1 D .5 .5 .5\n", head=said("Li D", 1, "P 1"), columns=TYPED), {"Li": 1, "H": 1}),
    # what the file says of itself
    "gypsum.cif": (
        f"{GYPSUM}{SITES}Ca .25 .07967 0\nS .25 .42273 0\nO1 .0832 .27218 .5905\nO2 .19997 .38195 .9131\nOW .2918 .068 .38\n",
        "hydrogens_missing",
    ),
    "other_formula.cif": (cif(PAIR, head=said("Cs Cl2", 1, "P 1")), "composition_disagrees"),
    "other_units.cif": (cif(PAIR, head=said("Cs Cl", 2, "P 1")), "formula_units_disagree"),
    "other_volume.cif": (cif(PAIR, head=said("Cs Cl", 1, "P 1") + "_cell_volume 90\n"), "cell_disagrees"),
    "two_crystals.cif": (cif(PAIR, head=said("Cs Cl", 1, "P 1")) + cif(PAIR, name="y"), "several_crystals"),
    "header_first.cif": ("data_global\n_publ_section_title 'About CsCl'\n" + cif(PAIR, head=said("Cs Cl", 1, "P 1")), CSCL),
    "half_occupied.cif": (
        cif("Cs 0 0 0 1\nCl .5 .5 .5 .5\n", head=said("Cs Cl", 1, "P 1"), columns=f"{SITES}_atom_site_occupancy\n"),
        "disordered",
    ),
    "latin.cif": (cif(PAIR, head="# Université\n" + said("Cs Cl", 1, "P 1")).encode("latin-1"), CSCL),
    "packed.cif.gz": (gzip.compress(cif(PAIR, head=said("Cs Cl", 1, "P 1")).encode()), CSCL),
    # what several statements of one file leave open or contradict
    "number_alone.cif": (cif("Na 0 0 0\nCl .5 .5 .5\n", a=5.64, head=said("Na Cl", 4) + "_space_group_IT_number 225\n"), {"Na": 4, "Cl": 4}),
    "number_of_nine_settings.cif": (
        cif(MONOCLINIC, **MONOCLINIC_CELL, head=said("Si O", 4) + "_space_group_IT_number 14\n"),
        "symmetry_unclear",
    ),
    "hall_against_name.cif": (
        cif(PAIR, a=6, head=said("Cs Cl", 4, "F m -3 m") + "_space_group_name_Hall 'P 1'\n"),
        {"Cs": 4, "Cl": 4},
    ),
    "operators_whole.cif": (cif(MONOCLINIC, **MONOCLINIC_CELL, head=said("Si O", operators=P21C)), {"Si": 4, "O": 4}),
    "operator_lost.cif": (cif(MONOCLINIC, **MONOCLINIC_CELL, head=said("Si O", operators=P21C[:3])), "symmetry_unclear"),
    "operators_decimal.cif": (
        cif(MONOCLINIC, **MONOCLINIC_CELL, head=said("Si O", operators=[o.replace("1/2", "0.5").replace(",", ", ").upper() for o in P21C])),
        {"Si": 4, "O": 4},
    ),
    "magnetic.mcif": (
        cif(PAIR, head=said("Cs Cl") + "loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n-x,-y,-z,-1\n"),
        CSCL,
    ),
    "disorder_groups.cif": (
        cif("Cs 0 0 0 .\nCl .5 .5 .5 1\nCl .5 .5 .2 2\n", head=said(group="P 1"), columns=f"{SITES}_atom_site_disorder_group\n"),
        "disordered",
    ),
    "type_cn.cif": (cif("Na1 Na 0 0 0\nX CN .5 .5 .5\n", head=said(group="P 1"), columns=TYPED), "element_unclear"),
    "type_capitals.cif": (cif("Cs1 CS 0 0 0\nX CL .5 .5 .5\n", head=said("Cs Cl", 1, "P 1"), columns=TYPED), CSCL),
    "one_atom_of_a_hundred.cif": (
        cif("C .1 0 .5\n" + "".join(f"H {n / 100:.2f} .5 {n % 10 / 10}\n" for n in range(99)), a=9, head=said("C H100", 1, "P 1")),
        "hydrogens_missing",
    ),
    "old_mac.cif": (cif(PAIR, head="# CsCl\n" + said("Cs Cl", 1, "P 1")).replace("\n", "\r"), CSCL),
    # POSCAR
    "POSCAR.CsCl": (poscar(), CSCL),
    "named.vasp": (poscar(names="Cs_sv Cl/5e0a", title="Caf\xe9").encode("latin-1"), CSCL),
    "volume.vasp": (poscar(scale="-64", cell="1 0 0\n0 1 0\n0 0 1\n"), CSCL),
    "POSCAR.packed.gz": (gzip.compress(poscar().encode()), CSCL),
    "nameless.vasp": (poscar().replace("Cs Cl\n", ""), "elements_missing"),
    "billion.vasp": (poscar(counts="1000000000 1"), "too_many_atoms"),
    "cut.vasp": (poscar(positions="0 0 0\n"), "truncated_file"),
    "slab.vasp": (poscar(cell="4 0 0\n0 4 0\n0 0 20\n", positions="0 0 0\n.5 .5 .1\n"), "not_bulk"),
    "flags.vasp": (poscar(positions="0 0 0 T T F\n.5 .5 .5 F F F\n").replace("Direct", "Selective\nDirect"), CSCL),
    "nameless_flags.vasp": (
        poscar(positions="0 0 0 T T F\n.5 .5 .5 F F F\n").replace("Cs Cl\n", "").replace("Direct", "Selective\nDirect"),
        "elements_missing",  # F is not fluorine here, T no tritium
    ),
    "nameless_flags_unsaid.vasp": (poscar(positions="0 0 0 T T F\n.5 .5 .5 F F F\n").replace("Cs Cl\n", ""), "elements_missing"),
    "names_at_ends.vasp": (poscar(positions="0 0 0 Cs\n.5 .5 .5 Cl\n").replace("Cs Cl\n", ""), CSCL),
    "other_names_at_ends.vasp": (poscar(positions="0 0 0 Na\n.5 .5 .5 Cl\n"), "elements_disagree"),
    "one_too_many.vasp": (poscar(positions="0 0 0\n.5 .5 .5\n.2 .2 .2\n"), "count_mismatch"),
    "half_counted.vasp": (poscar(counts="1 1.5"), "count_mismatch"),
    "velocities.vasp": (poscar() + "\n0.1 0 0\n0 0.1 0\n", CSCL),
    "two_frames.vasp": (poscar() + poscar(names="Na Cl"), "several_crystals"),
    "half_hydrogen.vasp": (poscar(names="H.5 Cl"), "unknown_element"),
    # JSON
    "other_cell.json": (changed(PYMATGEN, lattice={"matrix": MATRIX, "a": 9.0}), "cell_disagrees"),
    "other_place.json": (
        changed(PYMATGEN, sites=[PYMATGEN["sites"][0], PYMATGEN["sites"][1] | {"xyz": [1, 1, 1]}]),
        "structure_malformed",
    ),
    "jarvis_other_cell.json": (json.dumps({"atoms": JARVIS | {"abc": [9, 4, 4], "angles": [90, 90, 90]}}), "cell_disagrees"),
    "optimade_more_sites.json": (changed(OPTIMADE, nsites=4), "count_mismatch"),
    "optimade_other_formula.json": (changed(OPTIMADE, chemical_formula_reduced="ClNa"), "composition_disagrees"),
    "optimade_implicit.json": (changed(OPTIMADE, structure_features=["implicit_atoms"]), "hydrogens_missing"),
    "pymatgen.json": (json.dumps(PYMATGEN), CSCL),
    "slab.json": (changed(PYMATGEN, lattice={"matrix": MATRIX, "pbc": [True, True, False]}), "not_periodic"),
    "jarvis.json": (json.dumps({"jid": "JVASP-1", "atoms": JARVIS}), CSCL),
    "optimade.json": (json.dumps({"id": "a", "type": "structures", "attributes": OPTIMADE}), CSCL),
    "optimade_half.json": (changed(OPTIMADE, species=species(concentration=[0.5])), "disordered"),
    "optimade_hydrogens.json": (changed(OPTIMADE, species=species(attached=["H"], nattached=[1])), "hydrogens_missing"),
    "optimade_assemblies.json": (changed(OPTIMADE, assemblies=[{"sites_in_groups": [[0], [1]]}]), "disordered"),
    "optimade_layer.json": (changed(OPTIMADE, dimension_types=[1, 1, 0]), "not_periodic"),
    "transposed.json": (
        json.dumps({"lattice": MATRIX, "species": ["Cs", "Cl"], "frac_coords": [[0, 0.5], [0, 0.5], [0, 0.5]]}),
        "coordinates_malformed",
    ),
}  # fmt: skip


def content_of(name):
    """The bytes of a file."""
    content = FILES[name][0]
    return content if isinstance(content, bytes) else content.encode()


def write_all(folder):
    """Write every file into `folder`; their paths."""
    for name in FILES:
        (folder / name).write_bytes(content_of(name))
    return [folder / name for name in FILES]
