"""Clones of the repository with a tiny set of real rows, driven by the commands that users type."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from compileall import compile_dir
from functools import cache
from importlib.metadata import version
from pathlib import Path

import yaml
from imports import ROOT

from matscout.sources.formats.crystal_parser import check_bulk
from matscout.sources.record import Record, RowError
from matscout.sources.snapshots.snapshot import read_snapshot

MAX_ATOMS = 8
N_REAL = 260
N_STAND_IN = 40
OUTPUTS = ("data", "metrics", "dvc.lock", ".dvc/cache", "mlflow.db")  # of a run, in the clone
DECIDING = ("src/", "stages/", "data/", "dvc.yaml", "params.yaml", "requirements.txt", "tests/pipeline/tiny_clone.py")
N_KEPT = 3  # runs in pytest's cache: of a branch or two, and of the main one
COMPILED = ("*.nbi", "*.nbc", "*.pyc")  # numba's code, most of a minute of processor for each clone, and Python's
ENCODER_SIZES = {
    "hidden_dim": 8,
    "n_layers": 1,
    "n_alignn_layers": 1,
    "n_gcn_layers": 1,
    "n_radial": 6,
    "n_angular": 4,
    "n_heads": 2,
}


def tiny_params() -> dict:
    """The repository's parameters, shrunk so that the whole pipeline takes little more than its imports."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, database in params["databases"].items():
        database |= {"origin": "file", "path": f"data/tiny/{name}.jsonl"}
    params["curation"]["offsets"] |= {"min_pairs": 5, "bootstrap": 20}
    params["graphs"]["n_neighbors"] = 8
    for member in params["members"].values():
        member["graph"]["n_neighbors"] = min(6, member["graph"]["n_neighbors"])
        member["encoder"] |= {key: size for key, size in ENCODER_SIZES.items() if key in member["encoder"]}
        member["training"]["epochs"] = 2
        member["training"]["start"] = None
    params["hypothetical"] |= {"path": "data/tiny/potential", "n": 400, "per_epoch": 30}
    params["ensemble"] |= {"bootstrap": 10, "drop_factor": None}
    params["candidates"] |= {"n": 40, "max_atoms": 12}
    params["screening"]["top_k"] = 4
    params["relaxation"] |= {"potential": None, "judge": None}  # its own tests relax
    return params


@cache
def tiny_records() -> dict[str, list[Record]]:
    """Real Materials Project rows of small cells, and the stand-ins that match some of them."""
    rows = {name: [] for name in ("materials_project", "aflow", "oqmd")}
    for name, records in rows.items():
        for item in read_snapshot(ROOT / "data" / "sample" / name):
            if isinstance(item, Record) and item.crystal.n_atoms <= MAX_ATOMS and _is_bulk(item):
                records.append(item)
    stand_ins = {name: rows[name][:N_STAND_IN] for name in ("aflow", "oqmd")}
    wanted = {record.crystal.reduced_formula for records in stand_ins.values() for record in records}
    matched = [record for record in rows["materials_project"] if record.crystal.reduced_formula in wanted]
    others = [record for record in rows["materials_project"] if record.crystal.reduced_formula not in wanted]
    others.sort(key=lambda record: record.material_id != "mp-149")  # the pages of docs ask about silicon
    return {"materials_project": (matched + others)[:N_REAL], **stand_ins}


def _is_bulk(record: Record) -> bool:
    """Whether a file may hold it: a few published cells have 14 Å and more between their layers."""
    try:
        check_bulk(record.crystal)
    except RowError:
        return False
    return True


