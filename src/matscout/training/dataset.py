"""The labelled rows of each fold, batches of them, and the loss and errors on them.

Labels are those of the table, of all databases together or of one database and functional alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from matscout import columns
from matscout.curated_table import CuratedTable
from matscout.errors import TrainingError
from matscout.graphs.crystal_graph import CrystalGraph, crystals_between, inference_batches, training_batches
from matscout.graphs.graph_store import GraphStore
from matscout.models.families.registry import FAMILIES
from matscout.models.inference import InferencePlan, head_outputs
from matscout.models.model import CrystalModel
from matscout.params import MemberGraph, Target
from matscout.training.training import Training, TrainingInputs

MAX_EDGES = 8_000  # of a batch without gradients: its activations stay in the caches of the cores it is split over


@dataclass(frozen=True)
class LabelledBatch:
    """Crystals and their labels.

    Attributes:
        inputs: graphs of n crystals.
        labels: by target, (n,) float32, NaN where missing.
        noise: by target, (n,) float32, standard deviation of the label, NaN where unknown.
        material_ids: n names.
        counts: by target, labelled rows of the whole batch if this is a part of one; None = this is a whole batch.
    """

    inputs: CrystalGraph
    labels: Mapping[str, Tensor]
    noise: Mapping[str, Tensor]
    material_ids: list[str]
    counts: Mapping[str, Tensor] | None = None

    @property
    def n_rows(self) -> int:
        """Number of crystals."""
        return len(self.material_ids)

    def part(self, start: int, stop: int) -> Self:
        """The rows `start` to `stop` - 1; with `counts`, the losses of a batch's parts add up to its own."""
        counts = self.counts or {target: (~values.isnan()).sum() for target, values in self.labels.items()}
        return replace(
            self,
            inputs=crystals_between(self.inputs, start, stop),
            labels={target: values[start:stop] for target, values in self.labels.items()},
            noise={target: values[start:stop] for target, values in self.noise.items()},
            material_ids=self.material_ids[start:stop],
            counts=counts,
        )


