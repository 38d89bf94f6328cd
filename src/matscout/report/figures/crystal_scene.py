"""Pictures of crystals: atoms, bonds and edges of one cell for the viewer, and a still picture."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
from pymatgen.core import Element

from matscout.crystal import Crystal

BOUNDARY = 1e-3  # fractional; atoms this close to a face are drawn on the opposite face too
BOND_SLACK = 0.35  # Å beyond the sum of covalent radii
IONIC_BELOW = 1.3  # Pauling electronegativity up to which no bond is drawn
DEFAULT_RADIUS = 1.5  # Å, for the few elements without a tabulated covalent radius
MAX_ATOMS = 600
CORNERS = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
EDGES = [(i, j) for i, j in itertools.combinations(range(8), 2) if np.abs(CORNERS[i] - CORNERS[j]).sum() == 1]
UNKNOWN = "#999999"
APART = 110.0  # sum of the differences of red, green and blue, each 0 to 255, of two colors that are told apart
SHADES = ((255.0, 0.6), (0.0, 0.5), (255.0, 0.8), (0.0, 0.7))  # towards white or black, and how far
# a view that separates the three cell directions on paper: turn about z, then tilt
VIEW = np.radians((-25.0, -72.0))


@dataclass(frozen=True)
class Scene:
    """The content of the structure viewer.

    Attributes:
        positions: (n, 3) Cartesian, Å, centred on the cell.
        symbols: n element symbols.
        bonds: pairs of atom numbers.
        corners: (8, 3) corners of the cell, Å, centred likewise; `EDGES` joins them.
    """

    positions: NDArray[np.float64]
    symbols: tuple[str, ...]
    bonds: tuple[tuple[int, int], ...]
    corners: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """The JSON for the viewer of the page, rounded to 0.001 Å."""
        return {
            "positions": np.round(self.positions, 3).tolist(),
            "symbols": list(self.symbols),
            "colors": crystal_colors(self.symbols),
            "bonds": [list(bond) for bond in self.bonds],
            "corners": np.round(self.corners, 3).tolist(),
            "edges": [list(edge) for edge in EDGES],
        }


def scene(crystal: Crystal) -> Scene:
    """One unit cell, with atoms on faces, edges and corners repeated, and the bonds inside it."""
    frac, symbols = _with_boundary_images(crystal)
    centre = np.full(3, 0.5) @ crystal.lattice
    positions = frac @ crystal.lattice - centre
    return Scene(positions, symbols, _bonds(positions, symbols), CORNERS @ crystal.lattice - centre)


def _with_boundary_images(crystal: Crystal) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    frac = crystal.frac_coords % 1.0
    frac[frac > 1 - BOUNDARY] -= 1.0
    rows: list[NDArray[np.float64]] = []
    symbols: list[str] = []
    for position, symbol in zip(frac, crystal.species, strict=True):
        shifts = itertools.product(*[(0, 1) if abs(x) < BOUNDARY else (0,) for x in position])
        for shift in shifts:
            rows.append(position + np.array(shift))
            symbols.append(symbol)
    return np.array(rows)[:MAX_ATOMS], tuple(symbols[:MAX_ATOMS])


def _bonds(positions: NDArray[np.float64], symbols: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Pairs of atoms closer than their covalent radii plus `BOND_SLACK` that a chemist would call bonded."""
    radii = np.array([covalent_radius(symbol) for symbol in symbols])
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    close = np.triu((distances < radii[:, None] + radii[None] + BOND_SLACK) & (distances > 0.1), k=1)
    pairs = zip(*np.nonzero(close), strict=True)
    return tuple((int(i), int(j)) for i, j in pairs if _is_drawn(symbols[i], symbols[j]))


def _is_drawn(first: str, second: str) -> bool:
    """No bonds between two metals, nor of large ionic cations (groups 1 and 2, lanthanoids)."""
    a, b = Element(first), Element(second)
    return not (a.is_metal and b.is_metal) and min(a.X, b.X) > IONIC_BELOW


@cache
def covalent_radius(symbol: str) -> float:
    """Covalent radius, Å (Cordero et al. 2008, as pymatgen tabulates it)."""
    return float(CovalentRadius.radius.get(symbol, DEFAULT_RADIUS))


@cache
def element_colors() -> dict[str, str]:
    """`#rrggbb` by element symbol, the VESTA scheme as pymatgen ships it."""
    text = files("pymatgen.vis").joinpath("ElementColorSchemes.yaml").read_text(encoding="utf-8")
    scheme = yaml.safe_load(text)["VESTA"]
    return {symbol: "#{:02x}{:02x}{:02x}".format(*rgb[:3]) for symbol, rgb in sorted(scheme.items())}


def crystal_colors(symbols: Iterable[str]) -> dict[str, str]:
    """Colors that can be told apart: `element_colors`, lighter or darker if a crystal's other element is too similar.

    Silicon and copper are both blue in the scheme; strontium and zirconium are the same green.
    """
    scheme, chosen = element_colors(), dict[str, NDArray[np.float64]]()
    for symbol in sorted(set(symbols), key=lambda symbol: Element(symbol).Z):
        color = _rgb(scheme.get(symbol, UNKNOWN))
        choices = [color, *(color + share * (end - color) for end, share in SHADES)]
        gaps = [min((float(np.abs(c - other).sum()) for other in chosen.values()), default=np.inf) for c in choices]
        far = next((place for place, gap in enumerate(gaps) if gap >= APART), int(np.argmax(gaps)))
        chosen[symbol] = choices[far]
    return {symbol: "#" + "".join(f"{round(part):02x}" for part in color) for symbol, color in chosen.items()}


def _rgb(color: str) -> NDArray[np.float64]:
    return np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)], dtype=float)


def picture(crystal: Crystal, *, size: int = 150) -> str:
    """A still picture: a square SVG element of `size` px, drawn from back to front."""
    view, colors = scene(crystal), crystal_colors(crystal.species)
    points = view.positions @ _rotation().T
    corners = view.corners @ _rotation().T
    extent = max(np.abs(points).max(), np.abs(corners).max()) + 0.9
    scale = size / 2 / extent
    items = [
        (float(min(corners[i, 2], corners[j, 2])), _line(corners[i], corners[j], scale, size, "cell")) for i, j in EDGES
    ]
    items += [
        (float((points[i, 2] + points[j, 2]) / 2), _line(points[i], points[j], scale, size, "bond"))
        for i, j in view.bonds
    ]
    items += [
        (float(point[2]) + 0.01, _disc(point, symbol, colors[symbol], scale, size))
        for point, symbol in zip(points, view.symbols, strict=True)
    ]
    body = "".join(text for _, text in sorted(items))
    return (
        f'<svg class="structure" viewBox="0 0 {size} {size}" width="{size}" height="{size}" role="img" '
        f'aria-label="unit cell of {crystal.reduced_formula}">{body}</svg>'
    )


def _rotation() -> NDArray[np.float64]:
    turn, tilt = VIEW
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    return about_x @ about_z


def _line(a: NDArray[np.float64], b: NDArray[np.float64], scale: float, size: int, name: str) -> str:
    x1, y1, x2, y2 = (f"{v:.1f}" for v in (*_at(a, scale, size), *_at(b, scale, size)))
    return f'<line class="{name}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _disc(point: NDArray[np.float64], symbol: str, color: str, scale: float, size: int) -> str:
    x, y = _at(point, scale, size)
    radius = 0.38 * covalent_radius(symbol) * scale
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{color}"/>'


def _at(point: NDArray[np.float64], scale: float, size: int) -> tuple[float, float]:
    return size / 2 + point[0] * scale, size / 2 - point[1] * scale
