"""Architectures by name."""

from typing import Any

from torch import nn

from matscout.errors import ParameterError
from matscout.models.encoders.alignn import ALIGNN
from matscout.models.encoders.cgcnn import CGCNN
from matscout.models.encoders.cogn import CoGN
from matscout.models.encoders.comformer import ComFormer
from matscout.models.encoders.composition import CompositionTransformer
from matscout.models.encoders.megnet import MEGNet

ENCODERS: dict[str, type[nn.Module]] = {
    "cgcnn": CGCNN,
    "megnet": MEGNet,
    "alignn": ALIGNN,
    "cogn": CoGN,
    "comformer": ComFormer,
    "composition": CompositionTransformer,
}


FORMULA_ONLY = frozenset({"composition"})  # these see no distances


def build_encoder(name: str, *, cutoff: float, **hyperparameters: Any) -> nn.Module:
    """The encoder `name`, a module from `CrystalGraph` to (n_crystals, hidden_dim).

    Args:
        name: a key of `ENCODERS`.
        cutoff: of the graphs that the encoder will see, Å; unused by those that see the formula only.
        hyperparameters: the `encoder` block of a member.

    Raises:
        ParameterError: the name is unknown; the message lists the known ones.
    """
    if name not in ENCODERS:
        message = f"architecture {name!r} is unknown; choose one of {sorted(ENCODERS)}"
        raise ParameterError(message)
    if name not in FORMULA_ONLY:
        hyperparameters["cutoff"] = cutoff
    return ENCODERS[name](**hyperparameters)
