"""Predictions, stability and the probability of meeting a goal for crystals, or the reason why there are none."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal, formula_key
from matscout.crystal_checks import Rejection
from matscout.discovery.rank.element_resources import resource_columns
from matscout.discovery.rank.experimental_gap import add_experimental_gap
from matscout.discovery.rank.goals import (
    check_goal,
    measured_windows,
    nothing_obeys,
    obeys_element_rules,
    window_column,
    window_probabilities,
)
from matscout.discovery.rank.pareto import DEEPEST, draw_targets, drawn_costs, rank_candidates
from matscout.discovery.screen.predict_usable import Predicted, predict_usable
from matscout.discovery.stability.competing_phases import Rivals
from matscout.discovery.stability.energy_above_hull import (
    HullEnergy,
    References,
    energies_above_hull,
    hull_of,
    remark_on,
)
from matscout.discovery.stability.relaxation_gain import SOFTENING, relaxation_gain
from matscout.ensemble.mixture import Mixture
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.errors import InputError
from matscout.params import Goal, Objective

Z90 = 1.6448536269514722  # half width of a Gaussian's central 90 %, in standard deviations
NO_LAYER = 0  # of crystals that the element rules exclude
NOT_MET = {columns.GOAL_MET: False, columns.PARETO_FRONT: False}


@dataclass(frozen=True)
class ScoredCrystals:
    """The judge's table.

    Attributes:
        rows: (n,) places, among the crystals that were given, of those that could be judged.
        table: one row each.
        rejections: the others, with reasons.
    """

    rows: NDArray[np.int64]
    table: pd.DataFrame
    rejections: Sequence[Rejection]


@dataclass(frozen=True)
class Judge:
    """A trained ensemble, the known phases and a goal.

    Attributes:
        predictor: the ensemble.
        references: phases that candidates compete with; None leaves energies above hull out.
        goal: what is wanted.
    """

    predictor: EnsemblePredictor
    references: References | None
    goal: Goal

    def check(self) -> None:
        """Reject a goal that needs other predictions; see `goals.check_goal`."""
        stability = () if self.references is None else (columns.ENERGY_ABOVE_HULL,)
        check_goal(
            self.goal,
            (*self.predictor.targets, *stability, *columns.RESOURCES, columns.PARENT_MADE, *columns.BY_RELAXATION),
        )

    def judge(self, ids: Sequence[str], crystals: Sequence[Crystal]) -> ScoredCrystals:
        """One row per crystal that can be judged, in the given order; the others are named with their reasons.

        The crystals compete with each other, unless the references hold rivals already.
        """
        predicted = self.predict(ids, crystals)
        species = [crystals[row].species for row in predicted.rows]
        judge = self
        if self.references is not None and self.references.rivals is None:
            named = predicted.table.rename(columns={columns.MATERIAL_ID: columns.CANDIDATE_ID})
            judge = self.among(Rivals.among([named.assign(**{columns.SPECIES: species})]))
        table = judge.assess(predicted.table, predicted.mixtures, species)
        return ScoredCrystals(predicted.rows, table, predicted.rejections)

    def above_known_hull(self, predicted: pd.DataFrame, species: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """(n,) eV/atom above the hull of the known phases alone; NaN without any."""
        if self.references is None:
            return np.full(len(predicted), np.nan)
        return above_known_hull(self.references, predicted, species)

    def among(self, rivals: Rivals) -> "Judge":
        """The same judge, for candidates that compete with these too."""
        return self if self.references is None else replace(self, references=self.references.with_rivals(rivals))

    def assess(
        self, predicted: pd.DataFrame, mixtures: Mapping[str, Mixture], species: Sequence[Sequence[str]]
    ) -> pd.DataFrame:
        """The predictions for n crystals, and the quantities derived from them.

        Beside the predictor's columns: an estimate of the measured gap, energy above the hull of all rivals with its
        interval and above that of the known phases alone, competing phases, missing references, whether stability
        could be judged and why not, what the elements cost, `<column>_in_window` for each window, `element_rules_met`
        and `goal_probability`: 0 where the goal asks for a stability that cannot be judged. Objectives on properties of
        relaxed crystals count where the table holds their columns.

        Args:
            predicted: the predictor's table, perhaps with properties of relaxed crystals.
            mixtures: each target's calibrated distribution of the same rows.
            species: symbols of each crystal's atoms.

        Returns:
            n rows, in the order of `predicted`.
        """
        table = predicted.copy()
        add_experimental_gap(table)
        hull = None if self.references is None else self._add_stability(table, species)
        certain = resource_columns(species)
        if self._asks_for_made_parents:
            certain[columns.PARENT_MADE] = parent_made(table)
        table[list(certain)] = pd.DataFrame(certain, index=table.index)
        asked = {aim.column for aim in self.goal.objectives} & set(certain)
        exact = {name: certain[name] for name in sorted(asked)}
        single, joint = window_probabilities(mixtures, self._weights(mixtures), self.goal.screened, hull, exact)
        for column, probability in measured_windows(table, self._measured(table)).items():
            single[column], joint = probability, joint * probability
        for column, probability in single.items():
            table[window_column(column)] = probability
        obeys = obeys_element_rules(species, self.goal)
        for values in exact.values():
            obeys &= np.isfinite(values)  # an element without a value cannot meet the goal
        table[columns.ELEMENT_RULES_MET] = obeys
        counts = obeys
        if columns.STABILITY_JUDGED in table and self._asks_for_stability:
            table[columns.GOAL_MET] = table[
                columns.STABILITY_JUDGED
            ]  # a goal on stability is not met if stability cannot be judged
            counts = obeys & table[columns.STABILITY_JUDGED].to_numpy(dtype=bool)
        counts = counts & self._is_measured(table)
        table[columns.GOAL_PROBABILITY] = np.where(counts, joint, 0.0)
        return table

    def _add_stability(self, table: pd.DataFrame, species: Sequence[Sequence[str]]) -> HullEnergy:
        """Add the columns on stability; return the hull at each composition."""
        if self.references is None:
            raise InputError("stability needs reference phases: give the curated table")
        return add_stability(table, species, self.references)

    def draws(self, candidates: pd.DataFrame, n_draws: int, seed: int) -> NDArray[np.float64]:
        """Draw the costs jointly from the ensemble and from the competing phases.

        Args:
            candidates: n_crystals rows with their crystals, each of which `judge` could judge.
            n_draws: number of draws.
            seed: seed of the draws.

        Returns:
            (n_draws, n_crystals, n_objectives), to be minimised.
        """
        rng = np.random.default_rng(seed)
        ids, crystals = candidates[columns.CANDIDATE_ID].tolist(), crystals_of(candidates)
        mixtures = self.predict(ids, crystals).mixtures
        drawn = draw_targets(mixtures, self._weights(mixtures), n_draws, rng)
        drawn |= resource_columns([crystal.species for crystal in crystals])
        if self._asks_for_made_parents:
            drawn[columns.PARENT_MADE] = parent_made(candidates)
        if self.references is None:
            return drawn_costs(drawn, self.goal.screened, None)
        hulls = self.references.draw_hulls([crystal.element_counts for crystal in crystals], n_draws, rng, ids)
        return drawn_costs(drawn, self.goal.screened, hulls)

    def predict(self, ids: Sequence[str], crystals: Sequence[Crystal]) -> Predicted:
        """Predict crystals whose atoms are not relaxed: `predict_usable` and, given known phases, `as_relaxed`."""
        predicted = predict_usable(self.predictor, ids, crystals)
        return predicted if self.references is None else as_relaxed(predicted, crystals, self.references)

    def _weights(self, mixtures: Mapping[str, Mixture]) -> dict[str, dict[str, float]]:
        return {target: self.predictor.calibration.targets[target].tuning.combination.weights for target in mixtures}

    @property
    def _asks_for_stability(self) -> bool:
        return any(aim.column == columns.ENERGY_ABOVE_HULL for aim in self.goal.objectives)

    def _measured(self, table: pd.DataFrame) -> tuple[Objective, ...]:
        """Objectives on properties of relaxed crystals that the table holds."""
        return tuple(aim for aim in self.goal.relaxed if aim.column in table)

    def _is_measured(self, table: pd.DataFrame) -> NDArray[np.bool_]:
        """(n,) whether each crystal has a value of every such property."""
        names = [aim.column for aim in self._measured(table)]
        return np.asarray(np.isfinite(table[names].to_numpy(dtype=np.float64)).all(axis=1))

    @property
    def _asks_for_made_parents(self) -> bool:
        return any(aim.column == columns.PARENT_MADE for aim in self.goal.objectives)

    def rank(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rank the crystals that obey the element rules; the others follow in their order, on no front.

        Where the goal asks for stability, those whose stability cannot be judged are on no front either and come
        between the two, in the last layer: a lack of rivals is not an advantage. So do relaxed crystals without a value
        of a property that the goal asks for.

        Args:
            table: table of `assess`.

        Returns:
            The same rows, best first, with the columns of the ranking.

        Raises:
            InputError: no crystal obeys the rules.
        """
        obeys = table[columns.ELEMENT_RULES_MET].to_numpy(dtype=bool)
        if len(table) and not obeys.any():
            raise InputError(nothing_obeys(self.goal, len(table)))
        judged = obeys.copy()
        if columns.STABILITY_JUDGED in table and self._asks_for_stability:
            judged &= table[columns.STABILITY_JUDGED].to_numpy(dtype=bool)
        judged &= self._is_measured(table)
        parts = []
        if judged.any():
            aims = (*self.goal.screened, *self._measured(table))
            parts.append(rank_candidates(table.loc[judged], aims))
        if (unjudged := obeys & ~judged).any():
            behind = rank_candidates(table.loc[unjudged], self.goal.screened)
            parts.append(behind.assign(**NOT_MET, **{columns.PARETO_LAYER: DEEPEST + 1}))
        if not obeys.all():
            parts.append(table.loc[~obeys].assign(**NOT_MET, **{columns.PARETO_LAYER: NO_LAYER}))
        ranked = pd.concat(parts, ignore_index=True)
        ranked[columns.RANK] = np.arange(1, len(ranked) + 1)
        return ranked


