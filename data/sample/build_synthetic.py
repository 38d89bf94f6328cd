"""Build `aflow/` and `oqmd/`: synthetic stand-ins in the shape of each service's answers, out of `materials_project/`.

    python data/sample/build_synthetic.py

No row of these folders comes from AFLOW or OQMD, and every one says `"synthetic": true`. They let the
parsing, the matching of twins and the fit of reference offsets run before anyone has network access:
`planted_offsets.json` beside the pages states what was put in, so that what curation recovers can be
compared. The README beside this file states the recipe; the constants below are it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pymatgen.core import Composition, Element, Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from matscout.files import write_json
from matscout.sources.licences import MATERIALS_PROJECT
from matscout.sources.snapshots.snapshot_files import Manifest, read_page, write_manifest, write_page

HERE = Path(__file__).parent
N_TWINS, N_OTHERS = 250, 150
MAX_ATOMS = 16  # of the parent: keeps the folder small and the matching quick
ROWS_PER_PAGE = 200
GAP_NOISE, GAP_DISAGREEMENT = 0.08, 0.03  # eV; share of twins that swap metal and insulator
PARENT_NOISE = 0.15  # eV/atom: what replacing an element changes, a plainly invented number
SITE_NOISE = 0.004  # Å, on a third of the twins
N_PER_ELEMENT = 30  # twins that hold each planted element, at least

# Elements of one row take each other's place.
ISOVALENT = (
    ("Li", "Na", "K", "Rb", "Cs"), ("Mg", "Ca", "Sr", "Ba"), ("B", "Al", "Ga", "In"), ("Si", "Ge", "Sn"),
    ("P", "As", "Sb"), ("S", "Se", "Te"), ("F", "Cl", "Br", "I"), ("Sc", "Y", "La", "Lu"), ("Ti", "Zr", "Hf"),
    ("V", "Nb", "Ta"), ("Cr", "Mo", "W"), ("Mn", "Tc", "Re"), ("Fe", "Ru", "Os"), ("Co", "Rh", "Ir"),
    ("Ni", "Pd", "Pt"), ("Cu", "Ag", "Au"), ("Zn", "Cd"), ("Pr", "Nd", "Sm", "Gd", "Tb", "Dy", "Ho", "Er"),
)  # fmt: skip

Row = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How one stand-in differs from its parents.

    Attributes:
        seed: of the random generator.
        constant: added to every formation energy, eV/atom.
        elements: added per atom of the element, eV.
        noise: standard deviation of the formation energy, eV/atom.
        strain: mean linear strain of the cells; the reverse sign for one cell in ten.
    """

    seed: int
    constant: float
    elements: MappingProxyType[str, float]
    noise: float
    strain: float

    def shift(self, composition: Composition) -> float:
        """Planted offset of one composition, eV/atom: constant + sum of x_el * offset_el."""
        return self.constant + sum(composition.get_atomic_fraction(el) * de for el, de in self.elements.items())


RECIPES = {
    "aflow": Recipe(
        seed=101,
        constant=0.02,
        elements=MappingProxyType({"O": 0.35, "F": 0.25, "Cl": 0.30, "S": 0.20, "N": 0.15, "Fe": 0.12}),
        noise=0.020,
        strain=0.005,
    ),
    "oqmd": Recipe(
        seed=202,
        constant=0.04,
        elements=MappingProxyType({"O": 0.12, "F": -0.10, "Cl": 0.15, "S": 0.08, "N": -0.06, "Mn": 0.18}),
        noise=0.015,
        strain=0.008,
    ),
}


@dataclass(frozen=True)
class Made:
    """One synthetic material before it takes a service's shape."""

    parent: str
    is_twin: bool
    structure: Structure
    formation_energy: float  # eV/atom
    band_gap: float  # eV
    hull: float | None  # eV/atom


def main() -> None:
    """Build both stand-ins."""
    sample = _sample()
    formulas = {structure.composition.reduced_formula for _, structure in sample}
    parents = [pair for pair in sample if _is_parent(*pair)]
    for name, recipe in RECIPES.items():
        made = list(_make(parents, formulas, recipe))
        pages = _aflux_pages(made) if name == "aflow" else _oqmd_pages(made)
        _write(name, recipe, made, pages)
        print(f"{name}: {sum(m.is_twin for m in made)} twins, {sum(not m.is_twin for m in made)} others")


def _sample() -> list[tuple[Row, Structure]]:
    """The real sample, in the order of its pages."""
    documents = [d for path in sorted((HERE / "materials_project").glob("pages-*")) for d in read_page(path)["data"]]
    return [(document, Structure.from_dict(document["structure"])) for document in documents]


