"""Where the files of a run lie in a repository: what commands and public functions read where they are told nothing.

`dvc.yaml` writes these paths out for its stages, which get them as arguments.
"""

from pathlib import Path
from typing import Final

DATA: Final = Path("data")
RAW: Final = DATA / "raw"
FEEDBACK: Final = DATA / "feedback"
CURATED: Final = DATA / "curated"
MATERIALS: Final = CURATED / "materials.parquet"
SPLIT: Final = DATA / "splits" / "split.parquet"
STAND_INS: Final = DATA / "hypothetical" / "crystals.parquet"
QUARANTINE: Final = CURATED / "quarantine.parquet"
TRAINING_MATERIALS: Final = DATA / "training" / "materials.parquet"
TRAINING_SPLIT: Final = DATA / "training" / "split.parquet"
GRAPHS: Final = DATA / "graphs"
PRETRAINED: Final = DATA / "pretrained"
MEMBERS: Final = DATA / "members"
ENSEMBLE: Final = DATA / "ensemble"
CALIBRATION: Final = ENSEMBLE / "calibration.json"
CANDIDATES: Final = DATA / "candidates" / "candidates.parquet"
RANKED: Final = DATA / "screening" / "ranked.parquet"
RELAXED: Final = DATA / "relaxed"
REPORT: Final = DATA / "report" / "index.html"
