"""File names of what `curate` writes."""

from typing import Final

MATERIALS_NAME: Final = "materials.parquet"
QUARANTINE_NAME: Final = "quarantine.parquet"
DUPLICATES_NAME: Final = "duplicates.parquet"
SUMMARY_NAME: Final = "summary.json"
