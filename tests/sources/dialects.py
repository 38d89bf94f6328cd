"""Well-known crystals written as people and programs write them, and as they should not: each is read as itself or refused.

A dialect is a choice of everything that a format leaves open (line ends, order, symmetry by operations, name, number or
Hall symbol, settings, flags, units of length). A slip is what goes wrong by hand: a line lost, doubled or changed.
"""

import json
import random
from collections import Counter
from functools import lru_cache

from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.groups import SpaceGroup

# name: Hermann-Mauguin, number, Hall, formula, Z, lattice, sites (standard setting, hexagonal axes, origin 2)
KNOWN = {
    "CsCl": ("P m -3 m", 221, "-P 4 2 3", "Cl Cs", 1, Lattice.cubic(4.12), {"Cs": [(0, 0, 0)], "Cl": [(0.5, 0.5, 0.5)]}),
    "LaB6": ("P m -3 m", 221, "-P 4 2 3", "B6 La", 1, Lattice.cubic(4.156), {"La": [(0, 0, 0)], "B": [(0.5, 0.5, 0.2021)]}),
    "NaCl": ("F m -3 m", 225, "-F 4 2 3", "Cl Na", 4, Lattice.cubic(5.64), {"Na": [(0, 0, 0)], "Cl": [(0.5, 0.5, 0.5)]}),
    "TiO2": (
        "P 42/m n m", 136, "-P 4n 2n", "O2 Ti", 2, Lattice.tetragonal(4.594, 2.959),
        {"Ti": [(0, 0, 0)], "O": [(0.3053, 0.3053, 0)]},
    ),
    "ZnO": (
        "P 63 m c", 186, "P 6c -2c", "O Zn", 2, Lattice.hexagonal(3.25, 5.207),
        {"Zn": [(1 / 3, 2 / 3, 0)], "O": [(1 / 3, 2 / 3, 0.382)]},
    ),
    "Al2O3": (
        "R -3 c", 167, '-R 3 2"c', "Al2 O3", 6, Lattice.hexagonal(4.7589, 12.991),
        {"Al": [(0, 0, 0.3523)], "O": [(0.3064, 0, 0.25)]},
    ),
    "LiD": ("F m -3 m", 225, "-F 4 2 3", "D Li", 4, Lattice.cubic(4.07), {"Li": [(0, 0, 0)], "D": [(0.5, 0.5, 0.5)]}),
}  # fmt: skip


@lru_cache
def crystal_of(name):
    """The whole cell, by pymatgen, and atoms by element as they must be read: deuterium is hydrogen."""
    _, number, _, _, _, lattice, sites = KNOWN[name]
    symbols = [symbol for symbol, places in sites.items() for _ in places]
    places = [place for group in sites.values() for place in group]
    structure = Structure.from_spacegroup(number, lattice, symbols, places)
    counts = Counter("H" if site.specie.symbol == "D" else site.specie.symbol for site in structure)
    return structure, dict(counts)