def add_stability(table: pd.DataFrame, species: Sequence[Sequence[str]], references: References) -> HullEnergy:
    """Add the columns on stability in place.

    Args:
        table: one row per crystal, with its id and its predicted formation energy, eV/atom.
        species: symbols of each crystal's atoms.
        references: phases that the crystals compete with.

    Returns:
        The hull at each crystal's composition.
    """
    names = table[columns.CANDIDATE_ID if columns.CANDIDATE_ID in table else columns.MATERIAL_ID].tolist()
    found = references.decompose_all([Counter(symbols) for symbols in species], names)
    hull = hull_of(found)
    energy, above = columns.FORMATION_ENERGY, columns.ENERGY_ABOVE_HULL
    table[above] = table[energy] - hull.energy
    table[above + columns.STD] = np.hypot(table[energy + columns.STD], hull.std)
    for end, sign in ((columns.LO90, -1), (columns.HI90, 1)):  # independent errors: half widths add in quadrature
        reach = np.hypot(table[energy + end] - table[energy], Z90 * hull.std)
        table[above + end] = table[above] + sign * reach
    if columns.ENERGY_ABOVE_KNOWN_HULL not in table:
        table[columns.ENERGY_ABOVE_KNOWN_HULL] = above_known_hull(references, table, species)
    table[columns.HULL_STD] = hull.std
    limits = [references.depth_limit(item.n_others) for item in found]
    remarks = [remark_on(*item) for item in zip(found, table[energy].tolist(), limits, strict=True)]
    table[columns.STABILITY_JUDGED] = [is_judged for is_judged, _ in remarks]
    table[columns.STABILITY_REMARK] = [words for _, words in remarks]
    table[columns.COMPETING_PHASES] = [decomposition.text for decomposition in found]
    table[columns.MISSING_REFERENCES] = [",".join(decomposition.missing) for decomposition in found]
    known = references.ids_of_formulas
    table[columns.KNOWN_FORMULA] = [known.get(formula_key(list(symbols)), "") for symbols in species]
    return hull


