"""A screening that takes seconds: binaries as candidates, and members on disk that never trained."""

import os
import signal
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from small_outputs import ANIONS, CATIONS, Outputs, binary

from matscout import columns
from matscout.discovery.screen import screen
from matscout.discovery.screen.candidate_scores import Judge
from matscout.params import Goal, Objective

N_CANDIDATES = 90
ROWS_A_SHARD = 20
NOTES = "TEST_NOTES"  # names the folder where workers leave what they did
DEADLY = "c-0047"  # a candidate of the third shard
GOAL = Goal(
    description="",
    objectives=(
        Objective(column="band_gap", window=(0.3, 2.0), direction=None),
        Objective(column="formation_energy_per_atom", window=None, direction="minimize"),
    ),
    require_elements=(),
    allow_elements=None,
    deny_elements=("Cu",),
)


def write_candidates(path: Path) -> Path:
    """Binaries in the caesium chloride structure, in shards."""
    rng = np.random.default_rng(9)
    rows = []
    for number in range(N_CANDIDATES):
        crystal = binary(str(rng.choice(CATIONS)), str(rng.choice(ANIONS)), rng.uniform(2.6, 4.5))
        rows.append(
            {
                columns.CANDIDATE_ID: f"c-{number:04d}",
                columns.FORMULA: "".join(crystal.species),
                columns.ROUTE: "substitution",
                columns.SPACE_GROUP: 221,
                **crystal.to_row(),
            }
        )
    pq.write_table(pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False), path, row_group_size=ROWS_A_SHARD)
    return path


def run_screening(outputs: Outputs, ensemble: Path, candidates: Path, destination: Path, **changes) -> dict[str, bytes]:
    """What the stage writes, by file; `changes` replace parameters of `screening`, but `distilled` is a folder."""
    distilled = changes.pop("distilled", destination.parent / "distilled")
    settings = outputs.params.screening.model_copy(
        update={"goal": "mine", "goals": {"mine": GOAL}, "top_k": 5, **changes}
    )
    screen.screen(
        candidates,
        params=outputs.params.model_copy(update={"screening": settings}),
        members=outputs.members,
        ensemble=ensemble,
        materials=outputs.materials,
        destination=destination,
        distilled=distilled,
    )
    return {str(f.relative_to(destination)): f.read_bytes() for f in sorted(destination.rglob("*")) if f.is_file()}


@dataclass(frozen=True)
class NotingJudge(Judge):
    """Notes each time that it is brought to a process, and ends the first process that predicts `DEADLY`."""

    notes: Path = field(default_factory=lambda: Path(os.environ[NOTES]))

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.note(f"loaded {os.getpid()} {uuid.uuid4()}")

    def predict(self, ids, crystals):
        predicted = super().predict(ids, crystals)
        self.note(f"predicted {os.getpid()} {ids[0]} {uuid.uuid4()}")
        if DEADLY in ids and not (self.notes / "killed").exists():
            self.note("killed")
            os.kill(os.getpid(), signal.SIGKILL)
        return predicted

    def note(self, name: str) -> None:
        (self.notes / name).touch()
