"""Relaxed by SevenNet-0 and judged by both judges: WBM's compounds beside the published models on the same rows.

    python -m benchmarks.discovery.relaxation [--rows 400] [--members data/members] [--ensemble data/ensemble]

Takes rows of ../shared/data/wbm_pairs_dev whose energy above the hull is exact, those with the smallest hash of their
id; relaxes their initial cells as the stage `relax` does; combines the potential's energies with the ensemble's. What
is relaxed is kept in .checkpoints/bench_relaxation, so that a killed run goes on (about 1.1 s of processor a row).
Prints the table and writes benchmarks/results/relaxation.json. No row trains anything.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.hypothetical.rows import WBM, load_set, published_predictions
from benchmarks.hypothetical.scores import stability_scores
from benchmarks.shared_rows import ROOT, SHARED, order, read_file
from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.propose.novelty import first_match, primitive_cell
from matscout.discovery.relax.descent import loaded_judge
from matscout.discovery.relax.potential_judge import make_potential_judge
from matscout.discovery.relax.relax_all import relax_all
from matscout.discovery.relax.verdict import combine
from matscout.discovery.screen.candidate_scores import as_relaxed
from matscout.discovery.screen.predict_usable import predict_usable
from matscout.discovery.stability.energy_above_hull import References
from matscout.engine import n_workers
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.files import write_json
from matscout.params import load_params
from matscout.resume.parts import Parts

RESULTS = ROOT / "benchmarks" / "results" / "relaxation.json"
KEPT = ROOT / ".checkpoints" / "bench_relaxation"
LAPLACE_90 = np.log(10.0) / np.sqrt(2.0)  # half width of a Laplace's central 90 %, in standard deviations

Array = NDArray[np.float64]


def predicted(
    predictor: EnsemblePredictor, crystals: list[Crystal], unrelaxed_among: References | None = None
) -> pd.DataFrame:
    """The ensemble's formation energies, in the order of the crystals; NaN for one that it cannot judge.

    With known phases, the crystals are unrelaxed and the energies those after their relaxation.
    """
    ids = [str(place) for place in range(len(crystals))]
    found = predict_usable(predictor, ids, crystals)
    table = (found if unrelaxed_among is None else as_relaxed(found, crystals, unrelaxed_among)).table
    return table.set_index(columns.MATERIAL_ID).reindex(ids)


def covered(truth: Array, estimate: Array, half_width: Array) -> float:
    """Share of the rows within the interval."""
    known = np.isfinite(estimate)
    return float((np.abs(estimate - truth) <= half_width)[known].mean())


def joined(names: list[str], crystals: list[Crystal]) -> tuple[int, int]:
    """How many relaxed cells the matcher joins with DFT's, and of how many those are known."""
    wanted, final = set(names), {}
    for row in read_file(SHARED / "wbm_pairs_dev" / "wbm_pairs_dev.jsonl.gz"):
        if f"{WBM}:{row['material_id']}" in wanted and row.get("final_matrix"):
            lattice, frac = (np.array(row[f"final_{key}"]) for key in ("matrix", "frac"))
            final[f"{WBM}:{row['material_id']}"] = Crystal(lattice, tuple(row["final_species"]), frac)
    pairs = [(crystal, final[name]) for name, crystal in zip(names, crystals, strict=True) if name in final]
    found = sum(first_match(primitive_cell(one), [primitive_cell(other)]) is not None for one, other in pairs)
    return found, len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--members", type=Path, default=ROOT / "data" / "members")
    parser.add_argument("--ensemble", type=Path, default=ROOT / "data" / "ensemble")
    arguments = parser.parse_args()
    params = load_params(ROOT / "params.yaml")
    settings = params.relaxation.model_copy(update={"force": 0.05, "steps": 300})
    wbm = load_set(WBM, None)
    exact = np.flatnonzero(wbm.of_grade("exact")).tolist()
    chosen = sorted(sorted(exact, key=lambda row: order(wbm.ids[row].removeprefix(f"{WBM}:")))[: arguments.rows])
    names, before = [wbm.ids[row] for row in chosen], [wbm.crystals[row] for row in chosen]
    folder = KEPT / str(settings.potential)
    folder.mkdir(parents=True, exist_ok=True)
    descents = relax_all(names, before, settings, Parts(folder), workers=n_workers())
    crystals = [descent.crystal for descent in descents]
    rested = np.array([not descent.reason for descent in descents])
    judging = loaded_judge(settings)
    own = folder / str(settings.judge or settings.potential)
    own.mkdir(exist_ok=True)
    second = make_potential_judge(
        params,
        settings,
        materials=ROOT / "data" / "curated" / "materials.parquet",
        split=ROOT / "data" / "splits" / "split.parquet",
        ensemble=arguments.ensemble,
        labels=ROOT / params.hypothetical.path,
        parts=Parts(own),
    )
    energies = judging.energies(crystals) / [crystal.n_atoms for crystal in crystals]
    opinion = second.opinion(np.where(rested, energies, np.nan), crystals)
    predictor = EnsemblePredictor.load(arguments.members, arguments.ensemble).for_hypothetical()
    references = References.read(ROOT / "data" / "curated" / "materials.parquet")
    looks = {
        "ensemble, unrelaxed": predicted(predictor, before, references),
        "ensemble, relaxed": predicted(predictor, crystals),
    }
    table = looks["ensemble, relaxed"]
    ensemble, spread = (
        table[name].to_numpy(np.float64) for name in (columns.FORMATION_ENERGY, columns.FORMATION_ENERGY + columns.STD)
    )
    found = combine(ensemble, spread, opinion, second.comparison.correlation)
    has_say = np.isfinite(found.energy)
    verdict, std = np.where(has_say, found.energy, ensemble), np.where(has_say, found.std, spread)
    truth, above = wbm.formation_energy[chosen], wbm.above_hull[chosen]
    estimates: dict[str, Array] = {"combined verdict": verdict, f"{judging.facts.name}, aligned": opinion.energy}
    estimates |= {name: look[columns.FORMATION_ENERGY].to_numpy(np.float64) for name, look in looks.items()}
    estimates |= {f"published: {name}": values[chosen] for name, values in published_predictions(wbm).items()}
    scores = {name: stability_scores(above, truth, values) for name, values in estimates.items()}
    results: dict[str, Any] = {
        "rows": len(chosen),
        "failed": int((~rested).sum()),
        "mean_steps": float(np.mean([descent.steps for descent in descents])),
        "without_potential": int((~has_say).sum()),
        "coverage_90_of_the_verdict": covered(truth, verdict, LAPLACE_90 * std),
        "width_90_of_the_verdict": float((2 * LAPLACE_90 * std).mean()),
        "coverage_90_of_the_ensemble": covered(truth, ensemble, LAPLACE_90 * spread),
        "judges_disagree": float((found.distance > 1.645).mean()),
        "mean_weight_of_the_potential": float(np.nanmean(found.weight)),
        "relaxed_cells_that_match_dft": joined(names, crystals),
        "against_dft_on_validation": second.comparison.to_json(),
        "scores": scores,
    }
    write_json(RESULTS, json.loads(json.dumps(results), parse_constant=lambda _: None))
    print(json.dumps({key: value for key, value in results.items() if key != "scores"}, indent=2))
    for name, score in sorted(scores.items(), key=lambda item: -item[1]["f1"]):
        f1, daf, mae, bias = (score[key] for key in ("f1", "daf", "mae", "bias"))
        print(f"{name:34} F1 {f1:.3f}  DAF {daf:.2f}  MAE {mae:.3f}  bias {bias:+.3f}")


if __name__ == "__main__":
    main()
