"""Judging: crystals in, predictions, stability and chances of meeting a goal out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.goals import check_goal, obeys_element_rules, window_column, window_probabilities
from matscout.discovery.pareto import rank_candidates
from matscout.discovery.stability import References
from matscout.ensemble.mixture import Mixture
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.errors import InputError
from matscout.graphs.store import GraphStore
from matscout.params import Goal

NO_LAYER = 0  # of crystals that the element rules bar
WORKERS_FROM = 5000  # crystals: for fewer, starting processes takes longer than building graphs


@dataclass(frozen=True)
class Judge:
    """A trained ensemble, the known phases and a goal.

    Attributes:
        predictor: the ensemble.
        references: phases that candidates compete with; None leaves energies above hull out.
        goal: what is wanted.
        device: where the encoders run.
        workers: processes that build graphs.
    """

    predictor: EnsemblePredictor
    references: References | None
    goal: Goal
    device: str = "cpu"
    workers: int = 1

    def check(self) -> None:
        """Refuse a goal that these predictions cannot answer; see `goals.check_goal`."""
        stability = () if self.references is None else (columns.ENERGY_ABOVE_HULL,)
        check_goal(self.goal, (*self.predictor.targets, *stability))

    def judge(self, ids: Sequence[str], crystals: Sequence[Crystal]) -> pd.DataFrame:
        """One row a crystal, in the given order.

        Beside the predictor's columns: energy above hull with its interval, competing phases, missing
        references, whether stability could be judged at all, `<column>_in_window` for each window,
        `element_rules_met` and `goal_probability`.
        """
        workers = self.workers if len(crystals) > WORKERS_FROM else 1
        store = GraphStore.from_crystals(ids, crystals, self.predictor.graphs, workers=workers)
        table, mixtures = self.predictor.predict_mixtures(store, device=self.device)
        hull_energy = None if self.references is None else add_stability(table, self.references, crystals)
        weights = {target: self.predictor.calibration.targets[target].tuning.combination.weights for target in mixtures}
        single, joint = window_probabilities(mixtures, weights, self.goal.objectives, hull_energy)
        for column, probability in single.items():
            table[window_column(column)] = probability
        obeys = obeys_element_rules([crystal.species for crystal in crystals], self.goal)
        table[columns.ELEMENT_RULES_MET] = obeys
        table[columns.GOAL_PROBABILITY] = np.where(obeys, joint, 0.0)
        if columns.STABILITY_JUDGED in table and self._asks_for_stability:
            table[columns.GOAL_MET] = table[columns.STABILITY_JUDGED]  # what cannot be judged is not met
        return table

    def distributions(
        self, ids: Sequence[str], crystals: Sequence[Crystal]
    ) -> tuple[dict[str, Mixture], dict[str, dict[str, float]], NDArray[np.float64] | None]:
        """Each target's distribution, its members' weights, and the hull's energy at each composition."""
        _, mixtures = self._predict(ids, crystals)
        if self.references is None:
            return mixtures, self._weights(mixtures), None
        found = self.references.decompose_all([crystal.element_counts for crystal in crystals])
        return mixtures, self._weights(mixtures), np.array([decomposition.energy for decomposition in found])

    def _predict(self, ids: Sequence[str], crystals: Sequence[Crystal]) -> tuple[pd.DataFrame, dict[str, Mixture]]:
        workers = self.workers if len(crystals) > WORKERS_FROM else 1
        store = GraphStore.from_crystals(ids, crystals, self.predictor.graphs, workers=workers)
        return self.predictor.predict_mixtures(store, device=self.device)

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
            raise InputError(
                f"none of {len(table):,} crystals obeys the goal's element rules: "
                f"require {self.goal.require_elements}, allow {self.goal.allow_elements}, "
                f"deny {self.goal.deny_elements}; loosen them or propose others"
            )
        ranked = rank_candidates(table.loc[obeys], self.goal.objectives)
        barred = table.loc[~obeys].assign(
            **{columns.GOAL_MET: False, columns.PARETO_FRONT: False, columns.PARETO_LAYER: NO_LAYER}
        )
        barred[columns.RANK] = np.arange(len(ranked) + 1, len(table) + 1)
        return pd.concat([ranked, barred], ignore_index=True)


def add_stability(table: pd.DataFrame, references: References, crystals: Sequence[Crystal]) -> NDArray[np.float64]:
    """Add the columns on stability; return the hull's energy at each composition, (n,) eV/atom."""
    found = references.decompose_all([crystal.element_counts for crystal in crystals])
    hull = np.array([decomposition.energy for decomposition in found])
    energy, above = columns.FORMATION_ENERGY, columns.ENERGY_ABOVE_HULL
    table[above] = table[energy] - hull
    table[above + columns.STD] = table[energy + columns.STD]  # known phases are data: they add no spread
    for end in (columns.LO90, columns.HI90):
        table[above + end] = table[energy + end] - hull
    table[columns.STABILITY_JUDGED] = [decomposition.is_judged for decomposition in found]
    table[columns.COMPETING_PHASES] = [decomposition.text for decomposition in found]
    table[columns.MISSING_REFERENCES] = [",".join(decomposition.missing) for decomposition in found]
    return hull
