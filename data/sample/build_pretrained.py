"""Build `pretrained/`: networks that have learned the energies of hypothetical crystals.

    python data/sample/build_pretrained.py [NAME ...] [--start FOLDER] [--out FOLDER]
    python data/sample/build_pretrained.py --volumes

Run after `dvc repro split`. Members start from those of their name; together with larger ones (`cogn_large`,
`cogn_large_2`) they also predict hypothetical crystals beside the members (`ensemble.surrogates` in params.yaml).
Only labels by the potential are learned, no row of a database: the result knows no such row, whatever the split. All
labels of `potential/` are used, of which a default run takes the first `hypothetical.n` only; the fold `calibration`
of their formulas stays out of both. Resumable; about ten minutes a member and core, 25 minutes for a large one.
`--start` begins with earlier networks and takes half the epochs (a third for large ones) at half the learning rate.
README.md there says how the bundled ones were made.
`--volumes` builds `volumes/` instead, the network that tells the volumes of the potential's minima
(`build_potential.py --volumes`).
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from volume_network import LOG_SCALE

from matscout import columns
from matscout.engine import n_workers
from matscout.engine.process_setup import flush_subnormals
from matscout.files import sha256_of, sha256_of_json, write_json
from matscout.graphs.featurize import build_store
from matscout.hypothetical.potential_labels import MINIMUM, POINTS, Labels
from matscout.hypothetical.training_rows import label_ids, make_hypothetical
from matscout.models.saved_member import CARD_FILE
from matscout.params import Params, Target, load_params
from matscout.training.tracking import MLflowTracker
from matscout.training.train_member import HISTORY_FILE, train
from matscout.training.training import Training, TrainingInputs

DESTINATION = Path(__file__).parent / "pretrained"
MATERIALS, SPLIT = Path("data/curated/materials.parquet"), Path("data/splits/split.parquet")
VOLUMES = Path(__file__).parent / "volumes"
VOLUME_MEMBER, VOLUME_EPOCHS = "cogn", 24
WORK = Path(".checkpoints/pretraining")  # table and graphs of all labels
EPOCHS = {"cgcnn": 40, "megnet": 25, "alignn": 16, "cogn": 30, "comformer": 18, "composition": 30}


@dataclass(frozen=True)
class Large:
    """A larger encoder of a member's architecture, and its training."""

    member: str
    hidden_dim: int
    epochs: int
    lr_scale: float
    seed: int


LARGE = {
    "cogn_large": Large("cogn", hidden_dim=128, epochs=15, lr_scale=0.6, seed=4),
    "cogn_large_2": Large("cogn", hidden_dim=128, epochs=15, lr_scale=0.6, seed=14),
}


