"""The distance of a material from the training set, as the nearest-neighbour distance between embeddings.

Mean distance to the k nearest training crystals in the members' standardised encoder outputs
(Janet et al., "A quantitative uncertainty metric controls error in neural network-driven chemical
discovery", Chem. Sci. 2019), in units of its median over validation crystals: 1 is usual.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from matscout.engine import n_workers
from matscout.errors import StoreError
from matscout.files import atomic_path
from matscout.graphs.compiled import compiled

Array = NDArray[np.float32]

N_NEAREST = 5
FAR_QUANTILE = 0.99  # quantile of the validation fold's distances: about one in a hundred ordinary crystals is flagged
CHUNK_ROWS = 1024
ROUNDING_STEP = 0.04  # of standardised embeddings, whose usual distance is 0.5; see `TrainingReference.rounded`
LARGEST_STEP = 127  # fits a byte
BLOCK_ROWS = 512  # training crystals whose distances from a chunk stay in a core's cache
MAX_REFERENCE = 20_000  # training crystals that represent all: bounds memory and time


def reference_rows(training_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MAX_REFERENCE` of the training rows, evenly spaced."""
    n_kept = min(len(training_rows), MAX_REFERENCE)
    return training_rows[np.linspace(0, len(training_rows) - 1, n_kept).astype(np.int64)]


def hash_formulas(formulas: Sequence[str]) -> NDArray[np.uint64]:
    """(n,) the first eight bytes of each formula's SHA-256."""
    digests = [hashlib.sha256(formula.encode()).digest()[:8] for formula in formulas]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


@dataclass(frozen=True)
class Rounding:
    """Embeddings in whole steps along their principal directions.

    Attributes:
        steps: (n_reference, dim) int8.
        step: its size.
        turns: (dim, dim) int8, the directions as columns, in units of `fine`.
        fine: see `turns`.
        moved: (n_reference,) float16, squared distance of each embedding from what it was rounded from.
    """

    steps: NDArray[np.int8]
    step: float
    turns: NDArray[np.int8]
    fine: float
    moved: NDArray[np.float16]

    @property
    def embeddings(self) -> Array:
        """(n_reference, dim) float32, along the directions."""
        return self.steps * np.float32(self.step)

    @property
    def directions(self) -> Array:
        """(dim, dim) float32, orthonormal but for rounding."""
        return self.turns * np.float32(self.fine)


