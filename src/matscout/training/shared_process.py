"""One of the processes that share a training: `python -m matscout.training.shared_process`, as `launch` starts them."""

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as group

from matscout.errors import MatscoutError, TrainingError
from matscout.params import Compute
from matscout.training.shared_training import INPUTS
from matscout.training.train_member import fit_here
from matscout.training.training_plan import Plan


def main(settings: Path, complaint: Path, inputs: Mapping[str, Path]) -> None:
    """One of the processes that `launch` starts; the first that fails writes why to the file `complaint`."""
    plan = Plan.from_json(json.loads(settings.read_text()))
    try:
        _join(plan.params.compute)
        fit_here(plan, **inputs)
    except Exception as error:
        _complain(complaint, str(error) if isinstance(error, MatscoutError) else traceback.format_exc())
        raise
    group.destroy_process_group()


def _join(compute: Compute) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    if compute.device != "cpu" and torch.cuda.is_available():
        if rank >= torch.cuda.device_count():
            raise TrainingError(
                f"compute.processes = {compute.processes}, but torch sees {torch.cuda.device_count()} GPUs; each "
                "process needs one of its own"
            )
        torch.cuda.set_device(rank)
        group.init_process_group("cpu:gloo,cuda:nccl")
    else:
        group.init_process_group("gloo")
    if rank:  # one progress bar is enough; errors go to their file
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)


def _complain(file: Path, text: str) -> None:
    """The first one's reason stays: the others only say that it left them."""
    try:
        with file.open("x") as stream:
            stream.write(text)
    except FileExistsError:
        pass


if __name__ == "__main__":
    settings, complaint, *paths = sys.argv[1:]
    main(Path(settings), Path(complaint), {key: Path(path) for key, path in zip(INPUTS, paths, strict=True)})