def main() -> None:
    """Parse the arguments, pretrain the members one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    params = load_params()
    parser.add_argument("names", nargs="*", metavar="NAME", default=[*params.members, *LARGE])
    parser.add_argument("--start", type=Path, default=None, help="folder of encoders to begin with")
    parser.add_argument("--out", type=Path, default=DESTINATION)
    parser.add_argument("--epochs", type=int, default=None, help="in place of each member's own")
    parser.add_argument("--volumes", action="store_true", help="build `volumes/` instead")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.names} - {*params.members, *LARGE}):
        parser.error(f"no network is named {', '.join(unknown)}; choose from {', '.join([*params.members, *LARGE])}")
    flush_subnormals()
    crystals, graphs = _all_labels(params)
    if arguments.volumes:
        _build_volumes(params, crystals, graphs)
        return
    with tempfile.TemporaryDirectory() as folder:
        materials, split = _tables(crystals, Path(folder))
        for name in arguments.names:
            destination = arguments.out / name
            if name in LARGE:
                training = _of_large(params, name, arguments.epochs, arguments.start)
            else:
                training = _energy_alone(params, name, arguments.epochs, arguments.start)
            tracker = MLflowTracker(params, title="pretraining on hypothetical crystals")
            train(training, TrainingInputs(graphs, split, materials), destination, tracker)
            _tell_origin(destination, crystals)


def _all_labels(params: Params) -> tuple[Path, Path]:
    """Table and graphs of all labels, made once for all networks."""
    labels = Path(params.hypothetical.path)
    inputs = [labels, MATERIALS, SPLIT]
    folder = WORK / sha256_of_json([sha256_of(file) for file in inputs])[:16]
    crystals, graphs = folder / "hypothetical" / "crystals.parquet", folder / "graphs"
    WORK.mkdir(parents=True, exist_ok=True)
    with FileLock(WORK / "lock"):  # networks may train side by side
        if not graphs.exists():
            every = params.hypothetical.model_copy(update={"n": len(Labels.read(labels).table)})
            make_hypothetical(
                MATERIALS,
                SPLIT,
                None,
                every,
                params.curation,
                destination=crystals.parent,
                training=folder / "training",
            )
            build_store(folder / "training" / "materials.parquet", graphs, params.graphs, workers=n_workers())
    return crystals, graphs


def _tables(crystals: Path, folder: Path) -> tuple[Path, Path]:
    """The crystals as a training set: the fold `calibration` validates and tests."""
    table = pd.read_parquet(crystals)
    held = (table[columns.FOLD] == columns.CALIBRATION).to_numpy()
    split = table[[columns.MATERIAL_ID]].assign(**{columns.FOLD: columns.TRAIN})
    split.loc[held, columns.FOLD] = [(columns.VALIDATION, columns.TEST)[row % 2] for row in range(held.sum())]
    table = table.assign(**{columns.SYNTHETIC: False}).drop(columns=columns.CALCULATION)
    table.to_parquet(folder / "materials.parquet")
    split.to_parquet(folder / "split.parquet")
    return folder / "materials.parquet", folder / "split.parquet"


def _energy_alone(params: Params, name: str, epochs: int | None, start: Path | None) -> Training:
    """The training of a member that learns the energy alone."""
    member = params.members[name]
    own = {"epochs": epochs or EPOCHS[name], "start": None, "target_weights": {}}
    if start is not None:
        own["epochs"] = epochs or EPOCHS[name] // 2
        own |= {"start": str(start / name), "lr_scale": member.training.lr_scale / 2}
    recipe = member.training.model_copy(update=own)
    targets = {columns.FORMATION_ENERGY: params.targets[columns.FORMATION_ENERGY]}
    return Training.of(name, member.model_copy(update={"training": recipe}), params, targets=targets)


def _of_large(params: Params, name: str, epochs: int | None, start: Path | None) -> Training:
    """The training of a larger encoder, from random weights or from an earlier one."""
    large = LARGE[name]
    member = params.members[large.member]
    own = {"epochs": epochs or large.epochs, "lr_scale": large.lr_scale, "seed": large.seed, "start": None}
    if start is not None:
        own |= {"epochs": epochs or large.epochs // 3, "lr_scale": large.lr_scale / 2, "start": str(start / name)}
    changes = {
        "encoder": member.encoder.model_copy(update={"hidden_dim": large.hidden_dim}),
        "training": member.training.model_copy(update=own | {"target_weights": {}}),
    }
    targets = {columns.FORMATION_ENERGY: params.targets[columns.FORMATION_ENERGY]}
    return Training.of(name, member.model_copy(update=changes), params, targets=targets)


def _build_volumes(params: Params, crystals: Path, graphs: Path) -> None:
    """Train the network that knows the volumes of the potential's minima, with which labels take a third of the time.

    It starts from the encoder that knows their energies, and learns the labels whose minimum was searched for.
    """
    labels = Labels.read(Path(params.hypothetical.path)).table
    labels = labels.loc[(labels[POINTS] > 1) & labels[MINIMUM].notna()]
    table = pd.read_parquet(crystals).set_index(columns.MATERIAL_ID)
    minima = pd.Series(np.log(labels[MINIMUM].to_numpy(np.float64)), index=label_ids(labels))
    table = table.loc[table.index.intersection(minima.index).sort_values()]
    table = table.assign(**{LOG_SCALE: minima.reindex(table.index)}).reset_index()
    member = params.members[VOLUME_MEMBER]
    own = {"epochs": VOLUME_EPOCHS, "start": str(DESTINATION / VOLUME_MEMBER), "target_weights": {}}
    member = member.model_copy(update={"training": member.training.model_copy(update=own)})
    targets = {LOG_SCALE: Target(label=LOG_SCALE, noise=None, head="laplace", weight=1.0)}
    with tempfile.TemporaryDirectory() as folder:
        table.to_parquet(Path(folder) / "crystals.parquet")
        materials, split = _tables(Path(folder) / "crystals.parquet", Path(folder))
        tracker = MLflowTracker(params, title="volumes of hypothetical crystals")
        training = Training.of(VOLUME_MEMBER, member, params, targets=targets)
        train(training, TrainingInputs(graphs, split, materials), VOLUMES, tracker)
        _tell_origin(VOLUMES, crystals)


def _tell_origin(folder: Path, crystals: Path) -> None:
    """Say in the card that a potential's labels trained it, and drop the history: members need the weights."""
    card = json.loads((folder / CARD_FILE).read_text())
    write_json(folder / CARD_FILE, {**card, "hashes": {"hypothetical": sha256_of(crystals)}})
    (folder / HISTORY_FILE).unlink()


if __name__ == "__main__":
    main()