def cif_of(chance: random.Random):
    """CIF text in a dialect, and what it must be read as."""
    name = chance.choice(list(KNOWN))
    group, number, hall, formula, units, lattice, sites = KNOWN[name]
    _, counts = crystal_of(name)
    names = [group, group.replace(" ", ""), group.replace(" ", "_"), group.lower(), *[f"{group} :H"] * (number == 167)]
    operations = [
        [text.strip() for text in op.as_xyz_str().split(",")]
        for op in sorted(SpaceGroup.from_int_number(number).symmetry_ops, key=str)
    ]
    shift = chance.choice(
        [str, lambda part: part.replace("1/2", "0.5").replace("1/3", ".33333").replace("2/3", ".666667")]
    )
    comma = chance.choice([",", ", ", " , "])
    listed = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(
        f"'{comma.join(shift(part) for part in op)}'\n" for op in operations
    )
    symmetry = {
        "operations": listed,
        "operations numbered": "loop_\n_space_group_symop_id\n_space_group_symop_operation_xyz\n"
        + "".join(f"{n} '{comma.join(op).upper()}'\n" for n, op in enumerate(operations, 1)),
        "magnetic": "loop_\n_space_group_symop_magn_operation.id\n_space_group_symop_magn_operation.xyz\n"
        + "".join(f"{n} {','.join(op)},{chance.choice('+-')}1\n" for n, op in enumerate(operations, 1)),
        "name": f"_space_group_name_H-M_alt '{chance.choice(names)}'\n",
        "old name": f'_symmetry_space_group_name_H-M "{chance.choice(names)}"\n',
        "Hall": f"_space_group_name_Hall {json.dumps(hall) if chr(34) not in hall else chr(39) + hall + chr(39)}\n",
        "number": f"_space_group_IT_number {number}\n",
        "name and number": f"_space_group_IT_number {number}\n_space_group_name_H-M_alt '{group}'\n",
    }
    digits = chance.choice([4, 5, 6])
    uncertain = chance.choice(["", "(3)", "(12)"])
    rows = []
    for symbol, places in sites.items():
        for row, place in enumerate(places, 1):
            label = chance.choice([symbol, f"{symbol}{row}", f"{symbol}{row}A", f"{symbol}({row})"])
            kind = chance.choice([symbol, f"{symbol}2+", "?", "."]) if "D" not in symbol else symbol
            rows.append(
                [
                    label,
                    kind,
                    *(f"{x:.{digits}f}{uncertain if x % 0.5 else ''}" for x in place),
                    chance.choice(["1", "1.0000(3)", "1.", "?", "."]),
                ]
            )
    columns = ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy"]
    order = chance.sample(range(6), 6)
    dot = chance.choice(["_", "."])
    loop = "loop_\n" + "".join(f"_atom_site{dot}{columns[n]}\n" for n in order)
    loop += "".join("  ".join(row[n] for n in order) + chance.choice(["\n", " # site\n", "\n\n"]) for row in rows)
    cell = "".join(
        f"_cell_{what} {value:.4f}{uncertain if kind == 'length' else ''}\n"
        for kind, what, value in zip(
            ["length"] * 3 + ["angle"] * 3,
            ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"],
            lattice.parameters,
            strict=True,
        )
    )
    said = chance.choice([f"_chemical_formula_sum '{formula}'\n", f"_chemical_formula_sum\n;\n {formula}\n;\n"])
    said += chance.choice([f"_cell_formula_units_Z {units}\n"] * 3 + ["_cell_formula_units_Z ?\n"])
    said += chance.choice([f"_cell_volume {lattice.volume:.2f}\n", "_cell_volume ?\n", ""])
    parts = [cell, said, symmetry[chance.choice(list(symmetry))]]
    chance.shuffle(parts)
    asides = ["", "data_global\n_journal_name_full 'loop_ _atom_site_fract_x'\n", "# data_none\n", "global_\n"]
    text_field = chance.choice(["", "_publ_section_comment\n;\ndata_b\nloop_\n_atom_site_label\nXe\n;\n"])
    return f"{chance.choice(asides)}data_{name}\n{text_field}{''.join(parts)}{loop}", counts


def poscar_of(chance: random.Random):
    """POSCAR text in a dialect, and what it must be read as."""
    structure, counts = crystal_of(chance.choice(list(KNOWN)))
    sites = list(structure)
    if chance.random() < 0.3:
        chance.shuffle(sites)  # the same element several times in the line of names
    groups: list[tuple[str, int]] = []
    for site in sites:
        symbol = site.specie.symbol
        groups = (
            [*groups[:-1], (symbol, groups[-1][1] + 1)]
            if groups and groups[-1][0] == symbol
            else [*groups, (symbol, 1)]
        )
    is_direct, is_selective = chance.random() < 0.6, chance.random() < 0.5
    names = chance.choice(["line", "line", "ends", "both", "none"])
    scale = chance.choice([1.0, 2.0, structure.lattice.a])
    first = f"{scale}" if chance.random() < 0.7 else f"{-structure.volume:.6f}"
    matrix = structure.lattice.matrix / scale
    if first[0] == "-":
        scale = 1.0
    lines = [chance.choice(["3 4 5", "", "Caf\xe9", "POSCAR of 2 elements"]), f"{first} {chance.choice(['', '! 2 2'])}"]
    lines += ["  ".join(f"{x:.8f}" for x in row) + chance.choice(["", "  # 1 2 3"]) for row in matrix]
    if names in {"line", "both"}:
        lines.append("  ".join(symbol + chance.choice(["", "", "_pv", "_sv_GW"]) for symbol, _ in groups))
    lines.append("  ".join(str(n) for _, n in groups) + chance.choice(["", " ! 7 8"]))
    lines += ["Selective dynamics"] * is_selective
    lines.append(chance.choice(["Direct", "direct", "D"] if is_direct else ["Cartesian", "cart", "K"]))
    for site in sites:
        place = site.frac_coords if is_direct else site.coords / (scale if first[0] != "-" else 1.0)
        words = [f"{x:.8f}" for x in place] + [chance.choice("TF") for _ in range(3)] * is_selective
        lines.append("  ".join(words + [site.specie.symbol] * (names in {"ends", "both"})))
    tail = chance.choice(["none", "none", "blank", "velocities", "mode"])
    if tail != "none":
        lines += {"blank": [""], "velocities": [""], "mode": ["Cartesian"]}[tail]
        lines += ["0.1 0.2 0.3"] * len(sites) * (tail != "blank")
    return "\n".join(lines) + "\n", counts