@dataclass(frozen=True)
class TrainingReference:
    """Standardised embeddings of training crystals.

    Attributes:
        embeddings: (n_reference, dim) float32, standardised.
        mean: (dim,) mean of the raw embeddings.
        scale: (dim,) their standard deviation times the root of the dimension.
        unit: median distance of the validation crystals.
        far_limit: distance, in units, beyond which a crystal is flagged.
        known_formulas: (n_formulas,) uint64, sorted hashes of the formulas of known crystals, see `hash_formulas`.
        rounding: how `embeddings` were rounded, see `rounded`; None = they are as computed.
    """

    embeddings: Array
    mean: Array
    scale: Array
    unit: float
    far_limit: float
    known_formulas: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    rounding: "Rounding | None" = None

    @classmethod
    def fit(cls, training: Array, validation: Array) -> Self:
        """From raw (n, dim) embeddings of the training and validation crystals."""
        mean = training.mean(axis=0)
        deviation = training.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1) * np.sqrt(training.shape[1], dtype=np.float32)
        raw = cls((training - mean) / scale, mean, scale, unit=1.0, far_limit=float("inf"))
        distances = raw.distance(validation)
        unit = float(np.median(distances)) or 1.0
        return cls(raw.embeddings, mean, scale, unit, float(np.quantile(distances, FAR_QUANTILE)) / unit)

    def distance(self, embeddings: Array) -> NDArray[np.float64]:
        """(n,) mean distance to the nearest training crystals; about 1 within the distribution."""
        standardised = (embeddings - self.mean) / self.scale
        if self.rounding is not None:
            standardised = standardised @ self.rounding.directions
        parts = [standardised[start : start + CHUNK_ROWS] for start in range(0, len(embeddings), CHUNK_ROWS)]
        with ThreadPoolExecutor(n_workers()) as pool:  # numpy releases the interpreter lock
            chunks = list(pool.map(self._nearest, parts))
        return np.concatenate(chunks) / self.unit if chunks else np.empty(0)

    def is_far(self, distance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) whether a crystal is farther from the training set than nearly all validation crystals."""
        return distance > self.far_limit

    def with_known(self, formulas: Sequence[str]) -> Self:
        """The same reference with these known formulas, each as `crystal.formula_key` writes it."""
        return replace(self, known_formulas=np.unique(hash_formulas(formulas)))

    def rounded(self, step: float = ROUNDING_STEP) -> Self:
        """The same in a sixteenth of the size: whole steps along the embeddings' principal directions.

        Most directions hardly vary, so that their steps compress well. What rounding adds to a squared distance is
        subtracted again. On the bundled sample nine distances in ten change by less than 4 %.
        """
        _, _, rows = np.linalg.svd(self.embeddings, full_matrices=False)
        fine = float(np.abs(rows).max()) / LARGEST_STEP
        turns = np.rint(rows.T / fine).astype(np.int8)
        exact = self.embeddings @ (turns * np.float32(fine))
        steps = np.clip(np.rint(exact / step), -LARGEST_STEP, LARGEST_STEP).astype(np.int8)
        moved = np.square(steps * np.float32(step) - exact).sum(axis=1).astype(np.float16)
        rounding = Rounding(steps, step, turns, fine, moved)
        return replace(self, embeddings=rounding.embeddings, rounding=rounding)

    def is_known(self, formulas: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) whether a database holds a crystal of the formula."""
        return np.isin(hash_formulas(formulas), self.known_formulas)

    def _nearest(self, points: Array) -> NDArray[np.float64]:
        k = min(N_NEAREST, len(self.embeddings))
        nearest = np.zeros((len(points), k), dtype=np.int64)
        least = np.full((len(points), k), np.inf, dtype=np.float32)
        for start in range(0, len(self.embeddings), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            # |a - b|^2 = |a|^2 - 2 a.b + |b|^2, where |a|^2 orders nothing: one matrix product
            _keep_nearest(points @ self.embeddings[block].T, self._squares[block], start, nearest, least)
        differences = self.embeddings[nearest] - points[:, None]  # exact where the product cancels
        squared = np.square(differences, dtype=np.float64).sum(axis=2)
        if self.rounding is not None:
            squared = np.maximum(squared - self.rounding.moved[nearest], 0.0)
        return np.sqrt(squared).mean(axis=1)

    @cached_property
    def _squares(self) -> Array:
        squares = np.square(self.embeddings).sum(axis=1)
        return squares if self.rounding is None else squares - self.rounding.moved.astype(np.float32)

    def save(self, path: Path) -> None:
        """Write as npz, atomically and without a timestamp."""
        plain = {"mean": self.mean, "scale": self.scale, "unit": self.unit, "far_limit": self.far_limit}
        plain["known_formulas"] = self.known_formulas
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            if self.rounding is None:
                np.savez(stream, embeddings=self.embeddings, **plain)
            else:
                np.savez_compressed(stream, **vars(self.rounding), **plain)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back what `save` wrote.

        Args:
            path: path of `reference.npz`.

        Returns:
            The reference.

        Raises:
            StoreError: the file is missing or cut off.
        """
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            rounding = None
            if "steps" in arrays:
                steps, turns, moved = arrays["steps"], arrays["turns"], arrays["moved"]
                rounding = Rounding(steps, float(arrays["step"]), turns, float(arrays["fine"]), moved)
            return cls(
                arrays["embeddings"] if rounding is None else rounding.embeddings,
                arrays["mean"],
                arrays["scale"],
                float(arrays["unit"]),
                float(arrays["far_limit"]),
                arrays["known_formulas"],
                rounding,
            )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise StoreError(f"{path} is missing or damaged ({error}); run `dvc repro evaluate`") from error


@compiled
def _keep_nearest(products: Array, squares: Array, first: int, nearest: NDArray[np.int64], least: Array) -> None:
    """Merge a block of training crystals into the nearest that each of n points has so far.

    Args:
        products: (n, m) products of the points' embeddings with the block's.
        squares: (m,) squares of the block's embeddings with themselves.
        first: row of the block's first crystal.
        nearest: (n, k) rows, nearest first; changed here.
        least: (n, k) their squared distances, less the square of the point; changed here.
    """
    k = nearest.shape[1]
    for point in range(len(products)):
        for row in range(len(squares)):
            square = squares[row] - np.float32(2) * products[point, row]
            if square < least[point, k - 1]:
                place = k - 1
                while place > 0 and square < least[point, place - 1]:
                    least[point, place], nearest[point, place] = least[point, place - 1], nearest[point, place - 1]
                    place -= 1
                least[point, place], nearest[point, place] = square, first + row
