"""`matscout repro`: what `dvc repro` does, with the members trained side by side.

`dvc repro` runs one stage at a time. Here it runs up to the inputs of the trainings; then `matscout train` trains the
members that DVC would train, one per core; then `dvc repro` runs the rest, and each `train@<member>` puts its member in
place. A run that is killed goes on, by this command or by `dvc repro`, and ends in the same bytes.
"""

import os
import sys
from pathlib import Path

from matscout.commands.pipeline_state import INPUT_STAGES, changed_stages, members_to_train
from matscout.engine.settings import Switch
from matscout.params import load_params


def reproduce(switch: Switch) -> int:
    """Bring the pipeline up to date; DVC's exit code.

    Raises:
        ParameterError: `params.yaml` breaks a rule; nothing was touched then.
        InputError: no DVC repository here, or DVC is at work in it.
        TrainingError: members failed.
    """
    load_params()  # a value out of range is refused before DVC removes the outputs that it would make again
    if changed_stages(INPUT_STAGES) and (code := _dvc("repro", *INPUT_STAGES)):
        return code
    params = load_params()
    names = members_to_train(list(params.members))
    if len(names) > 1:  # one alone is trained by its stage
        from matscout.commands.train import make_engine, train_members  # brings torch

        train_members(names, params, make_engine(switch, params.compute))
    return _dvc("repro")


def _dvc(*arguments: str) -> int:
    from dvc.cli import main

    # stages run `python`: this one, also where its environment has not been activated
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return main(list(arguments))
