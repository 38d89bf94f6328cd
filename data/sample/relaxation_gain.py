"""How much relaxing the atoms of hypothetical crystals lowers their energies; fits `matscout`'s estimate of it.

    python data/sample/relaxation_gain.py                # fit to the bundled relaxations, after `make repro` (seconds)
    python data/sample/relaxation_gain.py --relax 600    # relax again (extra `potentials`, 20 minutes on 2 cores)

`--relax` chooses labelled crystals by the hash of their id, relaxes them from the volume of the minimum by SevenNet-0
with their symmetry kept, and writes `relaxed/gains.parquet`. Finished crystals wait in `.checkpoints/relaxation-gain`,
so that a killed run resumes.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax.relax_all import relax_all
from matscout.discovery.screen.candidate_scores import above_known_hull
from matscout.discovery.screen.predict_usable import predict_usable
from matscout.discovery.stability.energy_above_hull import References
from matscout.discovery.stability.relaxation_gain import AT_THE_HULL, PER_ENERGY, n_free
from matscout.engine.process_setup import flush_subnormals
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.files import write_parquet
from matscout.hypothetical.draw_crystals import SIMILAR_EXCHANGE
from matscout.hypothetical.potential_labels import MINIMUM, ROUTE, Labels
from matscout.hypothetical.potential_scale import crystal_of
from matscout.hypothetical.training_rows import label_ids
from matscout.layout import ENSEMBLE, MATERIALS, MEMBERS
from matscout.params import load_params
from matscout.resume.parts import Parts

GAINS = Path(__file__).parent / "relaxed" / "gains.parquet"
BEFORE, AFTER, REASON = "energy_before", "energy_after", "reason"
LOOSE = {"potential": "sevennet-0", "force": 0.1, "steps": 100, "symmetry": True, "cell": True}


def labelled_crystals() -> dict[str, Crystal]:
    """Labelled crystals with similar elements as a known one, at the volume of the minimum, by id."""
    labels = Labels.read(Path(load_params().hypothetical.path))
    table = labels.table.assign(**{columns.MATERIAL_ID: label_ids(labels.table)})
    table = table.loc[(table[ROUTE] == SIMILAR_EXCHANGE) & table[MINIMUM].notna()]
    found = {}
    for row in table.to_dict("records"):
        cell = crystal_of(labels, row)
        found[str(row[columns.MATERIAL_ID])] = Crystal(
            cell.lattice * np.cbrt(row[MINIMUM]), cell.species, cell.frac_coords
        )
    return found


def relax(n: int, workers: int) -> None:
    """Relax `n` of them and write their energies, eV/atom."""
    crystals = labelled_crystals()
    names = sorted(crystals, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:n]
    folder = Path(".checkpoints") / "relaxation-gain"
    folder.mkdir(parents=True, exist_ok=True)
    settings = load_params().relaxation.model_copy(update=LOOSE)
    found = relax_all(names, [crystals[name] for name in names], settings, Parts(folder), workers=workers)
    table = pd.DataFrame(
        {
            columns.MATERIAL_ID: names,
            BEFORE: np.array([each.energy_before for each in found], dtype=np.float32),
            AFTER: np.array([each.energy_after for each in found], dtype=np.float32),
            REASON: [each.reason for each in found],
        }
    )
    GAINS.parent.mkdir(exist_ok=True)
    write_parquet(GAINS, table)
    print(f"{len(table)} crystals in {GAINS}, {(table[REASON] != '').sum()} of them not converged")


def fit() -> None:
    """Fit the estimate to the gains, given the ensemble's energies, and print both beside what the code has."""
    gains = pd.read_parquet(GAINS)
    gains = gains.loc[np.isfinite(gains[BEFORE] - gains[AFTER])]
    given = labelled_crystals()
    crystals = [given[name] for name in gains[columns.MATERIAL_ID]]
    predictor = EnsemblePredictor.load(MEMBERS, ENSEMBLE).for_hypothetical()
    predicted = predict_usable(predictor, gains[columns.MATERIAL_ID].tolist(), crystals)
    kept = [crystals[row] for row in predicted.rows]
    gain = (gains[BEFORE] - gains[AFTER]).to_numpy(np.float64)[predicted.rows]
    above = above_known_hull(References.read(MATERIALS), predicted.table, [crystal.species for crystal in kept])
    extent, above = np.log1p([n_free(crystal) for crystal in kept]), np.maximum(above, 0.0)

    def deviation(factors: np.ndarray) -> float:
        return float(np.abs(gain - extent * (factors[0] + factors[1] * above)).mean())

    best = minimize(deviation, [AT_THE_HULL, PER_ENERGY], method="Nelder-Mead").x
    print(f"{len(kept)} crystals: AT_THE_HULL {best[0]:.4f}, PER_ENERGY {best[1]:.3f}; the code has")
    print(f"AT_THE_HULL {AT_THE_HULL:.4f}, PER_ENERGY {PER_ENERGY:.3f}")
    fixed = extent == 0
    print(f"{fixed.sum()} without free parameters gain {gain[fixed].mean():.3f} eV/atom, the others:")
    for low, high in ((0.0, 0.0), (0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, np.inf)):
        rows = ~fixed & (above >= low) & ((above < high) if high > low else (above <= 0))
        print(f"  {low:.1f} to {high:.1f} eV/atom above the hull: {rows.sum()} gain {gain[rows].mean():.3f}")


def main() -> None:
    """Parse the arguments; relax or fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--relax", type=int, metavar="N", help="relax N crystals instead of fitting")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    arguments = parser.parse_args()
    flush_subnormals()
    if arguments.relax is None:
        fit()
    else:
        relax(arguments.relax, arguments.workers)


if __name__ == "__main__":
    main()
