"""`matscout train` and `matscout repro`: train several members at once; a later `dvc repro` finds them trained.

`dvc repro` runs one stage at a time, and several at once collide. So workers, each a process with its own lock and
checkpoints, train members and keep them beside their checkpoints, where the stage `train@<member>` finds them. The
bytes are those of a serial run.

`matscout repro` runs `dvc repro` up to the inputs of the trainings; then it trains, one per core, the members that DVC
would train: those that are neither up to date nor in its cache; then `dvc repro` runs the rest. A killed run resumes
with this command or with `dvc repro`, and gives the same bytes.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from matscout import layout
from matscout.engine.process_setup import RAY, Switch, n_cores, visible_cards
from matscout.engine.ray_engine import RayEngine
from matscout.engine.worker_tasks import DONE, Engine, Job, LocalEngine
from matscout.errors import InputError, ParameterError, TrainingError
from matscout.params import Compute, Member, Params, load_params
from matscout.progress import progress
from matscout.resume.parts import CHECKPOINTS, root
from matscout.training.checkpoints import epochs_saved, is_kept
from matscout.training.training import TrainingInputs, member_training

N_SHOWN = 4  # number of members named beside the bar
COST = {  # ms of one core per crystal and epoch; only determines which member starts first
    "cgcnn": 0.6,
    "megnet": 1.1,
    "alignn": 1.2,
    "cogn": 0.7,
    "comformer": 1.2,
    "composition": 0.5,
}
INPUTS = TrainingInputs(
    graphs=layout.GRAPHS,
    split=layout.TRAINING_SPLIT,
    materials=layout.TRAINING_MATERIALS,
)


def train_members(names: Sequence[str], params: Params, engine: Engine) -> list[str]:
    """Train the members that `dvc repro` would train and that are not trained in advance yet.

    Args:
        names: names of the members.
        params: all parameters.
        engine: where they are trained.

    Returns:
        Names of the members that were trained.

    Raises:
        ParameterError: a name is not in `params.yaml`.
        InputError: curated table, graphs or split are not what `dvc repro` would train on.
        TrainingError: members failed; names each, with its reason. The others are trained.
    """
    if waiting := sorted(set(names) & set(params.finetuned)):
        raise ParameterError(
            f"{waiting[0]} starts from the weights of another member; run: dvc repro finetune@{waiting[0]}"
        )
    if unknown := sorted(set(names) - set(params.members)):
        raise ParameterError(f"no member {unknown} in params.yaml; choose from {sorted(params.members)}")
    check_inputs()
    hashes = INPUTS.hashes()
    fingerprints = {name: member_training(name, params).provenance(hashes).fingerprint for name in names}
    wanted = [name for name in members_to_train(names) if not is_kept(name, fingerprints[name])]
    wanted.sort(
        key=lambda name: -_duration(params.members[name])
    )  # the longest first, so that all cores finish at about the same time
    epochs = {name: params.members[name].training.epochs for name in wanted}
    if not wanted:
        return []
    logs = root() / CHECKPOINTS / "logs"
    job = Job(
        partial(_fit, params=params), Path.cwd(), logs, imports=("matscout.training.train_member", "mlflow.tracking")
    )
    failures = dict[str, str]()
    with _watch(epochs, fingerprints) as board, closing(engine.run(job, wanted)) as rounds:
        for ended in rounds:
            failures |= {name: error for name, error in ended.items() if error != DONE}
            board.show(ended)
    if failures:
        told = "\n".join(f"  {name}: {error}" for name, error in failures.items())
        raise TrainingError(
            f"{len(failures)} of {len(wanted)} members failed; the others are trained. Fix the cause and rerun; "
            f"training resumes from the last epoch; their output is in {job.logs}\n{told}"
        )
    return wanted


def make_engine(switch: Switch, compute: Compute) -> Engine:
    """The engine of the switch, with as many workers as it states, or as many as GPUs (or cores) allow."""
    cards = visible_cards() if compute.device != "cpu" else []
    each = compute.processes
    ends = range(each, len(cards) + 1, each) or ([len(cards)] if cards else [])  # too few: training says so
    groups = [",".join(cards[max(0, end - each) : end]) for end in ends]  # the GPUs of one member
    workers = switch.workers or len(groups) or max(1, n_cores() // (each * compute.threads))
    if switch.engine == RAY:
        gpus = float(each * (compute.device == "cuda" or bool(cards)))
        return RayEngine(workers, cpus=each * compute.threads, gpus=gpus)
    return LocalEngine([{"CUDA_VISIBLE_DEVICES": groups[n % len(groups)]} if groups else {} for n in range(workers)])


def check_inputs() -> None:
    """Do not train on inputs that `dvc repro` would make again, because its fingerprint would differ.

    Raises:
        InputError: they are missing or changed, or DVC cannot determine this.
    """
    missing = [str(path) for path in (INPUTS.graphs, INPUTS.split, INPUTS.materials) if not path.exists()]
    if missing:
        raise InputError(f"{', '.join(missing)} not found; run: dvc repro {' '.join(INPUT_STAGES)}")
    if changed := changed_stages(INPUT_STAGES):
        raise InputError(f"changed since they ran: {', '.join(changed)}; run: dvc repro {' '.join(INPUT_STAGES)}")


def _fit(name: str, *, params: Params) -> None:
    from matscout.training.tracking import MLflowTracker
    from matscout.training.train_member import train_beforehand  # torch, which only the workers need

    train_beforehand(member_training(name, params), INPUTS, MLflowTracker(params))


def _duration(member: Member) -> float:
    return member.training.epochs * COST.get(member.architecture, 1.0)


@dataclass
class _Board:
    """One bar for all members: finished epochs, and the progress of each running member."""

    bar: Any
    epochs: Mapping[str, int]
    fingerprints: Mapping[str, str]
    ended: set[str] = field(default_factory=set)

    def show(self, ended: Mapping[str, str]) -> None:
        """Read the checkpoints; name the members that ended."""
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


def reproduce(switch: Switch) -> int:
    """Bring the pipeline up to date, and return DVC's exit code.

    Raises:
        ParameterError: `params.yaml` breaks a rule; nothing is changed then.
        InputError: there is no DVC repository here, or another DVC command is running.
        TrainingError: members failed.
    """
    load_params()  # a value out of range is rejected before DVC removes the outputs that it would make again
    if changed_stages(INPUT_STAGES) and (code := _dvc("repro", *INPUT_STAGES)):
        return code
    params = load_params()
    names = members_to_train(list(params.members))
    if len(names) > 1:  # a single member is trained by its stage
        train_members(names, params, make_engine(switch, params.compute))
    return _dvc("repro")


def _dvc(*arguments: str) -> int:
    from dvc.cli import main

    # stages run `python`, which must be this one even if its environment is not activated
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return main(list(arguments))


INPUT_STAGES = ("featurize",)  # curate, split and hypothetical come before it
PATIENCE_S = 20.0  # with a lock of DVC's


def changed_stages(names: Sequence[str]) -> list[str]:
    """Those of the stages, and of the stages before them, that `dvc repro` would run.

    A stage that `dvc.yaml` marks with `meta: {constant_output: true}` does not count: whatever it runs for, the stages
    after it stay up to date.

    Raises:
        InputError: there is no DVC repository here, or another DVC command is running.
    """

    def changed(repo: Any) -> list[str]:
        constant = {stage.addressing for stage in repo.index.stages if (stage.meta or {}).get("constant_output")}
        return sorted(set(repo.status(targets=list(names), with_deps=True)) - constant)

    return _answer(changed)


def members_to_train(names: Sequence[str]) -> list[str]:
    """Members that `dvc repro` would train: neither up to date nor in its cache.

    Raises:
        InputError: there is no DVC repository here, or another DVC command is running.
    """

    def to_train(repo: Any) -> list[str]:
        with repo.lock:
            return [name for name in names if _would_run(repo.stage.load_one(name=f"train@{name}"))]

    return _answer(to_train)


def _would_run(stage: Any) -> bool:
    return stage.changed() and not _can_be_restored(stage)


def _can_be_restored(stage: Any) -> bool:
    """Whether DVC's `repro` would find the outputs in its cache, by dvc.lock or by an earlier run."""
    from dvc.stage.cache import RunCacheNotFoundError

    if stage.changed_stage() or stage.changed_deps():
        stage.save_deps()  # current hashes, in this object only, to look for an earlier run
        stage.cmd_changed = True  # otherwise they would be taken for those of dvc.lock
    try:
        stage.repo.stage_cache.restore(stage, dry=True)
    except RunCacheNotFoundError:
        return False
    return True


def _answer(question: Callable[[Any], list[str]]) -> list[str]:
    """DVC's answer. DVC is locked for moments, so jobs of a cluster that start together wait for each other."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    told = logging.getLogger("dvc")
    level = told.level
    told.setLevel(logging.WARNING)  # DVC's messages are of no interest here
    until = time.monotonic() + PATIENCE_S
    try:
        while True:
            try:
                with Repo() as repo:
                    return question(repo)
            except LockError:
                if time.monotonic() > until:
                    raise
                time.sleep(1)
    except DvcException as error:
        raise InputError(f"DVC: {error}") from error
    finally:
        told.setLevel(level)