def xyz_of(chance: random.Random):
    """A frame of extended XYZ in a dialect, and what it must be read as."""
    structure, counts = crystal_of(chance.choice(list(KNOWN)))
    parts = ['Lattice="' + " ".join(f"{x:.8f}" for x in structure.lattice.matrix.ravel()) + '"']
    parts += [chance.choice(["", 'pbc="T T T"', 'pbc="T T F"', "energy=-1.5", "band_gap=1.2 comment='a b'"])]
    kinds = {"species": "species:S:1", "pos": "pos:R:3", "forces": "forces:R:3", "Z": "Z:I:1"}
    order = chance.choice(
        [["species", "pos"], ["pos", "species"], ["species", "pos", "forces"], ["Z", "pos"], ["species", "forces"]]
    )
    parts.append("Properties=" + ":".join(kinds[part] for part in order))
    if chance.random() < 0.2:
        del parts[0]
    chance.shuffle(parts)
    values = {
        "species": lambda site: site.specie.symbol,
        "pos": lambda site: " ".join(f"{x:.8f}" for x in site.coords),
        "forces": lambda _: "0.1 0 0",
        "Z": lambda site: str(site.specie.Z),
    }
    rows = [" ".join(values[part](site) for part in order) for site in structure]
    return "\n".join([str(len(rows)), " ".join(parts), *rows]) + "\n", counts


def document_of(chance: random.Random):
    """A JSON document of one of five kinds, and what it must be read as."""
    structure, counts = crystal_of(chance.choice(list(KNOWN)))
    matrix, symbols = structure.lattice.matrix.tolist(), [site.specie.symbol for site in structure]
    match chance.randrange(4):
        case 0:
            document = structure.as_dict(verbosity=chance.randrange(2))
            if chance.random() < 0.3:
                a, b, c, alpha, beta, gamma = structure.lattice.parameters
                document["lattice"] = {"a": a, "b": b, "c": c, "alpha": alpha, "beta": beta, "gamma": gamma}
                document["sites"] = [{key: site[key] for key in ("species", "abc")} for site in document["sites"]]
        case 1:
            lattice = structure.lattice
            document = {
                "lattice_mat": matrix,
                "elements": symbols,
                "abc": list(lattice.abc),
                "angles": list(lattice.angles),
            }
            document["cartesian"] = chance.random() < 0.5
            document["coords"] = (structure.cart_coords if document["cartesian"] else structure.frac_coords).tolist()
        case 2:
            document = {"lattice_vectors": matrix, "cartesian_site_positions": structure.cart_coords.tolist()}
            document |= {"species_at_sites": symbols, "nsites": len(symbols), "dimension_types": [1, 1, 1]}
            document["species"] = [
                {"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(set(symbols))
            ]
            ratio = structure.composition.get_integer_formula_and_factor()[0]
            document["chemical_formula_reduced"] = ratio
        case _:
            document = {"lattice": matrix, "species": symbols, "frac_coords": structure.frac_coords.tolist()}
    return document, counts


def with_a_slip(text: str, chance: random.Random, words: tuple[str, ...]) -> str:
    """The text with one line lost, doubled, exchanged, or one of its words changed into one of `words`."""
    lines = text.splitlines()
    at = chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            written = lines[at].split() or ["x"]
            written[chance.randrange(len(written))] = chance.choice(words)
            lines[at] = " ".join(written)
    return "\n".join(lines) + "\n"