@dataclass(frozen=True)
class Fold:
    """The labelled rows of one fold.

    Attributes:
        material_ids: (n,) str.
        labels: by target, (n,) float32, NaN where missing.
        noise: by target, (n,) float32, NaN where unknown.
        store: graphs of all materials.
        rows: (n,) rows of the store.
        is_known: (n,) whether the labels come from DFT; a potential labelled the other rows, which are hypothetical
            crystals.
        per_epoch: number of rows labelled by a potential that an epoch draws.
        graph: neighbours and cutoff of the member, a part of the stored graph.
        device: where batches go.
    """

    material_ids: NDArray[np.object_]
    labels: Mapping[str, Tensor]
    noise: Mapping[str, Tensor]
    store: GraphStore
    rows: NDArray[np.int64]
    graph: MemberGraph
    device: torch.device
    is_known: NDArray[np.bool_]
    per_epoch: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rows_per_epoch(self) -> int:
        """Rows that one epoch of training sees."""
        n_known = int(self.is_known.sum())
        return n_known + min(self.per_epoch, len(self) - n_known)

    def known(self) -> Self:
        """The rows that DFT labelled."""
        kept = torch.from_numpy(self.is_known.copy())
        return replace(
            self,
            material_ids=self.material_ids[self.is_known],
            labels={target: values[kept] for target, values in self.labels.items()},
            noise={target: values[kept] for target, values in self.noise.items()},
            rows=self.rows[self.is_known],
            is_known=self.is_known[self.is_known],
        )

    def training_batches(self, *, batch_size: int, seed: int, epoch: int) -> Iterator[LabelledBatch]:
        """Batches of all known rows and of this epoch's draw of the hypothetical ones; the same in every run.

        Args:
            batch_size: largest number of crystals in a batch.
            seed: of the draw and of the order.
            epoch: each has a draw and an order of its own.

        Yields:
            The batches of the epoch.
        """
        chosen = self.rows_of_epoch(seed=seed, epoch=epoch)
        yield from self._batches(training_batches(chosen, batch_size=batch_size, seed=seed, epoch=epoch))

    def rows_of_epoch(self, *, seed: int, epoch: int) -> NDArray[np.int64]:
        """Positions of the known rows, and of `per_epoch` others: each epoch continues where the one before stopped."""
        known, others = np.flatnonzero(self.is_known), np.flatnonzero(~self.is_known)
        per_epoch = min(self.per_epoch, len(others))
        if not per_epoch:
            return known
        first = epoch * per_epoch
        passes = range(first // len(others), (first + per_epoch - 1) // len(others) + 1)
        order = np.concatenate([np.random.default_rng([seed, 1, number]).permutation(others) for number in passes])
        start = first - passes[0] * len(others)
        return np.concatenate([known, order[start : start + per_epoch]])

    def ordered_batches(self, max_edges: int = MAX_EDGES) -> Iterator[tuple[NDArray[np.int64], LabelledBatch]]:
        """Batches of bounded size for a pass without gradients, each with its positions in the fold."""
        edges = self.store.edge_counts(n_neighbors=self.graph.n_neighbors, cutoff=self.graph.cutoff)[self.rows]
        positions = inference_batches(edges, max_edges=max_edges)
        yield from zip(positions, self._batches(positions), strict=True)

    def _batches(self, positions: Iterable[NDArray[np.int64]]) -> Iterator[LabelledBatch]:
        for chosen in positions:
            graph = self.store.batch(self.rows[chosen], n_neighbors=self.graph.n_neighbors, cutoff=self.graph.cutoff)
            picked = torch.from_numpy(chosen)
            yield LabelledBatch(
                graph.to(self.device),
                {target: values[picked].to(self.device) for target, values in self.labels.items()},
                {target: values[picked].to(self.device) for target, values in self.noise.items()},
                self.material_ids[chosen].tolist(),
            )


def class_label(column: str, source: str, functional: str) -> str:
    """Name a column's labels on the rows of one database and functional: `band_gap@oqmd/PBE`.

    Args:
        column: of the labels.
        source: the database.
        functional: of the calculations.

    Returns:
        The name.
    """
    return f"{column}@{source}/{functional}"


def read_labels(materials: Path, names: Iterable[str]) -> pd.DataFrame:
    """Read labels of the published columns, or of one database and functional.

    Args:
        materials: training set, or curated table, whose rows all come from DFT.
        names: columns of it, or `class_label`s of one, which are NaN on all other rows.
    """
    wanted = sorted(set(names))
    published = {name.split("@")[0] for name in wanted}
    of_class = [name for name in wanted if "@" in name]
    table = CuratedTable(materials).labels(published, [columns.SOURCE, columns.FUNCTIONAL] if of_class else [])
    for name in of_class:
        column, _, one = name.partition("@")
        source, _, functional = one.partition("/")
        belongs = (table[columns.SOURCE] == source) & (table[columns.FUNCTIONAL] == functional)
        table[name] = table[column].where(belongs)
    return table.loc[:, [columns.MATERIAL_ID, columns.SYNTHETIC, columns.CALCULATION, *wanted]]


def load_folds(
    training: Training,
    inputs: TrainingInputs,
    store: GraphStore,
    device: torch.device,
    names: Sequence[str] = (columns.TRAIN, columns.VALIDATION, columns.TEST),
) -> dict[str, Fold]:
    """The folds `names` of the rows that have at least one label, by material_id.

    Synthetic rows take part in training only: errors on them would not measure the model.

    Args:
        training: what is learnt, from which part of the stored graphs.
        inputs: table of the materials, and their folds.
        store: graphs of the materials.
        device: where batches go.
        names: folds to load.

    Returns:
        Folds by name, each sorted by material id.

    Raises:
        TrainingError: a fold has no such row, or a label has no logarithm where one is learnt.
    """
    targets = training.targets
    wanted = {target.label for target in targets.values()} | {t.noise for t in targets.values() if t.noise}
    table = read_labels(inputs.materials, wanted)
    table = table.merge(pd.read_parquet(inputs.split), on=columns.MATERIAL_ID, validate="one_to_one")
    table = table.dropna(how="all", subset=[target.label for target in targets.values()])
    table = table.sort_values(columns.MATERIAL_ID, kind="stable")
    folds = {}
    for name in names:
        chosen = (table[columns.FOLD] == name) & ((name == columns.TRAIN) | ~table[columns.SYNTHETIC])
        rows = table.loc[chosen]
        if rows.empty:
            raise TrainingError(
                f"fold {name!r} of {inputs.split} has no row with a label of {sorted(targets)}; "
                "raise split.validation and split.test, or give more rows"
            )
        folds[name] = _fold(rows, training, store, device)
    return folds


def _check_labels(rows: pd.DataFrame, target: Target) -> None:
    """Reject labels that the target's family cannot learn."""
    bad = rows.loc[rows[target.label] <= 0]
    if FAMILIES[target.head].NEEDS_POSITIVE_LABELS and len(bad):
        first = bad.iloc[0]
        raise TrainingError(
            f"{target.label} = {first[target.label]:g} {columns.UNITS.get(target.label, '')} of "
            f"{first[columns.MATERIAL_ID]} ({len(bad)} such row(s)): the head {target.head!r} learns logarithms, which "
            f"need labels above zero; raise the lower limit of curation.validity, or choose the head 'laplace'"
        )


def _fold(rows: pd.DataFrame, training: Training, store: GraphStore, device: torch.device) -> Fold:
    for target in training.targets.values():
        _check_labels(rows, target)
    unknown = np.full(len(rows), np.nan)
    return Fold(
        material_ids=rows[columns.MATERIAL_ID].to_numpy(object),
        labels={name: _float32(rows[target.label]) for name, target in training.targets.items()},
        noise={name: _float32(rows[t.noise] if t.noise else unknown) for name, t in training.targets.items()},
        store=store,
        rows=store.rows_of(rows[columns.MATERIAL_ID].to_numpy(object)),
        graph=training.member.graph,
        device=device,
        is_known=(rows[columns.CALCULATION] == columns.BY_DFT).to_numpy(bool),
        per_epoch=training.per_epoch,
    )


def _float32(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))


