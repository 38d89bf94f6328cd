"""What a snapshot is: where its rows come from, how they are shaped, and the hashes of its pages."""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from matscout.errors import InputError
from matscout.files import write_json

MANIFEST_NAME = "manifest.json"
PAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Manifest(BaseModel):
    """`manifest.json` of one snapshot; no clock in it, so equal rows give equal bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(description="name in params.databases")
    origin: str = Field(description="sample, api, bulk, optimade or file")
    endpoint: str | None = Field(description="base URL asked, or the file read")
    query: dict[str, Any] | None = Field(description="what was asked, in the service's own words; null = all of a file")
    format: str = Field(description="shape of the pages, one of matscout.sources.formats.page_formats.FORMATS")
    database_version: str | None = Field(description="as the service states it; null = not offered")
    energy_corrections: str | None = Field(default=None, description="scheme of the formation energies")
    n_rows: int
    pages: dict[str, str] = Field(description="file name -> SHA-256")
    licence: str
    citation: str = Field(description="BibTeX")
    client: str = Field(description="what fetched or converted the rows, with its version")

    @field_validator("pages")
    @classmethod
    def _pages_lie_in_the_folder(cls, pages: dict[str, str]) -> dict[str, str]:
        for name in pages:
            if not PAGE_NAME.fullmatch(name):
                message = f"page {name!r:.60} is no name of a file in the snapshot's folder"
                raise ValueError(message)
        return pages

    skipped: dict[str, int] = Field(
        default_factory=dict, description="rows that the service holds or announces and did not give, by reason"
    )
    planted: dict[str, Any] | None = Field(default=None, description="what a synthetic stand-in was made with")


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, last of a snapshot's files; `skipped` stands in it only where rows were."""
    content = manifest.model_dump()
    if not manifest.skipped:
        del content["skipped"]
    write_json(Path(directory) / MANIFEST_NAME, content)


def read_manifest(directory: Path) -> Manifest:
    """Read and check `manifest.json`.

    Args:
        directory: of the snapshot.

    Returns:
        The content of `manifest.json`.

    Raises:
        InputError: it is absent, no JSON, or lacks a field.
    """
    path = Path(directory) / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path} not found: {directory} is no snapshot; run the stage `acquire` first") from error
    except ValidationError as error:
        raise InputError(f"{path} is no manifest ({error}); acquire the database again") from error
