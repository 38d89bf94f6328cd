"""Volumes of isostructural pairs in the bundled sample: predicted from one, true in the other.

    python -m benchmarks.discovery.volumes

Ionic volumes are fitted on half of the compounds; every pair's target lies in the other half. Compared: no scaling, the
ratio of ionic volumes, and the ratio of Shannon radii (pymatgen's `RLSVolumePredictor`). Writes
benchmarks/results/volumes.json: median and mean of |ln(predicted / true)|.
"""

import json
import warnings
from itertools import permutations
from pathlib import Path

import numpy as np
from pymatgen.core import Species

from matscout.discovery.propose.crystal_templates import Parent, make_template
from matscout.discovery.propose.ionic_volumes import fit_ionic_volumes, volume_scales
from matscout.discovery.propose.oxidation_states import ion_table
from matscout.discovery.propose.substitution_routes import prototype_key
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

ROOT = Path(__file__).resolve().parents[2]
MOST_PAIRS = 60  # of one prototype: rock salt and perovskite must not be all that counts


def parents() -> list[Parent]:
    table, found = ion_table(), []
    for record in read_snapshot(ROOT / "data/sample/materials_project"):
        if isinstance(record, Record) and 2 <= len(set(record.crystal.species)) <= 4:
            template = make_template(record.material_id, record.crystal)
            ions = template and table.balance(dict(zip(template.elements, template.ratios.tolist(), strict=True)))
            if template and ions:
                found.append(Parent(template, ions))
    return found


def radii() -> np.ndarray:
    table = ion_table()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 209 ions have no radius: they become NaN
        values = [Species(e, q).ionic_radius for e, q in zip(table.elements, table.charges.tolist(), strict=True)]
    return np.array([np.nan if value is None else float(value) for value in values])


def main() -> None:
    table, rng = ion_table(), np.random.default_rng(17)
    known = parents()
    fitted = rng.random(len(known)) < 0.5
    volumes = fit_ionic_volumes(table, [parent for parent, kept in zip(known, fitted, strict=True) if kept])
    groups: dict[object, list[int]] = {}
    for position, parent in enumerate(known):
        groups.setdefault(prototype_key(table, parent)[0], []).append(position)
    radius, errors = radii(), {"unscaled": [], "ionic volumes": [], "ionic radii": []}
    for members in groups.values():
        pairs = [(a, b) for a, b in permutations(members, 2) if not fitted[b]]
        for a, b in [pairs[i] for i in rng.permutation(len(pairs))[:MOST_PAIRS]]:
            first, second = known[a].template, known[b].template
            (_, order), (_, other) = prototype_key(table, known[a]), prototype_key(table, known[b])
            old, new = np.array(known[a].ions), np.empty(first.n_slots, dtype=np.int64)
            new[order] = np.array(known[b].ions)[other]
            true = np.log(second.volume / second.n_atoms * first.n_atoms / first.volume)
            roots = np.cbrt(first.counts)
            by_radius = 3 * np.log((radius[new] * roots).sum() / (radius[old] * roots).sum())
            by_volume = np.log(volume_scales(volumes, old, new[None], first.counts)[0])
            for name, value in zip(errors, (0.0, by_volume, by_radius), strict=True):
                errors[name].append(abs(value - true))
    everywhere = np.isfinite(np.array(list(errors.values()))).all(axis=0)
    result = {
        "command": "python -m benchmarks.discovery.volumes",
        "n_compounds": len(known),
        "n_pairs": len(everywhere),
        "pairs_covered": {name: int(np.isfinite(values).sum()) for name, values in errors.items()},
        "median_error": {name: float(np.median(np.array(values)[everywhere])) for name, values in errors.items()},
        "mean_error": {name: float(np.mean(np.array(values)[everywhere])) for name, values in errors.items()},
    }
    (ROOT / "benchmarks/results/volumes.json").write_text(f"{json.dumps(result, indent=2)}\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
