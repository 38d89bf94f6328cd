"""Reference offsets: the difference between the formation energies of two databases, by element.

They are fitted on pairs: one material with formation energies in two databases. Two databases differ by
the energies of the elemental references and by anion and +U corrections, all of which enter the formation energy per
atom linearly in the atomic fractions x_e:

    E_database - E_reference = c + h u + sum_e x_e w_e + noise

c is free; the element terms w_e and the +U term u (h = 1 where +U was used) have a Cauchy prior about
zero, so that an element that few pairs contain gets the constant while one that the data clearly move
is hardly shrunk (offsets are sparse: anions, +U metals). The Huber loss (Huber 1964, k = 1.345) limits the
influence of a wrong label. Both are solved as a reweighted ridge regression.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.compositions import fractions_of_formulas
from matscout.params import Offsets


@dataclass(frozen=True)
class Pairs:
    """Formation energies of materials that a database shares with the reference.

    Attributes:
        groups: (n,) duplicate group of each pair.
        fractions: (n, 118) atomic fractions, column z - 1.
        hubbard: (n,) 1 where the database used +U, else 0.
        energies: (n,) the database's formation energy, eV/atom (median over its entries of the material).
        reference: (n,) the reference's, eV/atom.
    """

    groups: NDArray[np.object_]
    fractions: NDArray[np.float64]
    hubbard: NDArray[np.float64]
    energies: NDArray[np.float64]
    reference: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def differences(self) -> NDArray[np.float64]:
        """(n,) database minus reference, eV/atom."""
        return self.energies - self.reference

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Pairs":
        """The pairs at `rows`."""
        return Pairs(
            self.groups[rows], self.fractions[rows], self.hubbard[rows], self.energies[rows], self.reference[rows]
        )


def make_pairs(moved: pd.DataFrame, reference: pd.DataFrame) -> Pairs:
    """Pairs of the rows to move and the reference rows that share a duplicate group.

    Each group counts once: several entries of one material in one database are not independent.
    """
    ours = _by_group(moved)
    theirs = _by_group(reference)
    both = ours.join(theirs.add_suffix("_reference"), how="inner").sort_index()
    return Pairs(
        groups=both.index.to_numpy(dtype=object),
        fractions=fractions_of_formulas(both[columns.FORMULA]),
        hubbard=both[columns.IS_HUBBARD].to_numpy(dtype=np.float64),
        energies=both[columns.FORMATION_ENERGY].to_numpy(dtype=np.float64),
        reference=both[f"{columns.FORMATION_ENERGY}_reference"].to_numpy(dtype=np.float64),
    )


def hubbard_flags(rows: pd.DataFrame) -> NDArray[np.float64]:
    """(n,) 1 where +U is known to have been used; unknown counts as not."""
    return (rows[columns.IS_HUBBARD].to_numpy(dtype=object) == True).astype(np.float64)  # noqa: E712  (null is not True)


def _by_group(rows: pd.DataFrame) -> pd.DataFrame:
    labelled = rows.loc[rows[columns.FORMATION_ENERGY].notna()]
    table = pd.DataFrame(
        {
            columns.DUPLICATE_GROUP: labelled[columns.DUPLICATE_GROUP],
            columns.FORMULA: labelled[columns.FORMULA],
            columns.IS_HUBBARD: hubbard_flags(labelled),
            columns.FORMATION_ENERGY: labelled[columns.FORMATION_ENERGY].astype(np.float64),
        }
    )
    return table.groupby(columns.DUPLICATE_GROUP).agg(
        {columns.FORMULA: "first", columns.IS_HUBBARD: "max", columns.FORMATION_ENERGY: "median"}
    )


HUBER_K: Final = 1.345  # 95 % efficient on Gaussian noise
MAD_TO_STD: Final = 1.4826
SMALLEST_SCALE: Final = 1e-6  # eV/atom: exact agreement must not divide by zero
ITERATIONS: Final = 50
N_FOLDS: Final = 5
MOST_FREEDOM: Final = (
    0.8  # largest share of the pairs that the terms may account for; beyond it the noise is overestimated
)
LEAST_SLACK: Final = 0.1  # 1 - leverage of a pair that its own element term fits alone

CONSTANT: Final = 0
HUBBARD: Final = 1
FIRST_ELEMENT: Final = 2

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OffsetFit:
    """A fitted offset.

    Attributes:
        coefficients: (2 + 118,) c, u, w_1 ... w_118, eV/atom.
        draws: (bootstrap, 2 + 118) coefficients of bootstrap resamples.
        n_pairs: how many pairs were fitted.
        scale: robust standard deviation of the residuals, eV/atom.
    """

    coefficients: Array
    draws: Array
    n_pairs: int
    scale: float

    def at(self, fractions: Array, hubbard: Array) -> tuple[Array, Array]:
        """Offset and its standard error, each (n,) eV/atom, for compositions (n, 118)."""
        design = design_matrix(fractions, hubbard)
        return design @ self.coefficients, (design @ self.draws.T).std(axis=1)

    def element_offsets(self, elements: NDArray[np.int64]) -> "ElementOffsets":
        """Offsets of pure elements (columns z - 1), c + w_e, with their intervals, eV/atom."""
        value = self.coefficients[CONSTANT] + self.coefficients[FIRST_ELEMENT:][elements]
        draws = self.draws[:, [CONSTANT]] + self.draws[:, FIRST_ELEMENT:][:, elements]
        error = np.maximum(draws.std(axis=0), SMALLEST_SCALE)
        reach = np.percentile((np.abs(draws - value) / error).max(axis=1), 95)
        return ElementOffsets(
            value,
            alone=np.percentile(draws, [2.5, 97.5], axis=0),
            jointly=np.stack([value - reach * error, value + reach * error]),
        )


@dataclass(frozen=True)
class ElementOffsets:
    """Offsets of m elements with 95 % intervals, low and high ends, eV/atom.

    Attributes:
        value: (m,).
        alone: (2, m); each holds its truth with 95 % probability, so one in twenty misses.
        jointly: (2, m); all hold their truths at once with 95 % probability (max-t bootstrap).
    """

    value: Array
    alone: Array
    jointly: Array


def fit_offset(pairs: Pairs, settings: Offsets) -> OffsetFit:
    """Fit by iteratively reweighted ridge regression; intervals by a residual bootstrap."""
    design = design_matrix(pairs.fractions, pairs.hubbard)
    state = _reweighted_ridge(design, pairs.differences, settings.ridge)
    draws = _bootstrap(design, pairs.differences, state, settings)
    return OffsetFit(state.coefficients, draws, len(pairs), state.scale)


def held_out_residuals(pairs: Pairs, settings: Offsets) -> tuple[Array, Array]:
    """Residuals of pairs that the fit did not see, in five folds of materials.

    Returns:
        (n,) after the fitted offset, and (n,) after the median alone, eV/atom.
    """
    after, after_constant = np.empty(len(pairs)), np.empty(len(pairs))
    folds = np.random.default_rng(settings.seed).permutation(len(pairs)) % N_FOLDS
    for fold in range(N_FOLDS):
        held_out, fitted = folds == fold, pairs.take(folds != fold)
        design = design_matrix(fitted.fractions, fitted.hubbard)
        coefficients = _reweighted_ridge(design, fitted.differences, settings.ridge).coefficients
        unseen = pairs.take(held_out)
        prediction = design_matrix(unseen.fractions, unseen.hubbard) @ coefficients
        after[held_out] = unseen.differences - prediction
        after_constant[held_out] = unseen.differences - np.median(fitted.differences)
    return after, after_constant


def design_matrix(fractions: Array, hubbard: Array) -> Array:
    """(n, 2 + 118): ones, the +U flag, atomic fractions."""
    return np.column_stack([np.ones(len(fractions)), hubbard, fractions])


@dataclass(frozen=True)
class _State:
    """The final state of the reweighting: coefficients and penalty (2 + 118,), Huber weights (n,), noise in eV/atom."""

    coefficients: Array
    penalty: Array
    weights: Array
    scale: float


def _reweighted_ridge(design: Array, target: Array, ridge: float) -> _State:
    """Minimise the Huber loss plus the penalty of the prior.

    Expectation-maximisation of a Student prior with one degree of freedom and scale s: a term's variance
    is (s² + w² + Var w) / 2, its penalty sigma² / variance.
    """
    base = _base_penalty(design, ridge)
    state = _State(np.zeros(design.shape[1]), base, np.ones(len(target)), float(target.std()))
    for _ in range(ITERATIONS):
        weighted = design * state.weights[:, None]
        gram = weighted.T @ design
        inverse = np.linalg.inv(gram + np.diag(state.penalty))
        coefficients = inverse @ (weighted.T @ target)
        residuals = target - design @ coefficients
        freedom = len(target) - min(float(np.trace(inverse @ gram)), MOST_FREEDOM * len(target))
        spread = MAD_TO_STD * float(np.median(np.abs(residuals)))
        scale = max(spread * float(np.sqrt(len(target) / freedom)), SMALLEST_SCALE)
        variance = (scale**2 / base + coefficients**2 + scale**2 * np.diag(inverse)) / 2
        penalty = scale**2 / variance
        penalty[CONSTANT] = SMALLEST_SCALE
        weights = np.minimum(1.0, HUBER_K * scale / np.maximum(np.abs(residuals), SMALLEST_SCALE))
        moved = np.abs(coefficients - state.coefficients).max()
        state = _State(coefficients, penalty, weights, scale)
        if moved < SMALLEST_SCALE:
            break
    return state


def _base_penalty(design: Array, ridge: float) -> Array:
    """(2 + 118,) ridge in units of pairs: a small term seen in n pairs keeps about n / (n + 2 ridge) of itself."""
    squares, seen = (design**2).sum(axis=0), (design != 0).sum(axis=0)
    return ridge * np.divide(squares, seen, out=np.ones_like(squares), where=seen > 0)


def _bootstrap(design: Array, target: Array, state: _State, settings: Offsets) -> Array:
    """(bootstrap, 2 + 118) coefficients under resampled noise and resampled truths.

    The error of the estimate is H^-1 (X' psi - Lambda w_true): noise, and the shrinkage by the ridge.
    The first is resampled from the residuals' scores psi, each freed of its leverage (resampling pairs
    would hold an element seen once fixed); the second by drawing the true terms from their prior.
    Without it the interval of a shrunk element would not cover the truth.
    """
    rng = np.random.default_rng(settings.seed)
    slope = float((state.weights == 1.0).mean())  # Huber's psi' is 1 inside, 0 outside
    inverse = np.linalg.inv(slope * design.T @ design + np.diag(state.penalty))
    leverage = slope * np.einsum("ij,jk,ik->i", design, inverse, design)
    scores = state.weights * (target - design @ state.coefficients) / np.sqrt(np.clip(1 - leverage, LEAST_SLACK, 1))
    noise = rng.choice(scores - scores.mean(), size=(settings.bootstrap, len(scores)))
    truths = rng.normal(size=(settings.bootstrap, len(state.penalty))) * state.scale / np.sqrt(state.penalty)
    truths[:, CONSTANT] = 0.0
    return state.coefficients + (noise @ design + truths * state.penalty) @ inverse