def broken_rows(record: Record) -> dict[str, str]:
    """Lines that a row of a lab's file may hold, by the reason that must be counted for each."""
    row = record.to_row()
    n_atoms = record.crystal.n_atoms
    rows = {
        "atoms_overlap": row | {"frac_coords": [0.1] * (3 * n_atoms)},
        "zero_volume": row | {"lattice": [1.0, 0, 0, 2.0, 0, 0, 0, 0, 1.0]},
        "unknown_element": row | {"species": ["Xx"] * n_atoms},
        "label_not_finite": row | {"band_gap": float("nan")},
        "formation_energy_per_atom_out_of_range": row | {"formation_energy_per_atom": 25.4},
        "count_mismatch": row | {"frac_coords": row["frac_coords"][:3] * (n_atoms + 1)},
    }
    lines = {reason: json.dumps(row | {"material_id": f"broken-{reason}"}) for reason, row in rows.items()}
    return lines | {"invalid_json": json.dumps(row)[:40]}


class Clone:
    """One working copy, driven as a user drives it: by its commands."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(root / "src"),
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MATSCOUT_WORKERS": "1",  # so few rows are done before another process has started
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        # the last is often set in containers: each of hundreds of processes would compile the package anew
        others = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI", "PYTHONDONTWRITEBYTECODE")
        for variable in others:
            self.environment.pop(variable, None)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment | environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} left {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
            )
        return done

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check)

    def edit_params(self, change) -> None:
        """Let `change` edit the tree of params.yaml."""
        tree = yaml.safe_load((self.root / "params.yaml").read_text())
        change(tree)
        (self.root / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    def changed(self) -> set[str]:
        """Stages that `dvc status` names; asked in this process, since a command takes a second to start."""
        from dvc.repo import Repo

        with Repo(str(self.root)) as repo:
            return {name.split(":")[-1] for name in repo.status()}

    def lock(self) -> str:
        return (self.root / "dvc.lock").read_text()

    def stages_run(self, output: str) -> list[str]:
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]

    def members_trained(self, told: subprocess.CompletedProcess) -> list[str]:
        return re.findall(r"train: (\S+) trained", told.stderr)

    def lose_members(self, names: list[str]) -> None:
        """Members that are neither there nor in DVC's cache."""
        stages = yaml.safe_load(self.lock())["stages"]
        for name in names:
            digest = stages[f"train@{name}"]["outs"][0]["md5"]
            (self.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink()
            shutil.rmtree(self.root / "data/members" / name)


def copy_clone(original: Clone, root: Path, *, runs: bool = False) -> Clone:
    """A copy with data, cache, run-cache and compiled code of its own.

    Args:
        original: stays as it is.
        root: of the copy; nothing is there yet.
        runs: with the runs in MLflow and what is half-trained too.
    """
    left = () if runs else ("mlflow.db", "mlartifacts", ".checkpoints", "tmp")
    shutil.copytree(original.root, root, symlinks=True, ignore=shutil.ignore_patterns(*COMPILED, *left))
    copy_compiled(original.root / "src", root / "src")
    return Clone(root)


def git_clone(original: Clone, root: Path) -> Clone:
    """What a colleague gets: the files in Git and nothing else."""
    original.run("git", "clone", "-q", str(original.root), str(root))
    clone = Clone(root)
    clone.run("git", "config", "user.name", "colleague")
    clone.run("git", "config", "user.email", "colleague@example.invalid")
    copy_compiled(original.root / "src", root / "src")
    return clone


def copy_compiled(source: Path, target: Path) -> None:
    """Give a package what numba and Python compiled of the same sources in another place; what it has already stays.

    Args:
        source: folder that holds the sources, such as `src`.
        target: the same, elsewhere.
    """
    for file in (file for kind in COMPILED for file in source.rglob(kind)):
        folder, code = file.parents[3], file.parents[1]  # <folder>/__pycache__/<code>/<of the folder's path>/<file>
        if file.parent.name == "__pycache__":
            place = target / file.relative_to(source)  # of Python, and of numba where nobody tells it another place
        elif file.parent.name == numba_folder(folder):
            there = target / folder.relative_to(source)
            place = there / code.relative_to(folder) / numba_folder(there) / file.name
        else:
            continue  # for a copy of the sources
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = place.with_suffix(f".{os.getpid()}")
            try:
                os.link(file, partial)  # both replace such a file, and never write into it
            except OSError:  # on another disk
                shutil.copy2(file, partial)
            partial.replace(place)  # at once: others may read it


def numba_folder(folder: Path) -> str:
    """numba's name for machine code from the files of a folder."""
    path = str(folder.absolute())
    return f"{folder.name}_{hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()}"


@cache
def tracked_files() -> tuple[str, ...]:
    """What is or will be in Git, from the root of the repository."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(sorted(name for name in set(names) if name and (ROOT / name).is_file()))


def make_clone(root: Path) -> Clone:
    """Copy the working tree's tracked files and compiled code, put tiny data and parameters in, commit."""
    for name in tracked_files():
        if name == "dvc.lock" or name.startswith(("data/sample", "metrics/")):
            continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    copy_compiled(ROOT / "src", root / "src")
    compile_dir(root / "src", quiet=1)  # once for all copies
    (root / "data" / "tiny").mkdir(parents=True)
    shutil.copytree(ROOT / "data" / "sample" / "potential", root / "data" / "tiny" / "potential")
    (root / "data" / "sample" / "pretrained").mkdir(parents=True)
    (root / "data" / "sample" / "pretrained" / "README.md").write_text("Tiny members begin from nothing.\n")
    for name, rows in tiny_records().items():
        lines = "".join(json.dumps(row.to_row()) + "\n" for row in rows)
        if name == "materials_project":
            multi = next(row for row in rows if row.crystal.n_atoms > 1)
            lines += "".join(f"{line}\n" for line in broken_rows(multi).values())
        (root / "data" / "tiny" / f"{name}.jsonl").write_text(lines)
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_params(), sort_keys=False))
    clone = Clone(root)
    clone.run("git", "init", "-q", "-b", "main")
    clone.run("git", "config", "user.name", "test")
    clone.run("git", "config", "user.email", "test@example.invalid")
    clone.run("git", "add", "-A")
    clone.run("git", "add", "-f", "data/tiny")
    clone.run("git", "commit", "-q", "-m", "tiny")
    return clone


