"""What a potential's labels are worth, by number and kind: one encoder trained on parts of them, judged on DFT labels.

    python -m benchmarks.hypothetical.ablations [--member cogn] [--seen 250000]

Needs `make repro` (data/hypothetical, data/graphs) and ../shared/data. Each variant trains the member's encoder from
random weights on a part of the hypothetical crystals and on nothing else, until it has seen `--seen` crystals, so that
all variants take the same time (3 minutes of a core each). Judged are the fold `calibration`, WBM's unrelaxed cells and
OQMD's cells. Trainings are kept in .checkpoints/ablations; a killed run resumes. Prints the table and writes
benchmarks/results/hypothetical_ablations.json.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.hypothetical.rows import WBM, load_set
from benchmarks.hypothetical.scores import stability_scores
from benchmarks.shared_rows import ROOT
from matscout import columns
from matscout.crystal import Crystal
from matscout.engine.process_setup import flush_subnormals
from matscout.files import write_json, write_parquet
from matscout.graphs.graph_store import GraphStore
from matscout.models.inference import distributions, embed
from matscout.models.saved_member import WEIGHTS_FILE, load_member
from matscout.params import Graphs, load_params
from matscout.training.train_member import train
from matscout.training.training import Training, TrainingInputs

RESULTS = ROOT / "benchmarks" / "results" / "hypothetical_ablations.json"
KEPT = ROOT / ".checkpoints" / "ablations"
SETS = (WBM, "oqmd_perovskites", "oqmd_heuslers", "oqmd_diverse")
ROWS = {"oqmd_perovskites": 400, "oqmd_heuslers": 400}
N_LIKE = 15_000  # labels of the variants that compare kinds

Mask = NDArray[np.bool_]


def variants(table: pd.DataFrame) -> dict[str, Mask]:
    """Which of the training rows each variant learns, by its name."""
    train_rows = (table[columns.FOLD] == columns.TRAIN).to_numpy()
    order = np.random.default_rng(1).permutation(len(table))

    def some(n: int, of: Mask) -> Mask:
        chosen = np.zeros(len(table), dtype=bool)
        chosen[[row for row in order if of[row] and train_rows[row]][:n]] = True
        return chosen

    route = table["route"].to_numpy()
    everything = np.ones(len(table), dtype=bool)
    total = int(train_rows.sum())
    found = {f"{n:,} labels of all kinds": some(n, everything) for n in (total // 8, total // 4, total // 2, total)}
    for name in sorted(set(route)):
        if (train_rows & (route == name)).sum() >= N_LIKE / 2:
            found[f"up to {N_LIKE:,} labels, route {name}"] = some(N_LIKE, route == name)
    return found


def trained(name: str, table: pd.DataFrame, rows: Mask, member: str, seen: int) -> Path:
    """Folder of the encoder that learned these rows; trained now unless it is there."""
    folder = KEPT / member / name.replace(" ", "_").replace(",", "")
    if (folder / WEIGHTS_FILE).is_file():
        return folder
    inputs = KEPT / "inputs" / folder.name
    inputs.mkdir(parents=True, exist_ok=True)
    held = (table[columns.FOLD] == columns.CALIBRATION).to_numpy()
    kept = table.loc[rows | held].assign(**{columns.SYNTHETIC: False}).drop(columns=columns.CALCULATION)
    split = kept[[columns.MATERIAL_ID]].assign(**{columns.FOLD: np.where(rows[rows | held], columns.TRAIN, "")})
    free = np.flatnonzero(~rows[rows | held])
    split.iloc[free, 1] = [(columns.VALIDATION, columns.TEST)[number % 2] for number in range(len(free))]
    write_parquet(inputs / "materials.parquet", kept)
    write_parquet(inputs / "split.parquet", split)
    params = load_params(ROOT / "params.yaml")
    settings = params.members[member]
    own = {"epochs": max(2, round(seen / int(rows.sum()))), "start": None, "target_weights": {}}
    settings = settings.model_copy(update={"training": settings.training.model_copy(update=own)})
    targets = {columns.FORMATION_ENERGY: params.targets[columns.FORMATION_ENERGY]}
    training = Training.of(member, settings, params, targets=targets)
    files = TrainingInputs(ROOT / "data" / "graphs", inputs / "split.parquet", inputs / "materials.parquet")
    train(training, files, folder)
    return folder


def predicted(folder: Path, crystals: list[Crystal]) -> NDArray[np.float64]:
    """(n,) formation energies, NaN for a crystal without a graph; eV/atom."""
    loaded = load_member(folder)
    ids = [str(number) for number in range(len(crystals))]
    store, _ = GraphStore.from_usable(ids, crystals, Graphs(**loaded.card.graphs))
    graph = loaded.card.graph
    rows = np.arange(len(store.ids))
    embeddings = embed(loaded.model, store, rows, n_neighbors=graph["n_neighbors"], cutoff=graph["cutoff"])
    energies = distributions(loaded.model, embeddings)[columns.FORMATION_ENERGY].mean()
    return pd.Series(energies, index=list(store.ids)).reindex(ids).to_numpy(np.float64)


def judge(folder: Path, table: pd.DataFrame, sets: dict[str, Any]) -> dict[str, Any]:
    """Mean absolute errors by set, eV/atom, and how well stable rows of WBM are found."""
    held = table.loc[table[columns.FOLD] == columns.CALIBRATION]
    crystals = [Crystal.from_row(row) for row in held.to_dict("records")]
    errors = predicted(folder, crystals) - held[columns.FORMATION_ENERGY_ALIGNED].to_numpy(np.float64)
    found: dict[str, Any] = {"held-out labels": float(np.nanmean(np.abs(errors)))}
    for name, labelled in sets.items():
        estimate = predicted(folder, labelled.crystals)
        found[name] = float(np.nanmean(np.abs(estimate - labelled.formation_energy)))
        if name == WBM:
            scores = stability_scores(labelled.above_hull, labelled.formation_energy, estimate)
            found |= {"f1": scores["f1_reweighted"], "daf": scores["daf_reweighted"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", default="cogn")
    parser.add_argument("--seen", type=int, default=250_000, help="crystals that a training sees, over all epochs")
    parser.add_argument("--only", default="", help="variants whose name contains this text")
    arguments = parser.parse_args()
    flush_subnormals()
    table = pd.read_parquet(ROOT / "data" / "hypothetical" / "crystals.parquet")
    sets = {name: load_set(name, ROWS.get(name)) for name in SETS}
    results: dict[str, Any] = {}
    for name, rows in variants(table).items():
        if arguments.only not in name:
            continue
        folder = trained(name, table, rows, arguments.member, arguments.seen)
        results[name] = {"labels": int(rows.sum()), **judge(folder, table, sets)}
        figures = "  ".join(f"{key} {value:.3f}" for key, value in results[name].items() if key != "labels")
        print(f"{name}: {figures}", flush=True)
    if not arguments.only:
        write_json(RESULTS, {"member": arguments.member, "seen": arguments.seen, "variants": results})


if __name__ == "__main__":
    main()
