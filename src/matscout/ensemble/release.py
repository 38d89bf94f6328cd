"""The release: the ensemble of the bundled sample that ships in the package, so that prediction needs no training.

`python -m matscout.ensemble.release` makes it from a finished run. The folder `matscout/release/` holds the weights and
cards of members and surrogates, the calibration, the rounded embeddings of the training set, the lowest known phase of
each formula (the hull), and `release.json`: version, origin, and the limits and goals that apply outside a repository.
"""

import argparse
import datetime as dt
import hashlib
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pandas as pd

import matscout
from matscout import columns
from matscout.crystal import formula_key
from matscout.curated_table import CuratedTable
from matscout.ensemble.calibration.ensemble_calibration import CALIBRATION_FILE, REFERENCE_FILE, EnsembleCalibration
from matscout.ensemble.members import SURROGATES, copy_members
from matscout.ensemble.training_distance import TrainingReference
from matscout.errors import StoreError
from matscout.files import atomic_path, sha256_of, write_json, write_parquet
from matscout.layout import ENSEMBLE, MATERIALS, MEMBERS
from matscout.models.saved_member import CARD_FILE
from matscout.params import PARAMS_FILE, Goal, Params, Validity, load_params

RELEASE: Final = Path(matscout.__file__).parent / "release"
CARD: Final = "release.json"  # also the mark of a folder that may be replaced
HULL: Final = "hull.parquet"


@dataclass(frozen=True)
class Answering:
    """The ensemble that is used, and what belongs to it.

    Attributes:
        members: folder of members.
        ensemble: folder of the calibration.
        materials: known phases, for energies above the hull; None = there are none.
        told: one line that names it, for the user.
    """

    members: Path
    ensemble: Path
    materials: Path | None
    told: str

    @property
    def is_release(self) -> bool:
        """Whether it ships with matscout."""
        return self.members.parent == RELEASE

    @cached_property
    def limits(self) -> Validity:
        """Physical limits of crystals, from `params.yaml` or, outside a repository, from the release."""
        if not self.is_release or _in_repository():
            return load_params().curation.validity
        return Validity.model_validate(card()["validity"])

    @cached_property
    def goals(self) -> dict[str, Goal]:
        """Goals by name, from `params.yaml` or, outside a repository, from the release."""
        if not self.is_release or _in_repository():
            return load_params().screening.goals
        return {name: Goal.model_validate(goal) for name, goal in card()["goals"].items()}


def answering(members: Path | None = None, ensemble: Path | None = None) -> Answering:
    """The ensemble of the named folders, or of this repository, or the release.

    Args:
        members: folder of members; None = this repository's, if it has a whole ensemble.
        ensemble: folder of the calibration; likewise.

    Raises:
        StoreError: there is neither an ensemble here nor a release in the package.
    """
    materials = MATERIALS if MATERIALS.is_file() else None
    own = (members or MEMBERS, ensemble or ENSEMBLE)
    if members is not None or ensemble is not None:
        return Answering(*own, materials, f"the ensemble of {own[0]} and {own[1]}")
    if (ENSEMBLE / CALIBRATION_FILE).is_file() and MEMBERS.is_dir():
        calibration = sha256_of(ENSEMBLE / CALIBRATION_FILE)[:8]
        return Answering(*own, materials, f"this repository's ensemble ({MEMBERS}, calibration {calibration})")
    found = card()
    told = f"the release {found['version']} that ships with matscout ({found['data']}; {found['date']})"
    if MEMBERS.is_dir() and any(MEMBERS.iterdir()):
        told += f"; {MEMBERS} holds members that are not calibrated yet (dvc repro evaluate)"
    return Answering(RELEASE / "members", RELEASE, RELEASE / HULL, told)


def card() -> dict[str, Any]:
    """Read `release.json`.

    Returns:
        The content of the file.

    Raises:
        StoreError: the package was installed without it.
    """
    try:
        return json.loads((RELEASE / CARD).read_text())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"there is no trained ensemble here ({ENSEMBLE / CALIBRATION_FILE}) and none in the package "
            f"({RELEASE / CARD}: {type(error).__name__}); run `make repro` in the repository, or install matscout again"
        ) from error