def as_relaxed(predicted: Predicted, crystals: Sequence[Crystal], references: References) -> Predicted:
    """Predictions for hypothetical crystals, with the formation energy that they have after their relaxation.

    Args:
        predicted: predictions that hold for the atoms where they are.
        crystals: the crystals that were given to `predict_usable`.
        references: known phases.

    Returns:
        The same with energy, interval and distribution moved, and the energy above the hull of the known phases.
    """
    kept, energy = [crystals[row] for row in predicted.rows], columns.FORMATION_ENERGY
    table = predicted.table.copy()
    above = above_known_hull(references, table, [crystal.species for crystal in kept])
    by = SOFTENING - relaxation_gain(kept, above)
    for name in (energy, energy + columns.LO90, energy + columns.HI90):
        table[name] += by
    table[columns.ENERGY_ABOVE_KNOWN_HULL] = above + by
    return replace(
        predicted, table=table, mixtures={**predicted.mixtures, energy: predicted.mixtures[energy].moved(by)}
    )


def above_known_hull(
    references: References, predicted: pd.DataFrame, species: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Energy above the hull of the known phases alone.

    Args:
        references: phases; those that are not known are ignored.
        predicted: n rows with their formation energy, eV/atom.
        species: symbols of each crystal's atoms.

    Returns:
        (n,) eV/atom.
    """
    energies = predicted[columns.FORMATION_ENERGY].to_numpy(dtype=np.float64)
    return energies_above_hull(references.known, [Counter(symbols) for symbols in species], energies)


def parent_made(candidates: pd.DataFrame) -> NDArray[np.float64]:
    """Tell whether each candidate's parent is known to have been made.

    Args:
        candidates: n rows, as the stage `propose` writes them.

    Returns:
        (n,) 1 or 0.

    Raises:
        InputError: the table does not say from which parents the crystals were made.
    """
    if columns.PARENT_IS_EXPERIMENTAL not in candidates:
        raise InputError(
            f"a goal on {columns.PARENT_MADE} needs candidates with {columns.PARENT_IS_EXPERIMENTAL}, as the stage "
            "`propose` writes them; crystals of your own have no parents"
        )
    return (candidates[columns.PARENT_IS_EXPERIMENTAL] == True).to_numpy(dtype=np.float64)  # noqa: E712 -- or null


def crystals_of(table: pd.DataFrame) -> list[Crystal]:
    """The crystals of a table's rows."""
    parts = (table[name].tolist() for name in columns.CRYSTAL)
    return [Crystal.from_row(dict(zip(columns.CRYSTAL, row, strict=True))) for row in zip(*parts, strict=True)]
