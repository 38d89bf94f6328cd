"""Families of distributions by the name that `targets.<name>.head` in `params.yaml` gives."""

from matscout.models.families.distribution import Distribution
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace
from matscout.models.families.log_laplace import LogLaplace

FAMILIES: dict[str, type[Distribution]] = {
    "laplace": Laplace,
    "hurdle": HurdleLaplace,
    "log_laplace": LogLaplace,
}
