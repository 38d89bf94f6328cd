"""The outputs of every stage, as one object that the report reads; a missing file is an error."""

import ast
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.curated_table import MATERIALS_NAME, CuratedTable
from matscout.errors import InputError
from matscout.params import Goal, Member, Params
from matscout.sources.snapshots.snapshot_files import Manifest, read_manifest


@dataclass(frozen=True)
class MemberRun:
    """One trained member: its `member.json`, its learning curve and its errors."""

    name: str
    card: dict[str, Any]
    history: pd.DataFrame
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run of the pipeline, read from its files under `data`; each table is read when first needed."""

    data: Path
    params: Params

    @cached_property
    def targets(self) -> list[str]:
        """The predicted properties; those in the goal come first."""
        aims = [aim.column for aim in self.goal.objectives if aim.column in self.params.targets]
        return list(dict.fromkeys([*aims, *self.params.targets]))

    @property
    def goal(self) -> Goal:
        """The goal of the screening."""
        return self.params.screening.goals[self.params.screening.goal]

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        """The manifest of each database's snapshot, in the order of `params.yaml`."""
        return {name: read_manifest(self.data / "raw" / name) for name in self.params.databases}

    @cached_property
    def materials(self) -> pd.DataFrame:
        """The curated table without lattices and coordinates."""
        table = CuratedTable(self.data / "curated" / MATERIALS_NAME)
        return table.rows(name for name in table.names if name not in {columns.LATTICE, columns.FRAC_COORDS})

    @cached_property
    def quarantine(self) -> pd.DataFrame:
        """Rows that curation rejected, with their reasons."""
        return read_table(self.data / "curated" / "quarantine.parquet", "curate")

    @cached_property
    def curation(self) -> dict[str, Any]:
        """Counts and reference offsets."""
        return read_json(self.data / "curated" / "summary.json", "curate")

    @cached_property
    def hypothetical(self) -> dict[str, Any]:
        """Counts of the crystals labelled by a potential; `rows` is 0 if none are used."""
        return read_json(self.data / "hypothetical" / "summary.json", "hypothetical")

    @cached_property
    def split(self) -> pd.DataFrame:
        """Fold of each material."""
        return read_table(self.data / "splits" / "split.parquet", "split")

    @cached_property
    def members(self) -> dict[str, MemberRun]:
        """Every member of `params.yaml`, in its order."""
        return {name: self._member(name) for name in self.params.ensembled}

    def stage_of(self, name: str) -> str:
        """The stage that trains a member."""
        return f"{'train' if name in self.params.members else 'finetune'}@{name}"

    def _member(self, name: str) -> MemberRun:
        folder, stage = self.data / "members" / name, self.stage_of(name)
        return MemberRun(
            name,
            read_json(folder / "member.json", stage),
            read_table(folder / "history.parquet", stage),
            read_json(folder / "metrics.json", stage),
        )

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The ensemble's predictions of the curated rows."""
        return read_table(self.data / "ensemble" / "predictions.parquet", "evaluate")

    @cached_property
    def ensemble(self) -> dict[str, Any]:
        """Errors and calibration of members, ensemble and baselines."""
        return read_json(self.data / "ensemble" / "metrics.json", "evaluate")

    @cached_property
    def attrition(self) -> Any:
        """How many candidates each gate rejected."""
        return read_json(self.data / "candidates" / "attrition.json", "propose")

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """Candidates in rank order, without their crystals."""
        path = self.data / "screening" / "ranked.parquet"
        return read_table(path, "screen", columns=[c for c in names_of(path, "screen") if c not in columns.CRYSTAL])

    @cached_property
    def screening(self) -> dict[str, Any]:
        """The counts of the stage `screen`."""
        return read_json(self.data / "screening" / "summary.json", "screen")

    @cached_property
    def relaxed(self) -> pd.DataFrame:
        """Relaxed candidates: those that stay, in their new order, then those that left; empty if none was relaxed."""
        return read_table(self.data / "relaxed" / "relaxed.parquet", "relax")

    @cached_property
    def relaxation(self) -> dict[str, Any]:
        """The counts of the stage `relax`; `potential` is None if nothing was relaxed."""
        return read_json(self.data / "relaxed" / "summary.json", "relax")

    def flags(self, column: str) -> NDArray[np.bool_]:
        """(n,) a yes-or-no column of the ranked candidates."""
        return self.ranked[column].to_numpy(dtype=bool)

    def crystals(self, ids: Sequence[str]) -> dict[str, Crystal]:
        """The crystals of the candidates `ids`: the relaxed cell of those that were relaxed and stay."""
        path = _existing(self.data / "screening" / "ranked.parquet", "screen")
        rows = pq.read_table(
            path, columns=[columns.CANDIDATE_ID, *columns.CRYSTAL], filters=[(columns.CANDIDATE_ID, "in", list(ids))]
        )
        found = {row[columns.CANDIDATE_ID]: Crystal.from_row(row) for row in rows.to_pylist()}
        if len(self.relaxed):
            stays = self.relaxed.loc[self.relaxed[columns.RANK].notna()]
            moved = {row[columns.CANDIDATE_ID]: Crystal.from_row(row) for row in stays.to_dict("records")}
            found |= {name: crystal for name, crystal in moved.items() if name in found}
        return found


def read_json(path: Path, stage: str) -> Any:
    """Read the JSON that `stage` writes.

    Args:
        path: path of the file.
        stage: stage that writes it, for the message.

    Returns:
        The content.

    Raises:
        InputError: the file is missing or not JSON.
    """
    try:
        return json.loads(_existing(path, stage).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error}); make it again with `dvc repro -f {stage}`") from error


def read_table(path: Path, stage: str, *, columns: list[str] | None = None) -> pd.DataFrame:
    """Read the parquet table that `stage` writes.

    Args:
        path: the file.
        stage: the stage that writes it, for the message.
        columns: columns to read; None reads all.

    Returns:
        The table.

    Raises:
        InputError: the file is missing.
    """
    return pd.read_parquet(_existing(path, stage), columns=columns)


def names_of(path: Path, stage: str) -> list[str]:
    """Column names of a parquet table."""
    return list(pq.read_schema(_existing(path, stage)).names)


def _existing(path: Path, stage: str) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing; the stage `{stage}` makes it: run `dvc repro {stage}`")
    return path


def database_citations(manifests: Iterable[Manifest]) -> list[str]:
    """BibTeX of each database, each entry once; stand-ins cite the database that they are derived from."""
    entries = [entry for manifest in manifests for entry in manifest.citation.split("\n") if entry]
    return list(dict.fromkeys(entries))


def paper_of(member: Member) -> str:
    """Read the `PAPER` of the file of a member's architecture.

    The file is named after the architecture. It is read, not imported, so that the report does not need torch.

    Args:
        member: the member; only its architecture matters.

    Returns:
        The citation as text.

    Raises:
        InputError: the file names no paper.
    """
    source = files("matscout.models.encoders").joinpath(f"{member.architecture}.py").read_text(encoding="utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "PAPER" and statement.value:
            return str(ast.literal_eval(statement.value))
    raise InputError(f"models/encoders/{member.architecture}.py cites no paper; add a line `PAPER: Final = ...`")