def make_release(params: Params, *, root: Path = Path(), destination: Path = RELEASE) -> dict[str, Any]:
    """Write the release of a finished run.

    Args:
        params: parameters of the run.
        root: root of the repository.
        destination: folder, replaced as a whole.

    Returns:
        The content of `release.json`.

    Raises:
        StoreError: the run is not finished.
    """
    members, ensemble = root / MEMBERS, root / ENSEMBLE
    names = list(params.ensembled)
    needed = [ensemble / CALIBRATION_FILE, root / MATERIALS, *(members / name / CARD_FILE for name in names)]
    if missing := [str(path) for path in needed if not path.is_file()]:
        raise StoreError(f"no finished run: {', '.join(missing)} not found; run `make repro` first")
    hull = lowest_rows(root / MATERIALS)
    content = {
        "name": "matscout, bundled sample",
        "version": matscout.__version__,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "data": f"{_n_real(root / MATERIALS):,} rows of the bundled Materials Project sample, PBE and PBE+U",
        "members": {name: _listing(members / name) for name in names},
        "materials_md5": _md5(root / MATERIALS),
        "made_on": machine_kind(),
        "validity": params.curation.validity.model_dump(mode="json"),
        "goals": {name: goal.model_dump(mode="json") for name, goal in params.screening.goals.items()},
    }
    with atomic_path(destination, mark=CARD) as folder:
        copy_members(members, folder / "members", names)
        surrogates = EnsembleCalibration.load(ensemble / CALIBRATION_FILE).surrogates
        copy_members(ensemble / SURROGATES, folder / SURROGATES, list(surrogates))
        shutil.copyfile(ensemble / CALIBRATION_FILE, folder / CALIBRATION_FILE)
        TrainingReference.load(ensemble / REFERENCE_FILE).rounded().save(folder / REFERENCE_FILE)
        write_parquet(folder / HULL, hull)
        write_json(folder / CARD, content)
    return content


def lowest_rows(materials: Path) -> pd.DataFrame:
    """The lowest real row with an aligned energy of each formula, the phases of the hull, by material id."""
    table = CuratedTable(materials).phases()
    table["formula"] = [formula_key(list(symbols)) for symbols in table[columns.SPECIES]]
    table = table.sort_values([columns.FORMATION_ENERGY_ALIGNED, columns.MATERIAL_ID]).drop_duplicates("formula")
    table[columns.SPECIES] = [_one_formula_unit(key) for key in table["formula"]]
    return table.drop(columns="formula").sort_values(columns.MATERIAL_ID).reset_index(drop=True)


def machine_kind() -> str:
    """What affects the last digits of a training besides its inputs: processor, vector units, torch."""
    from importlib.metadata import version

    import torch

    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} torch {version('torch')}"


def folder_md5(listing: Mapping[str, str]) -> str:
    """DVC's hash of a folder, as `dvc.lock` has it, from its files' MD5 by relative path."""
    files = [{"md5": listing[name], "relpath": name} for name in sorted(listing)]
    return hashlib.md5(json.dumps(files, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _in_repository() -> bool:
    """Whether the working directory holds matscout's parameters, and not another project's."""
    return PARAMS_FILE.is_file() and "\nscreening:" in PARAMS_FILE.read_text(errors="replace")


def _listing(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): _md5(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _n_real(materials: Path) -> int:
    return int((~CuratedTable(materials).rows([columns.SYNTHETIC])[columns.SYNTHETIC].to_numpy(bool)).sum())


def _one_formula_unit(key: str) -> list[str]:
    """`O3 Sr1` -> O, O, O, Sr."""
    symbols = []
    for part in key.split():
        symbol = part.rstrip("0123456789")
        symbols += [symbol] * int(part[len(symbol) :])
    return symbols


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the release of the run in this repository."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.parse_args(arguments)
    content = make_release(load_params())
    size = sum(path.stat().st_size for path in RELEASE.rglob("*") if path.is_file())
    print(f"{RELEASE}: {content['version']}, {len(content['members'])} members, {size / 1e6:.1f} MB; commit it")


if __name__ == "__main__":
    main()