def _is_parent(document: Row, structure: Structure) -> bool:
    """Both labels and a small cell."""
    return len(structure) <= MAX_ATOMS and {"band_gap", "formation_energy_per_atom"} <= document.keys()


# ---------------------------------------------------------------------------------- materials
def _make(parents: list[tuple[Row, Structure]], formulas: set[str], recipe: Recipe) -> Iterable[Made]:
    rng = np.random.default_rng(recipe.seed)
    order = [parents[i] for i in rng.permutation(len(parents))]
    for document, structure in _twins(order, recipe):
        yield _label(document, _distort(structure, recipe, rng), recipe, rng, is_twin=True)
    taken, n_made = set(formulas), 0
    for document, structure in order:
        substituted = _substitute(structure, rng)
        if substituted is None or substituted.composition.reduced_formula in taken:
            continue
        taken.add(substituted.composition.reduced_formula)
        yield _label(document, substituted, recipe, rng, is_twin=False)
        n_made += 1
        if n_made == N_OTHERS:
            return


def _twins(order: list[tuple[Row, Structure]], recipe: Recipe) -> list[tuple[Row, Structure]]:
    """`N_TWINS` parents, first enough of each planted element to fit its offset, then any."""
    chosen: dict[str, tuple[Row, Structure]] = {}
    for element in recipe.elements:
        holders = [pair for pair in order if Element(element) in pair[1].composition]
        chosen |= {document["material_id"]: (document, structure) for document, structure in holders[:N_PER_ELEMENT]}
    for document, structure in order:
        if len(chosen) >= N_TWINS:
            break
        chosen.setdefault(document["material_id"], (document, structure))
    return [chosen[key] for key in sorted(chosen, key=lambda key: int(key.split("-")[1]))]


def _distort(structure: Structure, recipe: Recipe, rng: np.random.Generator) -> Structure:
    """Another relaxation of the same material: strained, in another cell or origin, now and then rattled."""
    strain = abs(rng.normal(recipe.strain, 0.002)) * (1 if rng.random() < 0.9 else -1)
    choice, is_rattled = rng.integers(3), rng.random() < 1 / 3
    twin = structure.copy()
    if choice == 1 and len(structure) <= MAX_ATOMS // 4:
        twin = SpacegroupAnalyzer(twin, symprec=1e-3).get_conventional_standard_structure()
    elif choice == 2:
        twin.translate_sites(list(range(len(twin))), rng.random(3), to_unit_cell=True)
    twin = Structure(Lattice(twin.lattice.matrix * (1 + strain)), twin.species, twin.frac_coords)
    if is_rattled:
        twin.perturb(SITE_NOISE, seed=int(rng.integers(2**31)))
    return twin


def _substitute(structure: Structure, rng: np.random.Generator) -> Structure | None:
    """One element replaced by another of its kind, the cell scaled by the change of the atomic radii."""
    present = {element.symbol for element in structure.composition}
    options = [
        (old, new) for group in ISOVALENT for old in group if old in present for new in group if new not in present
    ]
    if not options:
        return None
    old, new = options[rng.integers(len(options))]
    volumes = {s: float(Element(s).atomic_radius or 1.5) ** 3 for s in (*present, new)}
    counts = structure.composition.get_el_amt_dict()
    before = sum(counts[s] * volumes[s] for s in counts)
    after = before + counts[old] * (volumes[new] - volumes[old])
    substituted = structure.copy()
    substituted.replace_species({old: new})
    substituted.scale_lattice(structure.volume * after / before)
    return substituted


def _label(document: Row, structure: Structure, recipe: Recipe, rng: np.random.Generator, *, is_twin: bool) -> Made:
    """The parent's labels, the planted shift, and noise."""
    energy = document["formation_energy_per_atom"] + recipe.shift(structure.composition)
    energy += rng.normal(0, recipe.noise) + (0.0 if is_twin else rng.normal(0, PARENT_NOISE))
    gap, draws = document["band_gap"], rng.random(2)
    if gap > 0:
        gap = max(0.0, gap + rng.normal(0, GAP_NOISE))
    if draws[0] < GAP_DISAGREEMENT:
        gap = 0.0 if gap > 0 else 0.05 + 0.35 * draws[1]
    hull = document.get("energy_above_hull") if is_twin else None
    return Made(document["material_id"], is_twin, structure, energy, gap, hull)


# ---------------------------------------------------------------------------------- shapes
def _aflux_pages(made: list[Made]) -> list[Any]:
    """AFLUX today: a bare list of objects, ordered by `auid`; atoms grouped by species in alphabetical order."""
    rows = sorted((_aflux_row(m) for m in made), key=lambda row: row["auid"])
    return [rows[start : start + ROWS_PER_PAGE] for start in range(0, len(rows), ROWS_PER_PAGE)]


