"""Volumes of crystals that have not been relaxed: a sum of ionic volumes, fitted on the curated set."""

import warnings
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import yaml
from numpy.typing import NDArray
from pymatgen.core import Element
from scipy.optimize import nnls

from matscout.crystal import ATOMIC_NUMBERS, SYMBOLS
from matscout.discovery.propose.crystal_templates import Parent, Template
from matscout.discovery.propose.gates import CONTACT, VOLUME
from matscout.discovery.propose.oxidation_states import IonTable

FEWEST_EXAMPLES = 3  # least number of compounds with an ion for its volume to count as known
RIDGE = 0.05  # keeps ions that always occur together from having volumes of opposite sign
SCALE_RANGE = (0.5, 2.0)  # limits of the volume relative to the parent; beyond them the parent is not a useful model
CLOSEST_CONTACT = 0.8  # shortest contact relative to the typical bond length; below it atoms overlap


def fit_ionic_volumes(table: IonTable, parents: Sequence[Parent]) -> NDArray[np.float64]:
    """Volume per ion, Å³, so that volumes of the known compounds come out as sums over their ions.

    Non-negative least squares on relative errors. On isostructural pairs of the bundled sample the ratio
    of such sums predicts the ratio of volumes about as well as the radii of Chu et al., "Predicting the
    volumes of crystals", Comput. Mater. Sci. 146, 184 (2018), and it covers the third of the pairs for
    which radii are missing (benchmarks/discovery/volumes.py).

    Returns:
        (n_ions,) NaN for ions in fewer than `FEWEST_EXAMPLES` compounds.
    """
    shares = np.zeros((len(parents), len(table.names)))
    volumes = np.array([parent.template.volume / parent.template.n_atoms for parent in parents])
    for row, parent in enumerate(parents):
        shares[row, list(parent.ions)] = parent.template.counts / parent.template.n_atoms
    seen = (shares > 0).sum(axis=0) >= FEWEST_EXAMPLES
    usable = (shares[:, ~seen] == 0).all(axis=1)
    fitted = np.full(len(table.names), np.nan)
    if not usable.any():
        return fitted
    relative = shares[np.ix_(usable, seen)] / volumes[usable, None]
    mean_volume = volumes[usable].mean()
    design = np.vstack([relative, RIDGE / mean_volume * np.eye(int(seen.sum()))])
    aim = np.concatenate([np.ones(int(usable.sum())), np.full(int(seen.sum()), RIDGE)])
    fitted[seen], _ = nnls(design, aim)
    fitted[fitted <= 0] = np.nan
    return fitted


def volume_scales(
    volumes: NDArray[np.float64], old: NDArray[np.int64], filled: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Predicted volume of each filling over the parent's.

    Args:
        volumes: (n_ions,) volume of each ion, Å³; NaN where unknown.
        old: (n_slots,) the parent's ions, rows of the ion table.
        filled: (m, n_slots) rows of the ion table, one filling per row.
        counts: (n_slots,) atoms of each slot in the cell.

    Returns:
        (m,) dimensionless; NaN where an ion's volume is unknown.
    """
    return (volumes[filled] * counts).sum(axis=1) / (volumes[old] * counts).sum()


def closest_contacts(
    table: IonTable, template: Template, filled: NDArray[np.int64], scales: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shortest distance over typical bond length, the least over pairs of slots.

    Bond lengths are r_i + r_j with r = r_0 + k * (standard deviation of electronegativity over atoms): the data-mined
    lattice scheme of Chu et al. (2018) with pymatgen's parameters.

    Args:
        table: the ions.
        template: template that is filled.
        filled: (m, n_slots) rows of the table, one filling per row.
        scales: (m,) volume of each filling over the template's.

    Returns:
        (m,) dimensionless.
    """
    chi, weights = table.electronegativities[filled], template.counts / template.n_atoms
    mean = (chi * weights).sum(axis=1, keepdims=True)
    spread = np.sqrt(((chi - mean) ** 2 * weights).sum(axis=1))
    base, slope = _bond_radii()
    numbers = table.atomic_numbers[filled]
    radii = base[numbers] + slope[numbers] * spread[:, None]
    typical = radii[:, :, None] + radii[:, None, :]
    contacts = template.distances[None] * np.cbrt(scales)[:, None, None] / typical
    return contacts.reshape(len(filled), -1).min(axis=1)


def geometric_gates(
    table: IonTable,
    template: Template,
    volumes: NDArray[np.float64],
    old: NDArray[np.int64],
    filled: NDArray[np.int64],
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.bool_]]]:
    """Volume scale of each filling, and the gates on volume and on contacts.

    Args:
        table: the ions.
        template: template that is filled.
        volumes: (n_ions,) volume of each ion, Å³; NaN where unknown.
        old: (n_slots,) the parent's ions, rows of the table.
        filled: (m, n_slots) rows of the table, one filling per row.

    Returns:
        (m,) volume over the parent's, and by gate (m,) whether a filling passes.
    """
    scales = volume_scales(volumes, old, filled, template.counts)
    is_sane = (scales >= SCALE_RANGE[0]) & (scales <= SCALE_RANGE[1])  # False for NaN
    contacts = closest_contacts(table, template, filled, np.where(is_sane, scales, 1.0))
    return scales, {VOLUME: is_sane, CONTACT: contacts >= CLOSEST_CONTACT}


def contact_ratio(template: Template) -> float:
    """Shortest distance over typical bond length of a crystal as it is; see `closest_contacts`."""
    radii = _radii_of(template)
    return float((template.distances / (radii[:, None] + radii[None, :])).min())


def _radii_of(template: Template) -> NDArray[np.float64]:
    """(n_slots,) Å; an element without electronegativity counts with the mean of the others."""
    numbers = [ATOMIC_NUMBERS[element] for element in template.elements]
    chi = np.array([_electronegativity(element) for element in template.elements])
    weights = template.counts / template.n_atoms
    known = np.isfinite(chi)
    mean = (chi[known] * weights[known]).sum() / weights[known].sum() if known.any() else 0.0
    chi = np.where(known, chi, mean)
    base, slope = _bond_radii()
    return base[numbers] + slope[numbers] * np.sqrt(((chi - mean) ** 2 * weights).sum())


@cache
def _electronegativity(symbol: str) -> float:
    """Pauling's; NaN for the light noble gases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what pymatgen gives for a noble gas
        return float(Element(symbol).X)


@cache
def _bond_radii() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """r_0 (Å) and k by atomic number; an element without mined parameters has its atomic radius and k = 0."""
    # pymatgen's `volume_predictor` reads this table, and several larger ones, when it is imported
    table = files("pymatgen.core.structure_prediction").joinpath("DLS_bond_params.yaml").read_text()
    bond_params = yaml.safe_load(table)
    base, slope = np.full(len(SYMBOLS), np.nan), np.zeros(len(SYMBOLS))
    for number, symbol in enumerate(SYMBOLS[1:], start=1):
        if symbol in bond_params:
            base[number], slope[number] = float(bond_params[symbol]["r"]), float(bond_params[symbol]["k"])
        else:
            base[number] = float(Element(symbol).atomic_radius or np.nan)
    return base, slope
