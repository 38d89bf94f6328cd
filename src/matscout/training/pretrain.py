"""The stage `pretrain`: one network for all databases, with a head for each.

Databases differ in reference energies, functionals and corrections. Their labels are not converted to one scale: each
combination of database and functional has its own head on the shared encoder, which learns the labels as published.
Fine-tuning continues with the head of the database to which the labels of the target belong.
"""

from collections import Counter
from itertools import islice
from pathlib import Path

import pandas as pd

from matscout import columns
from matscout.curated_table import CuratedTable
from matscout.errors import InputError, TrainingError
from matscout.params import Params, Target, block_of
from matscout.training.dataset import class_label, read_labels
from matscout.training.train_member import UNTRACKED, train
from matscout.training.training import Tracker, Training, TrainingInputs

LEAST_LABELS = 20  # in the training fold; a class with fewer gets no head
N_SHOWN = 3


def pretrain(
    name: str,
    *,
    params: Params,
    graphs: Path,
    split: Path,
    materials: Path,
    destination: Path,
    tracker: Tracker = UNTRACKED,
) -> None:
    """Train the block `name` of `params.pretrained` on every database; write it as `train_member` does.

    Only rows of the training fold are learnt, and no material of them may be in another fold.

    Args:
        name: key of `params.pretrained`.
        params: sections `pretrained`, `targets`, `model` and `compute`.
        graphs: folder of the graph store.
        split: table of material_id and fold.
        materials: curated table.
        destination: folder to write.
        tracker: where curves go beside `history.parquet`; by default nowhere.

    Raises:
        ParameterError: no such block.
        InputError: one material is in the training fold and in a held-out one.
        TrainingError: as for `train_member`, or no database has enough labels.
    """
    member = block_of("pretrained", params.pretrained, name)
    check_whole_groups(materials, split)
    heads = database_targets(materials, split, params)
    training = Training.of(name, member, params, targets=heads)
    train(training, TrainingInputs(graphs, split, materials), destination, tracker)


def database_targets(materials: Path, split: Path, params: Params) -> dict[str, Target]:
    """Make one target for each target of `params` and class of rows with enough labels in the training fold.

    It is named `band_gap@oqmd` for the functional that most of the database's labels have, so that fine-tuning finds
    it, and `band_gap@oqmd/SCAN` for any other. The labels are the published ones, without offsets.

    Args:
        materials: of the curated table, parquet.
        split: fold of each material id, parquet.
        params: all parameters.

    Returns:
        Targets by name.

    Raises:
        TrainingError: no class of rows has enough labels.
    """
    table = CuratedTable(materials).with_folds(split, [columns.SOURCE, columns.FUNCTIONAL])
    published = {target: _published(target, settings) for target, settings in params.targets.items()}
    table = table.merge(read_labels(materials, published.values()), on=columns.MATERIAL_ID, validate="one_to_one")
    training = table.loc[table[columns.FOLD] == columns.TRAIN, :]
    heads: dict[str, Target] = {}
    for target, settings in params.targets.items():
        known = training.loc[training[published[target]].notna(), :]
        for source, functional, n, is_most in _classes(known):
            if n >= LEAST_LABELS:
                head = f"{target}@{source}" if is_most else class_label(target, source, functional)
                label = class_label(published[target], source, functional)
                heads[head] = settings.model_copy(update={"label": label, "noise": None})
    if not heads:
        raise TrainingError(
            f"no database has {LEAST_LABELS} labels of {sorted(params.targets)} in the training fold of {split}; "
            "give more rows, or train without pretraining"
        )
    return heads


def _classes(rows: pd.DataFrame) -> list[tuple[str, str, int, bool]]:
    """Database, functional, number of rows, and whether it is the database's most frequent functional."""
    counts = Counter(zip(rows[columns.SOURCE].tolist(), rows[columns.FUNCTIONAL].tolist(), strict=True))
    most: dict[str, str] = {}
    for (source, functional), _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        most.setdefault(source, functional)
    return [(source, functional, n, most[source] == functional) for (source, functional), n in sorted(counts.items())]


def check_whole_groups(materials: Path, split: Path) -> None:
    """Check that no material is both in the training fold and in a held-out one.

    Args:
        materials: with the group of duplicates of each row, parquet.
        split: fold of each material id, parquet.

    Raises:
        InputError: a material is in both; the message names its rows.
    """
    table = CuratedTable(materials).with_folds(split, [columns.DUPLICATE_GROUP])
    trained = set(table.loc[table[columns.FOLD] == columns.TRAIN, columns.DUPLICATE_GROUP])
    held_out = table[columns.FOLD].isin([columns.VALIDATION, columns.TEST])
    torn = table.loc[held_out & table[columns.DUPLICATE_GROUP].isin(list(trained)), columns.DUPLICATE_GROUP].unique()
    if len(torn) == 0:
        return
    rows = table[(table[columns.DUPLICATE_GROUP] == torn[0]) & (table[columns.FOLD] != columns.UNUSED)]
    named = zip(rows[columns.MATERIAL_ID], rows[columns.FOLD], strict=True)
    shown = ", ".join(f"{material_id} ({fold})" for material_id, fold in islice(named, N_SHOWN))
    raise InputError(
        f"{split} tears {len(torn)} materials over the training fold and a held-out one, such as {torn[0]!r}: {shown}; "
        "pretraining would see what it is tested on. Run the stage `split` again"
    )


def _published(target: str, settings: Target) -> str:
    """The column with a target's labels as published: of the aligned formation energy, that before the alignment."""
    return target if target in columns.LABELS else settings.label
