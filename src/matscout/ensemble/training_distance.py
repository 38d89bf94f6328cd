"""How far a material lies from the training set: nearest-neighbour distance between embeddings.

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

Array = NDArray[np.float32]

N_NEAREST = 5
FAR_QUANTILE = 0.99  # of the validation fold's distances: about one in a hundred usual crystals is flagged
CHUNK_ROWS = 1024
MAX_REFERENCE = 20_000  # training crystals that stand for all: bounds the memory and the time


def reference_rows(training_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MAX_REFERENCE` of the training rows, evenly spaced."""
    n_kept = min(len(training_rows), MAX_REFERENCE)
    return training_rows[np.linspace(0, len(training_rows) - 1, n_kept).astype(np.int64)]


def hash_formulas(formulas: Sequence[str]) -> NDArray[np.uint64]:
    """(n,) the first eight bytes of each formula's SHA-256."""
    digests = [hashlib.sha256(formula.encode()).digest()[:8] for formula in formulas]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


@dataclass(frozen=True)
class TrainingReference:
    """Standardised embeddings of training crystals.

    Attributes:
        embeddings: (n_reference, dim) float32, standardised.
        mean: (dim,) of the raw embeddings.
        scale: (dim,) their standard deviation times the root of the dimension.
        unit: median distance of the validation crystals.
        far_limit: distance, in units, beyond which a crystal is flagged.
        known_formulas: (n_formulas,) uint64, sorted hashes of the formulas of known crystals, see `hash_formulas`.
    """

    embeddings: Array
    mean: Array
    scale: Array
    unit: float
    far_limit: float
    known_formulas: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))

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
        parts = [standardised[start : start + CHUNK_ROWS] for start in range(0, len(embeddings), CHUNK_ROWS)]
        with ThreadPoolExecutor(n_workers()) as pool:  # numpy lets go of the interpreter lock
            chunks = list(pool.map(self._nearest, parts))
        return np.concatenate(chunks) / self.unit if chunks else np.empty(0)

    def is_far(self, distance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) whether a crystal lies farther out than nearly all validation crystals."""
        return distance > self.far_limit

    def with_known(self, formulas: Sequence[str]) -> Self:
        """The same that knows these formulas, each as `crystal.formula_key` writes it."""
        return replace(self, known_formulas=np.unique(hash_formulas(formulas)))

    def is_known(self, formulas: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) whether a database holds a crystal of the formula."""
        return np.isin(hash_formulas(formulas), self.known_formulas)

    def _nearest(self, points: Array) -> NDArray[np.float64]:
        # |a - b|^2 = |a|^2 - 2 a.b + |b|^2: one matrix product
        squares = self._squares - 2 * points @ self.embeddings.T
        k = min(N_NEAREST, len(self.embeddings))
        nearest = np.argpartition(squares, k - 1, axis=1)[:, :k]
        differences = self.embeddings[nearest] - points[:, None]  # exact where the product cancels
        return np.sqrt(np.square(differences, dtype=np.float64).sum(axis=2)).mean(axis=1)

    @cached_property
    def _squares(self) -> Array:
        return np.square(self.embeddings).sum(axis=1)

    def save(self, path: Path) -> None:
        """Write as npz, atomically; the bytes hold no clock."""
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                embeddings=self.embeddings,
                mean=self.mean,
                scale=self.scale,
                unit=self.unit,
                far_limit=self.far_limit,
                known_formulas=self.known_formulas,
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back.

        Raises:
            StoreError: the file is missing or cut off.
        """
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            return cls(
                arrays["embeddings"],
                arrays["mean"],
                arrays["scale"],
                float(arrays["unit"]),
                float(arrays["far_limit"]),
                arrays["known_formulas"],
            )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise StoreError(f"{path} is missing or no whole reference ({error}); run `dvc repro evaluate`") from error
