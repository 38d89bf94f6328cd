"""What a cascade gains and loses: python benchmarks/cascade.py -> results/cascade.json.

For each member of the last `dvc repro` as the fast one, over the last candidates and the goal of `params.yaml`: the
share of the ensemble's best 1 % (and of its Pareto front) among what it passes on, by the share it keeps; and the
encoders' rate with such a cascade over their rate without, by processor time of one thread in the same run.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from graphs import machine

from matscout import columns
from matscout.discovery.cascade import STRETCH, best_share
from matscout.discovery.judged_file import PLACE
from matscout.discovery.judging import Judge, crystals_of
from matscout.discovery.stability import References
from matscout.ensemble.alone import alone
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.files import write_json
from matscout.graphs.store import GraphStore
from matscout.memory import keep_freed_memory
from matscout.models.inference import embed
from matscout.models.member import LoadedMember
from matscout.params import load_params

ROOT = Path(__file__).parents[1]
KEEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
LEAST = 1000
N_TIMED = 1024
PASSES = 3


def ranking(judge: Judge, candidates: pd.DataFrame) -> pd.DataFrame:
    """All candidates from best to worst, with their place in the file."""
    table = judge.judge(candidates[columns.CANDIDATE_ID].tolist(), crystals_of(candidates))
    return judge.rank(table.assign(**{PLACE: np.arange(len(table))}))


def seconds_each(members: tuple[LoadedMember, ...], store: GraphStore) -> dict[str, float]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    data = parser.parse_args().data
    torch.set_num_threads(1)
    keep_freed_memory()  # as all predictions do
    params = load_params(ROOT / "params.yaml")
    predictor = EnsemblePredictor.load(data / "members", data / "ensemble")
    goal = params.screening.goals[params.screening.goal]
    judge = Judge(predictor, References.read(data / "curated/materials.parquet"), goal)
    candidates = pd.read_parquet(data / "candidates/candidates.parquet")
    if len(candidates) < LEAST:
        raise SystemExit(f"{len(candidates)} candidates are too few to speak of their best 1 %; at least {LEAST}")
    whole = ranking(judge, candidates)
    n_obeying = int(whole[columns.ELEMENT_RULES_MET].sum())
    top = whole[PLACE].to_numpy()[: len(whole) // 100]
    front = whole.loc[whole[columns.PARETO_FRONT].to_numpy(dtype=bool), PLACE].to_numpy()
    timed = candidates.iloc[:N_TIMED]
    store = GraphStore.from_crystals(timed[columns.CANDIDATE_ID].tolist(), crystals_of(timed), predictor.graphs)
    each = seconds_each(predictor.members, store)
    found: dict[str, Any] = {}
    for member in predictor.members:
        fast = replace(judge, predictor=alone(predictor, member.name, stretch=STRETCH))
        first = ranking(fast, candidates)
        found[member.name] = {}
        for keep in KEEPS:
            reached = best_share(first, keep)
            cost = each[member.name] + reached.mean() * sum(each.values())
            found[member.name][str(keep)] = {
                "recall_of_top_1_percent": round(float(reached[top].mean()), 4),
                "recall_of_pareto_front": round(float(reached[front].mean()), 4),
                "rate_over_ensemble": round(sum(each.values()) / cost, 2),
            }
        print(member.name, found[member.name], flush=True)
    setting = {
        "candidates": len(candidates),
        "obey_element_rules": n_obeying,
        "goal": params.screening.goal,
        "top": len(top),
        "front": len(front),
        "stretch": STRETCH,
        "threads": 1,
        **machine(),
    }
    rate = {name: round(1 / seconds) for name, seconds in each.items()}
    write_json(
        ROOT / "benchmarks/results/cascade.json",
        {"setting": setting, "crystals_per_processor_second": rate, "members": found},
    )


if __name__ == "__main__":
    main()