def _aflux_row(made: Made) -> Row:
    sites = sorted(made.structure, key=lambda site: site.specie.symbol)
    symbols = [site.specie.symbol for site in sites]
    species = sorted(set(symbols))
    composition = [symbols.count(symbol) for symbol in species]
    gap = round(made.band_gap, 4)
    digest = hashlib.sha256(f"matscout-aflow-{made.parent}-{made.structure.formula}".encode()).hexdigest()[:16]
    return {
        "auid": f"aflow:{digest}",
        "aurl": f"synthetic:matscout/{made.parent}",
        "compound": "".join(f"{symbol}{n}" for symbol, n in zip(species, composition, strict=True)),
        "geometry": [round(x, 6) for x in made.structure.lattice.parameters],
        "species": species,
        "composition": composition,
        "positions_fractional": [[round(x % 1.0, 6) for x in site.frac_coords] for site in sites],
        "enthalpy_formation_atom": round(made.formation_energy, 5),
        "Egap": gap,
        "Egap_type": "metal" if gap == 0 else "insulator-indirect",
        "catalog": "SYNTHETIC",
        "spacegroup_relax": None,
        "dft_type": ["PAW_PBE"],
        "ldau_type": None,
        "ldau_TLUJ": None,
        "species_pp_version": None,
        "aflowlib_date": None,
        "ael_bulk_modulus_vrh": None,
        "synthetic": True,
        "synthetic_parent": made.parent,
        "synthetic_twin": made.is_twin,
    }


def _oqmd_pages(made: list[Made]) -> list[Any]:
    """OQMD: one REST answer with the labels and one OPTIMADE answer with the cells, joined on `formationenergy_id`."""
    pages = []
    for start in range(0, len(made), ROWS_PER_PAGE):
        chunk = list(enumerate(made))[start : start + ROWS_PER_PAGE]
        labels = [_oqmd_label(m, 900_000_000 + i) for i, m in chunk]
        cells = [_oqmd_cell(m, 900_000_000 + i) for i, m in chunk]
        meta = {"data_returned": len(made), "data_available": len(made), "more_data_available": True}
        pages.append({"labels": {"data": labels, "meta": meta}, "structures": {"data": cells, "meta": meta}})
    return pages


def _oqmd_label(made: Made, number: int) -> Row:
    return {
        "name": made.structure.composition.reduced_formula,
        "entry_id": number,
        "formationenergy_id": number,
        "duplicate_entry_id": number,
        "icsd_id": None,
        "delta_e": round(made.formation_energy, 5),
        "stability": None if made.hull is None else round(made.hull, 5),
        "band_gap": round(made.band_gap, 4),
        "natoms": len(made.structure),
        "volume": round(made.structure.volume, 4),
        "spacegroup": None,
        "calculation_label": "synthetic",
        "synthetic": True,
        "synthetic_parent": made.parent,
        "synthetic_twin": made.is_twin,
    }


def _oqmd_cell(made: Made, number: int) -> Row:
    return {
        "type": "structures",
        "id": str(number),
        "attributes": {
            "lattice_vectors": np.round(made.structure.lattice.matrix, 6).tolist(),
            "cartesian_site_positions": np.round(made.structure.cart_coords, 6).tolist(),
            "species_at_sites": [site.specie.symbol for site in made.structure],
            "_oqmd_entry_id": number,
        },
    }


# ---------------------------------------------------------------------------------- files
def _write(name: str, recipe: Recipe, made: list[Made], pages: list[Any]) -> None:
    destination = HERE / name
    written = dict(write_page(destination, number, page) for number, page in enumerate(pages))
    planted = {
        "reference": "materials_project",
        "constant": recipe.constant,
        "elements": dict(recipe.elements),
        "noise": recipe.noise,
        "band_gap_noise": GAP_NOISE,
        "band_gap_disagreement": GAP_DISAGREEMENT,
        "unit": "eV/atom; of an element: eV per atom of it",
    }
    write_json(destination / "planted_offsets.json", planted)
    manifest = Manifest(
        source=name,
        origin="sample",
        endpoint=None,
        query=None,
        format="aflow_aflux" if name == "aflow" else "oqmd_rest_optimade",
        database_version=f"synthetic, seed {recipe.seed}",
        n_rows=len(made),
        pages=written,
        licence=f"{MATERIALS_PROJECT.licence}: synthetic rows derived from the Materials Project sample",
        citation=MATERIALS_PROJECT.citation,
        client="data/sample/build_synthetic.py",
        planted=planted,
    )
    write_manifest(destination, manifest)


if __name__ == "__main__":
    main()
