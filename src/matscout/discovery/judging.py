"""Judging: crystals in, predictions, stability and chances of meeting a goal out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.goals import check_goal, nothing_obeys, obeys_element_rules, window_column, window_probabilities
from matscout.discovery.pareto import rank_candidates
from matscout.discovery.prediction import Predicted, predict_usable
from matscout.discovery.quarantine import Refusal
from matscout.discovery.resampling import draw_targets, drawn_costs
from matscout.discovery.resources import resource_columns
from matscout.discovery.stability import HullEnergy, References, hull_of
from matscout.ensemble.mixture import Mixture
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.errors import InputError
from matscout.params import Goal

Z90 = 1.6448536269514722  # half width of a Gaussian's central 90 %, in standard deviations
NO_LAYER = 0  # of crystals that the element rules bar


@dataclass(frozen=True)
class Judged:
    """The judge's table.

    Attributes:
        rows: (n,) places, among the crystals that were given, of those that could be judged.
        table: one row each.
        refusals: the others, with reasons.
    """

    rows: NDArray[np.int64]
    table: pd.DataFrame
    refusals: Sequence[Refusal]


@dataclass(frozen=True)
class Judge:
    """A trained ensemble, the known phases and a goal.

    Attributes:
        predictor: the ensemble.
        references: phases that candidates compete with; None leaves energies above hull out.
        goal: what is wanted.
        device: where the encoders run: cpu, cuda or auto.
        compiled: whether they are compiled, on a GPU.
    """

    predictor: EnsemblePredictor
    references: References | None
    goal: Goal
    device: str = "cpu"
    compiled: bool = False

    def check(self) -> None:
        """Refuse a goal that these predictions cannot answer; see `goals.check_goal`."""
        stability = () if self.references is None else (columns.ENERGY_ABOVE_HULL,)
        check_goal(self.goal, (*self.predictor.targets, *stability, *columns.RESOURCES))

    def judge(self, ids: Sequence[str], crystals: Sequence[Crystal]) -> Judged:
        """One row a crystal that can be judged, in the given order; the others are named with their reasons.

        Beside the predictor's columns: energy above hull with its interval, competing phases, missing
        references, whether stability could be judged at all, what the elements cost, `<column>_in_window`
        for each window, `element_rules_met` and `goal_probability`.
        """
        predicted = self.predict(ids, crystals)
        table, mixtures = predicted.table, predicted.mixtures
        crystals = [crystals[row] for row in predicted.rows]
        hull = None if self.references is None else add_stability(table, self.references, crystals)
        resources = resource_columns([crystal.species for crystal in crystals])
        table[list(resources)] = pd.DataFrame(resources, index=table.index)
        asked = {aim.column for aim in self.goal.objectives} & set(resources)
        exact = {name: resources[name] for name in sorted(asked)}
        weights = self._weights(mixtures)
        single, joint = window_probabilities(mixtures, weights, self.goal.objectives, hull, exact)
        for column, probability in single.items():
            table[window_column(column)] = probability
        obeys = obeys_element_rules([crystal.species for crystal in crystals], self.goal)
        for values in exact.values():
            obeys &= np.isfinite(values)  # an element without a figure cannot be said to meet the goal
        table[columns.ELEMENT_RULES_MET] = obeys
        table[columns.GOAL_PROBABILITY] = np.where(obeys, joint, 0.0)
        if columns.STABILITY_JUDGED in table and self._asks_for_stability:
            table[columns.GOAL_MET] = table[columns.STABILITY_JUDGED]  # what cannot be judged is not met
        return Judged(predicted.rows, table, predicted.refusals)

    def draws(self, ids: Sequence[str], crystals: Sequence[Crystal], n_draws: int, seed: int) -> NDArray[np.float64]:
        """(n_draws, n_crystals, n_objectives) joint draws of the costs, of the ensemble and of the known phases.

        The crystals are those that `judge` could judge.
        """
        rng = np.random.default_rng(seed)
        mixtures = self.predict(ids, crystals).mixtures
        drawn = draw_targets(mixtures, self._weights(mixtures), n_draws, rng)
        drawn |= resource_columns([crystal.species for crystal in crystals])
        if self.references is None:
            return drawn_costs(drawn, self.goal.objectives, None)
        hulls = self.references.draw_hulls([crystal.element_counts for crystal in crystals], n_draws, rng)
        return drawn_costs(drawn, self.goal.objectives, hulls)

    def predict(self, ids: Sequence[str], crystals: Sequence[Crystal]) -> Predicted:
        """See `predict_usable`."""
        return predict_usable(self.predictor, ids, crystals, device=self.device, compiled=self.compiled)

    def _weights(self, mixtures: Mapping[str, Mixture]) -> dict[str, dict[str, float]]:
        return {target: self.predictor.calibration.targets[target].tuning.combination.weights for target in mixtures}

    @property
    def _asks_for_stability(self) -> bool:
        return any(aim.column == columns.ENERGY_ABOVE_HULL for aim in self.goal.objectives)

    def rank(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rank the crystals that obey the element rules; the others follow in their order, on no front.

        Raises:
            InputError: no crystal obeys the rules.
        """
        obeys = table[columns.ELEMENT_RULES_MET].to_numpy(dtype=bool)
        if len(table) and not obeys.any():
            raise InputError(nothing_obeys(self.goal, len(table)))
        ranked = rank_candidates(table.loc[obeys], self.goal.objectives)
        barred = table.loc[~obeys].assign(
            **{columns.GOAL_MET: False, columns.PARETO_FRONT: False, columns.PARETO_LAYER: NO_LAYER}
        )
        barred[columns.RANK] = np.arange(len(ranked) + 1, len(table) + 1)
        return pd.concat([ranked, barred], ignore_index=True)


def crystals_of(table: pd.DataFrame) -> list[Crystal]:
    """The crystals of a table's rows."""
    parts = (table[name].tolist() for name in columns.CRYSTAL)
    return [Crystal.from_row(dict(zip(columns.CRYSTAL, row, strict=True))) for row in zip(*parts, strict=True)]


def add_stability(table: pd.DataFrame, references: References, crystals: Sequence[Crystal]) -> HullEnergy:
    """Add the columns on stability; return the hull at each composition."""
    found = references.decompose_all([crystal.element_counts for crystal in crystals])
    hull = hull_of(found)
    energy, above = columns.FORMATION_ENERGY, columns.ENERGY_ABOVE_HULL
    table[above] = table[energy] - hull.energy
    table[above + columns.STD] = np.hypot(table[energy + columns.STD], hull.std)
    for end, sign in ((columns.LO90, -1), (columns.HI90, 1)):  # independent errors: half widths add in quadrature
        reach = np.hypot(table[energy + end] - table[energy], Z90 * hull.std)
        table[above + end] = table[above] + sign * reach
    table[columns.HULL_STD] = hull.std
    table[columns.STABILITY_JUDGED] = [decomposition.is_judged for decomposition in found]
    table[columns.COMPETING_PHASES] = [decomposition.text for decomposition in found]
    table[columns.MISSING_REFERENCES] = [",".join(decomposition.missing) for decomposition in found]
    return hull
