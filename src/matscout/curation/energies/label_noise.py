"""Label noise: how far databases disagree on one material, as a standard error for every row."""

from typing import Final

import numpy as np
import pandas as pd

from matscout import columns

PRIOR_WEIGHT: Final = 2.0  # degrees of freedom that the typical disagreement counts for in one material
WINSOR_QUANTILE: Final = 0.95  # one bad label must not raise the noise of all


def label_noise(materials: pd.DataFrame, label: str) -> pd.Series:
    """Standard error of `label` per row, in the label's unit; null where nothing is known.

    Within one duplicate group each database counts once (median of its entries). With n databases of
    sample variance s² a row gets

        noise² = (nu s0² + (n - 1) s²) / (nu + n - 1),   nu = 2,

    the typical variance s0² of all groups alone where no other database has the material. Two labels
    give a poor estimate of their own variance; the typical one stabilises it. Synthetic labels say nothing about real
    ones: real rows use only real rows, synthetic rows use all.
    """
    synthetic = materials[columns.SYNTHETIC].to_numpy(dtype=bool)
    noise = _noise_within(materials, label)
    if synthetic.any():
        noise = noise.where(synthetic, np.nan)
        noise[~synthetic] = _noise_within(materials.loc[~synthetic], label)
    return noise.where(materials[label].notna(), np.nan)


def _noise_within(rows: pd.DataFrame, label: str) -> pd.Series:
    labelled = rows.loc[rows[label].notna()]
    spoken = labelled.groupby([columns.DUPLICATE_GROUP, columns.SOURCE])[label].median()
    spread = spoken.groupby(columns.DUPLICATE_GROUP).agg(["size", "var"])
    shared = spread.loc[spread["size"] > 1]
    if shared.empty:
        return pd.Series(np.nan, index=rows.index, dtype=np.float64)
    freedom, variance = shared["size"].to_numpy() - 1, shared["var"].to_numpy()
    capped = np.minimum(variance, np.quantile(variance, WINSOR_QUANTILE))
    typical = float((freedom * capped).sum() / freedom.sum())
    steadied = (PRIOR_WEIGHT * typical + freedom * variance) / (PRIOR_WEIGHT + freedom)
    own = rows.loc[:, columns.DUPLICATE_GROUP].map(pd.Series(steadied, index=shared.index))
    return own.fillna(typical).astype(np.float64) ** 0.5
