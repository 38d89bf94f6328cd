"""The trained ensemble as one object: crystals in, calibrated predictions out.

A single member of it, or one distilled from it, predicts alone in the first step of a cascade.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.ensemble.calibration.ensemble_calibration import (
    CALIBRATION_FILE,
    REFERENCE_FILE,
    EnsembleCalibration,
    calibrated,
    prediction_table,
    unseen_elements,
)
from matscout.ensemble.calibration.hypothetical_calibration import as_metals, surely_metals
from matscout.ensemble.calibration.target_calibration import TargetCalibration, Tuning
from matscout.ensemble.members import (
    SURROGATES,
    check_store,
    check_weights,
    load_members,
    load_surrogates,
    run_members,
)
from matscout.ensemble.mixture import Combination, Mixture, Temperature
from matscout.ensemble.training_distance import TrainingReference
from matscout.errors import InputError, StoreError
from matscout.files import write_json
from matscout.graphs.graph_store import GraphStore
from matscout.models.inference import ON_CPU, InferencePlan
from matscout.models.saved_member import LoadedMember, load_member
from matscout.params import Graphs

NOT_FINITE = (
    "the members give values that are not finite; check the cell for overlapping atoms, and the members' weights"
)


class Reference(Protocol):
    """Measures how far crystals are from the training set; see `training_distance.TrainingReference`."""

    def distance(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) about 1 within the training distribution."""
        ...

    def is_far(self, distance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) whether a distance is to be flagged."""
        ...

    def is_known(self, formulas: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) whether a database holds a crystal of the formula, as `crystal.formula_key` writes it."""
        ...


@dataclass(frozen=True)
class EnsemblePredictor:
    """Members, their calibration, and the training set's embeddings.

    Attributes:
        members: in the calibration's order.
        surrogates: likewise; they predict hypothetical crystals beside the members.
        calibration: fitted by `evaluate`.
        reference: reference for the distance from the training set.
        hypothetical: whether it is calibrated for hypothetical crystals.
        plan: where the encoders run, and how; on the CPU by default.
    """

    members: tuple[LoadedMember, ...]
    surrogates: tuple[LoadedMember, ...]
    calibration: EnsembleCalibration
    reference: Reference
    hypothetical: bool = False
    plan: InferencePlan = ON_CPU

    @classmethod
    def load(cls, members: Path, ensemble: Path, plan: InferencePlan = ON_CPU) -> Self:
        """Load the ensemble from its folders.

        Args:
            members: folder of members.
            ensemble: folder of the calibration.
            plan: where the encoders run, and how; see `plan_inference`.

        Returns:
            The predictor.

        Raises:
            StoreError: something is missing, cut off, or does not fit; the message names it.
        """
        calibration = EnsembleCalibration.load(Path(ensemble) / CALIBRATION_FILE)
        loaded = load_members(members, list(calibration.members))
        check_weights(loaded, calibration.members)
        surrogates = load_surrogates(Path(ensemble) / SURROGATES, list(calibration.surrogates))
        check_weights(surrogates, calibration.surrogates)
        reference = TrainingReference.load(Path(ensemble) / REFERENCE_FILE)
        return cls(tuple(loaded), tuple(surrogates), calibration, reference, plan=plan)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        return tuple(self.calibration.targets)

    @property
    def graphs(self) -> Graphs:
        """Settings with which to build a store that this ensemble can read."""
        return Graphs.model_validate(self.calibration.graphs)

    def for_hypothetical(self) -> Self:
        """The predictor for hypothetical crystals: their calibration, surrogates, and metals told by composition."""
        targets = {**self.calibration.targets, **self.calibration.hypothetical}
        return replace(self, calibration=replace(self.calibration, targets=targets), hypothetical=True)

    def only(self, member: LoadedMember, targets: Mapping[str, TargetCalibration], reference: Reference) -> Self:
        """One member instead of all, with its own calibration.

        Args:
            member: member that predicts.
            targets: its calibration by target.
            reference: reference for the distance from the training set, by this member's embeddings.

        Returns:
            A predictor of this member alone.
        """
        calibration = replace(
            self.calibration,
            members={member.name: member.card.weights_sha256},
            surrogates={},
            targets=dict(targets),
        )
        return replace(self, members=(member,), surrogates=(), calibration=calibration, reference=reference)

    def predict(
        self,
        store: GraphStore,
        rows: NDArray[np.int64] | None = None,
        *,
        sources: NDArray[np.str_] | None = None,
    ) -> pd.DataFrame:
        """Predict crystals.

        Args:
            store: graphs, built with `self.graphs`.
            rows: (n,) rows of the store; None = all.
            sources: (n,) database of each row, for its own intervals; None for candidates.

        Returns:
            One row per crystal, in the order of `rows`; columns as in `columns.py`, values in the targets' units.

        Raises:
            StoreError: the store was built with settings that the members were not trained on, or a crystal
                gives values that are not finite.
        """
        table, _ = self.predict_mixtures(store, rows, sources=sources)
        asked = store.ids if rows is None else store.ids[np.asarray(rows, dtype=np.int64)]
        if len(table) < len(asked):
            left_out = sorted(set(asked.tolist()) - set(table[columns.MATERIAL_ID]))
            raise StoreError(f"{len(left_out)} crystal(s), such as {left_out[0]}: {NOT_FINITE}")
        return table

    def predict_mixtures(
        self,
        store: GraphStore,
        rows: NDArray[np.int64] | None = None,
        *,
        sources: NDArray[np.str_] | None = None,
    ) -> tuple[pd.DataFrame, dict[str, Mixture]]:
        """Predict crystals, with their whole distributions.

        Crystals for which a member gives values that are not finite are left out; the ids in the table show which
        remain.

        Args:
            store: graphs, built with `self.graphs`.
            rows: (n,) rows of the store; None = all.
            sources: (n,) database of each row, for its own intervals; None for candidates.

        Returns:
            The table of `predict`, and each target's calibrated distributions of the same rows.
        """
        surrogates = self.surrogates if self.hypothetical else ()
        check_store([*self.members, *surrogates], store)
        rows = np.arange(len(store)) if rows is None else np.asarray(rows, dtype=np.int64)
        outputs = run_members(self.members, store, rows, plan=self.plan, description="predict", surrogates=surrogates)
        finite = outputs.is_finite()
        if not finite.all():
            rows, outputs = rows[finite], outputs.take(finite)
            sources = None if sources is None else sources[finite]
        distance = self.reference.distance(outputs.embeddings)
        by_target = outputs.at(distance)
        predictions = calibrated(self.calibration, by_target)
        if self.hypothetical and (metal := self.calibration.metal_target) is not None:
            predictions[metal] = as_metals(predictions[metal], surely_metals(store, rows))
        table = prediction_table(self.calibration, by_target, predictions, ids=store.ids[rows], sources=sources)
        table[columns.TRAINING_DISTANCE] = distance
        table[columns.FAR_FROM_TRAINING] = self.reference.is_far(distance)
        table[columns.UNSEEN_ELEMENTS] = unseen_elements(store, rows, self.calibration.elements)
        return table, {target: prediction.mixture for target, prediction in predictions.items()}


