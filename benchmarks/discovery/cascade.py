"""What a cascade gains and loses: python -m benchmarks.discovery.cascade -> results/cascade.json.

For each member of the last `dvc repro` as the fast one, and for those that `cascade.yaml` distills from the ensemble,
over the last candidates and the goal of `params.yaml`: the share of the ensemble's best 1 % (and of its Pareto front)
among what it passes on, by the share it keeps. Candidates that taught a distilled member are left out for all. And the
encoders' rate with such a cascade, and that over their rate without, by processor time of one thread in the same run.
Distilled members stay in `--work` (default .checkpoints/cascade) for a second run.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from benchmarks.speed.graphs import machine
from matscout import columns
from matscout.discovery.screen.candidate_scores import Judge, crystals_of
from matscout.discovery.screen.cascade import STRETCH, best_share
from matscout.discovery.screen.scored_file import PLACE
from matscout.discovery.stability.energy_above_hull import References
from matscout.ensemble.distill import chosen_rows, distill
from matscout.ensemble.predictor import TEACHER_FILE, EnsemblePredictor, alone, student
from matscout.files import sha256_of_json, write_json
from matscout.graphs.graph_store import GraphStore
from matscout.models.inference import embed
from matscout.models.saved_member import LoadedMember
from matscout.params import Params, check_params, load_params
from matscout.training.train_member import METRICS_FILE

ROOT = Path(__file__).parents[2]
DISTILLED = ROOT / "benchmarks" / "discovery" / "cascade.yaml"
KEEPS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
LEAST = 1000
N_TIMED = 1024
PASSES = 3


def ranking(judge: Judge, candidates: pd.DataFrame) -> pd.DataFrame:
    """All candidates from best to worst, with their place in the file."""
    judged = judge.judge(candidates[columns.CANDIDATE_ID].tolist(), crystals_of(candidates))
    if len(judged.rows) < len(candidates):
        raise SystemExit(f"{judged.rejections[0]}: leave out what cannot be judged")
    return judge.rank(judged.table.assign(**{PLACE: judged.rows}))


def seconds_each(members: Sequence[LoadedMember], store: GraphStore) -> dict[str, float]:
    """Processor time of one crystal in each member's encoder."""
    rows, took = np.arange(len(store)), {}
    for member in members:
        settings = {key: member.card.graph[key] for key in ("n_neighbors", "cutoff")}
        times = []
        for _ in range(PASSES):
            start = time.process_time()
            embed(member.model, store, rows, **settings)
            times.append((time.process_time() - start) / len(rows))
        took[member.name] = min(times)
    return took


def distilled(
    predictor: EnsemblePredictor, params: Params, data: Path, work: Path
) -> tuple[dict[str, EnsemblePredictor], dict[str, Any]]:
    """The members of `cascade.yaml`, taught by this ensemble unless that is done; and how near they are to it."""
    content = {name: block.model_dump(mode="json") for name, block in params.distilled.items()}
    key = sha256_of_json([content, dict(predictor.calibration.members)])
    os.environ["DVC_ROOT"] = str(work)
    students, told = {}, {}
    for name in params.distilled:
        folder, made_of = work / name, work / f"{name}.key"
        if not folder.exists() or not made_of.exists() or made_of.read_text() != key:
            shutil.rmtree(folder, ignore_errors=True)
            paths = {"members": data / "members", "ensemble": data / "ensemble"}
            distill(name, params=params, **paths, candidates=data / "candidates/candidates.parquet", destination=folder)
            made_of.write_text(key)
        students[name] = student(predictor, folder)
        metrics = json.loads((folder / METRICS_FILE).read_text())
        told[name] = {
            "block": content[name],
            "n_parameters": metrics["n_parameters"],
            "teacher": json.loads((folder / TEACHER_FILE).read_text()),
        }
    return students, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--work", type=Path, default=ROOT / ".checkpoints" / "cascade")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    params = load_params(ROOT / "params.yaml")
    predictor = EnsemblePredictor.load(data / "members", data / "ensemble")
    goal = params.screening.goals[params.screening.goal]
    tree = {**params.model_dump(mode="json"), "distilled": yaml.safe_load(DISTILLED.read_text())}
    params = check_params(tree, DISTILLED)
    students, told = distilled(predictor, params, data, arguments.work.resolve())
    torch.set_num_threads(1)
    judge = Judge(predictor, References.read(data / "curated/materials.parquet"), goal)
    candidates = pd.read_parquet(data / "candidates/candidates.parquet")
    taught = [
        chosen_rows(len(candidates), block.crystals, block.member.training.seed) for block in params.distilled.values()
    ]
    candidates = candidates.drop(index=np.unique(np.concatenate(taught))).reset_index(drop=True)
    if len(candidates) < LEAST:
        raise SystemExit(
            f"{len(candidates)} candidates that taught none are too few to speak of their best 1 %; at least {LEAST}"
        )
    whole = ranking(judge, candidates)
    n_obeying = int(whole[columns.ELEMENT_RULES_MET].sum())
    top = whole[PLACE].to_numpy()[: len(whole) // 100]
    front = whole.loc[whole[columns.PARETO_FRONT].to_numpy(dtype=bool), PLACE].to_numpy()
    timed = candidates.iloc[:N_TIMED]
    store = GraphStore.from_crystals(timed[columns.CANDIDATE_ID].tolist(), crystals_of(timed), predictor.graphs)
    fast_ones = {member.name: alone(predictor, member.name, stretch=STRETCH) for member in predictor.members} | students
    each = seconds_each([fast.members[0] for fast in fast_ones.values()], store)
    whole_ensemble = sum(each[member.name] for member in predictor.members)
    found: dict[str, Any] = {}
    for name, predictor_alone in fast_ones.items():
        first = ranking(replace(judge, predictor=predictor_alone), candidates)
        found[name] = {}
        for keep in KEEPS:
            reached = best_share(first, keep)
            cost = each[name] + reached.mean() * whole_ensemble
            found[name][str(keep)] = {
                "recall_of_top_1_percent": round(float(reached[top].mean()), 4),
                "recall_of_pareto_front": round(float(reached[front].mean()), 4),
                "crystals_per_processor_second": round(1 / cost),
                "rate_over_ensemble": round(float(whole_ensemble / cost), 2),
            }
        print(name, found[name], flush=True)
    setting = {
        "candidates": len(candidates),
        "obey_element_rules": n_obeying,
        "goal": params.screening.goal,
        "top": len(top),
        "front": len(front),
        "stretch": STRETCH,
        "threads": 1,
        "distilled": told,
        **machine(),
    }
    rate = {name: round(1 / seconds) for name, seconds in each.items()}
    write_json(
        ROOT / "benchmarks/results/cascade.json",
        {"setting": setting, "crystals_per_processor_second": rate, "members": found},
    )


if __name__ == "__main__":
    main()