Objective = Callable[..., Tensor]  # (outputs, labels, noise), each by target, counts=... of parts


def multi_task_loss(
    outputs: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    noise: Mapping[str, Tensor],
    *,
    targets: Mapping[str, Target],
    units: Mapping[str, float],
    counts: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Weighted sum of the targets' losses, each a mean over its own labelled rows; see `Distribution.loss`.

    Assumes that the targets' errors are independent given the crystal.

    Args:
        outputs: by target, (n, n_parameters) of the head.
        labels: by target, (n,), NaN where missing.
        noise: by target, (n,), standard deviation of the label, NaN where unknown.
        targets: family and weight of each target.
        units: by target, spread of the training labels, which makes its loss dimensionless.
        counts: by target, labelled rows of the whole batch; None = of these rows.

    Returns:
        Scalar.
    """
    terms = [
        target.weight
        * FAMILIES[target.head].loss(
            outputs[name], labels[name], noise[name], unit=units[name], count=counts[name] if counts else None
        )
        for name, target in targets.items()
    ]
    return torch.stack(terms).sum()


def fold_outputs(model: CrystalModel, fold: Fold) -> dict[str, Tensor]:
    """Outputs of the model by target, (n, n_params) on the CPU, in the order of the fold."""
    plan = InferencePlan(max_edges=MAX_EDGES, workers=torch.get_num_threads(), device=str(fold.device))
    return head_outputs(model, fold.store, fold.rows, **fold.graph.model_dump(), plan=plan)


def fold_figures(model: CrystalModel, fold: Fold, objective: Objective) -> dict[str, float]:
    """Loss and errors of a model on a fold.

    Args:
        model: to be measured.
        fold: labelled rows.
        objective: (outputs, labels, noise), each by target -> scalar.

    Returns:
        `loss` over the whole fold, and `mae_<target>` of the median in the target's unit (NaN without labels).
    """
    outputs = fold_outputs(model, fold)
    errors = {f"mae_{target}": error for target, error in mean_absolute_errors(model, outputs, fold).items()}
    return {"loss": objective(outputs, fold.labels, fold.noise).item(), **errors}


def mean_absolute_errors(model: CrystalModel, outputs: Mapping[str, Tensor], fold: Fold) -> dict[str, float]:
    """Mean absolute error of the distributions' medians on the labelled rows.

    Args:
        model: whose head names the family of each target.
        outputs: by target, (n, n_parameters) of the head.
        fold: n labelled rows.

    Returns:
        By target, in its unit; NaN without labels.
    """
    errors = {}
    for target, kind in model.head.kinds.items():
        median = FAMILIES[kind].from_head(outputs[target].numpy()).median()
        residual = median - fold.labels[target].double().numpy()
        known = np.isfinite(residual)
        errors[target] = float(np.abs(residual[known]).mean()) if known.any() else math.nan
    return errors