@dataclass(frozen=True)
class NoReference:
    """Replaces the training set: no distance is computed, and no crystal counts as far."""

    def distance(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) ones."""
        return np.ones(len(embeddings))

    def is_far(self, distance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) False, because it is unknown."""
        return np.zeros(len(distance), dtype=bool)

    def is_known(self, formulas: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) False, because it is unknown."""
        return np.zeros(len(formulas), dtype=bool)


def alone(predictor: EnsemblePredictor, name: str, *, stretch: float) -> EnsemblePredictor:
    """One member as an ensemble of one, with wider distributions.

    A single member does not show how far the others disagree with it, so its spread is widened before a candidate
    is dropped as unlikely. Its intervals are not calibrated.

    Args:
        predictor: the ensemble.
        name: name of the member.
        stretch: factor on the ensemble's temperature.

    Returns:
        A predictor of this member alone.

    Raises:
        InputError: the ensemble has no such member.
    """
    members = [member for member in predictor.members if member.name == name]
    if not members:
        known = [member.name for member in predictor.members]
        raise InputError(
            f"the ensemble has no member {name!r}; choose one of {known}, or distill one (docs/guides/cascade.md)"
        )
    targets = {}
    for target, fitted in predictor.calibration.targets.items():
        before = fitted.tuning.temperature
        targets[target] = of_one(fitted, name, Temperature(stretch * before.value, before.distance_exponent))
    return predictor.only(members[0], targets, NoReference())


def of_one(fitted: TargetCalibration, name: str, temperature: Temperature) -> TargetCalibration:
    """A target's calibration for one member alone.

    Args:
        fitted: the ensemble's.
        name: name of the member, which gets all the weight.
        temperature: temperature of its distributions.

    Returns:
        The calibration; its conformal quantiles are still the ensemble's.
    """
    before = fitted.tuning
    combination = Combination("mean", {name: 1.0}, before.combination.validation_mae, None)
    return replace(fitted, tuning=Tuning(combination, temperature, before.scale_power))


TEACHER_FILE: Final = "teacher.json"


@dataclass(frozen=True)
class Teacher:
    """The content of `teacher.json`.

    Attributes:
        members: members of the ensemble, SHA-256 of each one's weights.
        temperatures: temperatures of the student's distributions by target, so that they are as wide as the ensemble's.
        differences: mean absolute difference of the student's point estimates from the ensemble's by target, in the
            target's unit, on crystals that it did not learn.
        crystals: how many were requested, used in training, and left out, by reason.
    """

    members: Mapping[str, str]
    temperatures: Mapping[str, float]
    differences: Mapping[str, float]
    crystals: Mapping[str, int]

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back what `save` wrote.

        Args:
            path: path of `teacher.json`.

        Returns:
            The content of the file.

        Raises:
            StoreError: the file is missing, cut off, or has other keys.
        """
        again = f"run `dvc repro distill@{path.parent.name}`, or fetch it (dvc pull)"
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise StoreError(f"{path} not found; {again}") from error
        except (TypeError, ValueError) as error:
            raise StoreError(f"{path} is not what `distill` writes ({error}); {again}") from error


def student(predictor: EnsemblePredictor, directory: Path) -> EnsemblePredictor:
    """The distilled member in a folder instead of the ensemble `predictor`; its intervals are not calibrated.

    Raises:
        StoreError: it is missing or broken, or was trained on other members.
    """
    teacher = Teacher.load(Path(directory) / TEACHER_FILE)
    member = load_member(directory)
    _check(predictor, member, teacher)
    targets = {
        target: of_one(fitted, member.name, Temperature(teacher.temperatures[target], 0.0))
        for target, fitted in predictor.calibration.targets.items()
    }
    return predictor.only(member, targets, NoReference())


def _check(predictor: EnsemblePredictor, member: LoadedMember, teacher: Teacher) -> None:
    """Reject a student of another ensemble; this ensemble's student has its targets and graphs."""
    taught_by, ours = dict(teacher.members), dict(predictor.calibration.members)
    if taught_by != ours:
        differing = sorted(n for n in {*taught_by, *ours} if taught_by.get(n) != ours.get(n))
        raise StoreError(
            f"{member.name!r} was trained on another ensemble (its member(s) {', '.join(differing)} differ); "
            f"run `dvc repro distill@{member.name}`"
        )