def run_once(root: Path, kept: Path) -> str:
    """Make a clone whose pipeline ran and is committed; what `dvc repro` said.

    Args:
        root: of the clone.
        kept: folder of archives with the outputs of former runs; one with the same key is taken instead of running.
    """
    clone, archive, told = make_clone(root), kept / f"{run_key()}.tar", root.parent / "said.txt"
    if archive.exists():
        archive.touch()
        shutil.unpack_archive(archive, root.parent)
    else:
        told.write_text(clone.dvc("repro").stdout)
        copy_compiled(root / "src", ROOT / "src")
        partial = archive.with_suffix(f".{os.getpid()}")
        with tarfile.open(partial, "w") as outputs:
            for name in (told.name, *(f"{root.name}/{output}" for output in OUTPUTS)):
                outputs.add(root.parent / name, name)
        partial.replace(archive)  # at once: a test run that is stopped here leaves none
        for old in sorted(kept.glob("*.tar"), key=lambda file: file.stat().st_mtime)[:-N_KEPT]:
            old.unlink()
    clone.run("git", "add", "dvc.lock", "metrics")
    clone.run("git", "commit", "-q", "-m", "first run")
    return told.read_text()


def run_key() -> str:
    """Of all that decides the outputs: code, parameters, rows, packages, and the processor, which rounds its own way."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else platform.processor()
    processor = dict.fromkeys(re.findall(r"^(?:model name|flags)\s*:.*", told, re.MULTILINE)) or told
    versions = [sys.version, *(f"{name} {version(name)}" for name in ("dvc", "numba", "torch"))]
    digest = hashlib.sha256("\n".join([*processor, *versions]).encode())
    for name in tracked_files():
        if name.startswith(DECIDING):
            digest.update(f"{name}\0".encode() + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()[:32]
