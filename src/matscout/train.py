"""`matscout train`: several members at once, outside of DVC; `dvc repro` then has only their files to write.

`dvc repro` runs one stage at a time, and several at once collide. So workers, each a process with its own
lock and checkpoints, train members to the last epoch, and the stage `train@<member>`, finding that
checkpoint, finishes in seconds. The bytes are those of a serial run.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from matscout.engine.local import LocalEngine
from matscout.engine.on_ray import RayEngine
from matscout.engine.switch import RAY, Switch, n_cores
from matscout.engine.tasks import DONE, Engine, Job
from matscout.errors import InputError, ParameterError, TrainingError
from matscout.models.member import CARD_FILE
from matscout.params import Compute, Params
from matscout.progress import progress
from matscout.training.checkpoints import epochs_saved
from matscout.training.member import fit_member
from matscout.training.plan import plan_member
from matscout.training.provenance import repository, training_hashes

INPUT_STAGES = ("featurize", "hypothetical")
N_SHOWN = 4  # members beside the bar
MEMBERS = Path("data/members")
INPUTS = {
    "graphs": Path("data/graphs"),
    "split": Path("data/training/split.parquet"),
    "materials": Path("data/training/materials.parquet"),
}


def train_members(names: Sequence[str], params: Params, engine: Engine) -> list[str]:
    """Train members to their last checkpoint; return the names of those that were not finished before.

    Raises:
        ParameterError: a name is not in `params.yaml`.
        InputError: curated table, graphs or split are not what `dvc repro` would train on.
        TrainingError: members failed; names each, with its reason. The others are trained.
    """
    if waiting := sorted(set(names) & set(params.finetuned)):
        raise ParameterError(
            f"{waiting[0]} begins with the weights of another member; run: dvc repro finetune@{waiting[0]}"
        )
    if unknown := sorted(set(names) - set(params.members)):
        raise ParameterError(f"no member {unknown} in params.yaml; choose from {sorted(params.members)}")
    check_inputs()
    hashes = training_hashes(**INPUTS)
    plans = {name: plan_member(name, params) for name in names}
    fingerprints = {name: plan.provenance(plan.load_start(), hashes).fingerprint for name, plan in plans.items()}
    epochs = {
        name: params.members[name].training.epochs for name in names if not _is_trained(name, fingerprints, params)
    }
    wanted = list(epochs)
    job = Job(partial(fit_member, params=params, **INPUTS), Path.cwd(), repository() / ".checkpoints" / "logs")
    failures = dict[str, str]()
    with _watch(epochs, fingerprints) as board:
        for ended in engine.run(job, wanted):
            failures |= {name: error for name, error in ended.items() if error != DONE}
            board.show(ended)
    if failures:
        told = "\n".join(f"  {name}: {error}" for name, error in failures.items())
        raise TrainingError(
            f"{len(failures)} of {len(wanted)} members failed; the others are trained. Mend and run again, it goes on "
            f"from the last epoch; what they printed stands in {job.logs}\n{told}"
        )
    return wanted


def make_engine(switch: Switch, compute: Compute) -> Engine:
    """The switch's engine, with as many workers as it tells, else as cards (or cores) allow."""
    cards = visible_cards() if compute.device != "cpu" else []
    each = compute.processes
    ends = range(each, len(cards) + 1, each) or ([len(cards)] if cards else [])  # too few: training says so
    groups = [",".join(cards[max(0, end - each) : end]) for end in ends]  # the cards of one member
    workers = switch.workers or len(groups) or max(1, n_cores() // (each * compute.threads))
    if switch.engine == RAY:
        gpus = float(each * (compute.device == "cuda" or bool(cards)))
        return RayEngine(workers, cpus=each * compute.threads, gpus=gpus)
    return LocalEngine([{"CUDA_VISIBLE_DEVICES": groups[n % len(groups)]} if groups else {} for n in range(workers)])


def visible_cards() -> list[str]:
    """The graphics cards this process may use, by the names that `CUDA_VISIBLE_DEVICES` takes."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [card for card in told.split(",") if card]
    return [str(number) for number in range(torch.cuda.device_count())]


def check_inputs() -> None:
    """Refuse to train on inputs that `dvc repro` would make anew: its fingerprint would be another.

    Raises:
        InputError: they are missing or changed, or DVC cannot tell.
    """
    missing = [str(path) for path in INPUTS.values() if not path.exists()]
    if missing:
        raise InputError(f"{', '.join(missing)} not found; run: dvc repro {' '.join(INPUT_STAGES)}")
    command = [sys.executable, "-m", "dvc", "status", "--json", "--with-deps", *INPUT_STAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- fixed arguments
    if done.returncode:
        raise InputError(f"`dvc status` failed: {done.stderr.strip()}")
    if changed := json.loads(done.stdout):
        raise InputError(f"changed since they ran: {', '.join(changed)}; run: dvc repro {' '.join(INPUT_STAGES)}")


def _is_trained(name: str, fingerprints: Mapping[str, str], params: Params) -> bool:
    """Whether its folder came from this very training, or the checkpoint of its last epoch waits for the stage."""
    if epochs_saved(name, fingerprints[name]) == params.members[name].training.epochs:
        return True
    try:
        return json.loads((MEMBERS / name / CARD_FILE).read_text())["hashes"]["fingerprint"] == fingerprints[name]
    except (OSError, ValueError, KeyError):
        return False  # not there, or not whole: the stage writes it anew


@dataclass
class _Board:
    """One bar for all members: epochs done, and how far each running member is."""

    bar: Any
    epochs: Mapping[str, int]
    fingerprints: Mapping[str, str]
    ended: set[str] = field(default_factory=set)

    def show(self, ended: Mapping[str, str]) -> None:
        """Look at the checkpoints; name what ended."""
        for name, error in ended.items():
            self.bar.write(f"train: {name} {'trained' if error == DONE else 'FAILED'}", file=sys.stderr)
        self.ended.update(ended)
        saved = {name: epochs_saved(name, self.fingerprints[name]) for name in self.epochs}
        self.bar.update(sum(saved.values()) - self.bar.n)
        under_way = [f"{name} {n}/{self.epochs[name]}" for name, n in saved.items() if n and name not in self.ended]
        self.bar.set_postfix_str(", ".join(under_way[:N_SHOWN]), refresh=False)


@contextmanager
def _watch(epochs: Mapping[str, int], fingerprints: Mapping[str, str]) -> Iterator[_Board]:
    done = sum(epochs_saved(name, fingerprints[name]) for name in epochs)
    with progress(description="train", total=sum(epochs.values()), done=done, unit="epoch") as bar:
        board = _Board(bar, epochs, fingerprints)
        board.show({})
        yield board
