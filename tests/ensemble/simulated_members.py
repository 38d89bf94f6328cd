"""A world whose true distributions are known: members that see it through noise."""

import numpy as np

from matscout.ensemble.mixture import TargetOutputs
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace


def laplace_world(rng, n, *, spread_error=1.0, member_noise=0.1, n_members=4, spread_noise=0.0):
    """Truth y ~ Laplace(mu, b) with b from 0.05 to 1; members know mu up to noise, and b times `spread_error`.

    All of them misjudge a row's b alike, by a factor exp(`spread_noise` z) with z normal.
    """
    mu, scale = rng.normal(size=n), rng.uniform(0.05, 1, n)
    truth = rng.laplace(mu, scale)
    locs = [mu + member_noise * scale * rng.normal(size=n) for _ in range(n_members)]
    judged = scale * spread_error * np.exp(spread_noise * rng.normal(size=n))
    members = {f"m{k}": Laplace(loc, judged) for k, loc in enumerate(locs)}
    return TargetOutputs(members, np.ones(n)), truth


def hurdle_world(rng, n, *, member_noise=0.1, sharpness=1.0, n_members=4):
    """Zero with a known probability (often near 0 or 1), else a Laplace cut at zero."""
    logit = 4 * rng.normal(size=n)
    loc, scale = rng.uniform(0.5, 4, n), rng.uniform(0.05, 0.6, n)
    true = HurdleLaplace(1 / (1 + np.exp(-logit)), loc, scale)
    truth = true.sample(rng, 1)[0]
    members = {}
    for k in range(n_members):
        noisy = sharpness * (logit + member_noise * rng.normal(size=n))
        members[f"m{k}"] = HurdleLaplace(
            1 / (1 + np.exp(-noisy)), loc + member_noise * scale * rng.normal(size=n), scale / sharpness
        )
    return TargetOutputs(members, np.ones(n)), truth
