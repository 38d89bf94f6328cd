"""Write the table of well-known crystals in docs/models.md: python docs/sanity_table.py.

Cells are built from measured lattice constants, no database: they pass the path of `matscout predict`. The ensemble is
that of data/members and data/ensemble.
"""

import re
from pathlib import Path

import pandas as pd
from pymatgen.core import Lattice, Structure

from matscout import columns
from matscout.crystal import Crystal
from matscout.curated_table import load_materials_database
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.graphs.graph_store import GraphStore

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"
MARKED = re.compile(r"(<!-- sanity: begin .*?-->\n).*?(<!-- sanity: end -->)", re.DOTALL)
TARGETS = {
    columns.FORMATION_ENERGY: ("formation energy, eV/atom", columns.FORMATION_ENERGY_ALIGNED),
    columns.BAND_GAP: ("band gap, eV", columns.BAND_GAP),
}


def known_cells() -> dict[str, Structure]:
    """By name, eight crystals with lattice constants in Å at room temperature.

    Cubic ones: CRC Handbook of Chemistry and Physics, 97th edition (2016), sections 4 and 12. LiFePO4: Streltsov,
    Belokoneva, Tsirelson and Hansen, Acta Cryst. B 49, 147 (1993).
    """
    zero, half, quarter = [0.0] * 3, [0.5] * 3, [0.25] * 3
    phosphate = {
        "Li": [[0.0, 0.0, 0.0]],
        "Fe": [[0.2822, 0.25, 0.9747]],
        "P": [[0.0948, 0.25, 0.4182]],
        "O": [[0.0968, 0.25, 0.7428], [0.4571, 0.25, 0.2060], [0.1656, 0.0465, 0.2848]],
    }
    species = [symbol for symbol, sites in phosphate.items() for _ in sites]
    return {
        "Si, diamond": _cell("Fd-3m", 5.431, ["Si"], [zero]),
        "NaCl, rock salt": _cell("Fm-3m", 5.640, ["Na", "Cl"], [zero, half]),
        "GaAs, zinc blende": _cell("F-43m", 5.653, ["Ga", "As"], [zero, quarter]),
        "MgO, rock salt": _cell("Fm-3m", 4.212, ["Mg", "O"], [zero, half]),
        "Fe, bcc": _cell("Im-3m", 2.866, ["Fe"], [zero]),
        "Cu, fcc": _cell("Fm-3m", 3.615, ["Cu"], [zero]),
        "SrTiO3, perovskite": _cell("Pm-3m", 3.905, ["Sr", "Ti", "O"], [zero, half, [0.5, 0.5, 0.0]]),
        "LiFePO4, olivine": Structure.from_spacegroup(
            "Pnma",
            Lattice.orthorhombic(10.332, 6.010, 4.692),
            species,
            [site for sites in phosphate.values() for site in sites],
        ),
    }


def predicted(predictor: EnsemblePredictor) -> pd.DataFrame:
    """The ensemble's table of the eight crystals, by name; with their `formula`."""
    cells = {name: Crystal.from_structure(structure) for name, structure in known_cells().items()}
    store = GraphStore.from_crystals(list(cells), list(cells.values()), predictor.graphs)
    formulas = [crystal.reduced_formula for crystal in cells.values()]
    return predictor.predict(store).assign(formula=formulas).set_index(columns.MATERIAL_ID)


def labels_of(materials: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """By formula, labels and fold of the real curated crystal with the lowest formation energy."""
    real = materials.loc[~materials[columns.SYNTHETIC]].merge(split, on=columns.MATERIAL_ID)
    real = real.dropna(subset=[columns.FORMATION_ENERGY_ALIGNED]).sort_values(columns.FORMATION_ENERGY_ALIGNED)
    formula = [Crystal.from_row(row).reduced_formula for row in real.to_dict("records")]
    return real.assign(formula=formula).drop_duplicates(columns.FORMULA).set_index(columns.FORMULA)


def table_of(predictions: pd.DataFrame, labels: pd.DataFrame) -> str:
    """Markdown: each crystal's predictions with 90 % intervals, beside the label of its formula's ground state."""
    heads = [f"{title} | label" for title, _ in TARGETS.values()]
    lines = [f"| crystal | {' | '.join(heads)} | label's fold |", "|---|" + "---|---|" * len(TARGETS) + "---|"]
    for name, row in predictions.iterrows():
        known = labels.loc[row[columns.FORMULA]] if row[columns.FORMULA] in labels.index else None
        cells = []
        for target, (_, label) in TARGETS.items():
            cells.append(f"{row[target]:.2f} [{row[target + columns.LO90]:.2f}, {row[target + columns.HI90]:.2f}]")
            cells.append("–" if known is None or pd.isna(known[label]) else f"{known[label]:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} | {'–' if known is None else known[columns.FOLD]} |")
    return "\n".join(lines) + "\n"


def updated(page: str, table: str) -> str:
    """The page's text with `table` between the markers."""
    return MARKED.sub(lambda found: f"{found[1]}{table}{found[2]}", page)


def _cell(group: str, edge: float, species: list[str], coords: list[list[float]]) -> Structure:
    return Structure.from_spacegroup(group, Lattice.cubic(edge), species, coords).get_primitive_structure()


def main() -> None:
    """Rewrite docs/models.md in place."""
    data = ROOT / "data"
    predictor = EnsemblePredictor.load(data / "members", data / "ensemble")
    materials = load_materials_database(data / "curated")
    labels = labels_of(materials, pd.read_parquet(data / "splits" / "split.parquet"))
    PAGE.write_text(updated(PAGE.read_text(), table_of(predicted(predictor), labels)))


if __name__ == "__main__":
    main()
