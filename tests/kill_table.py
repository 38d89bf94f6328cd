"""The table of kills in benchmarks/results/kills.md: each test that kills notes when it did and what came of it.

MATSCOUT_KILL_TABLE=kills.md python -m pytest -m "" tests/training/test_checkpoints.py tests/pipeline/test_pipeline_killed.py
"""

import os
from pathlib import Path

VARIABLE = "MATSCOUT_KILL_TABLE"


def note(killed: str, moment: str, outcome: str) -> None:
    """Append a row, where a table is asked for."""
    if os.environ.get(VARIABLE):
        with Path(os.environ[VARIABLE]).open("a") as table:
            table.write(f"| {killed} | {moment} | {outcome} |\n")
