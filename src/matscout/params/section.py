"""What every block of `params.yaml` is: frozen, complete, without unknown keys."""

import re
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ISOTOPES = ("D", "T")  # symbols to pymatgen, no elements
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")  # becomes the name of a folder and an argument of shell commands


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        message = f"{name!r} is not a valid name: write letters, digits, _ and -, a letter first, at most 63"
        raise ValueError(message)
    return name


def _checked_element(symbol: str) -> str:
    from pymatgen.core import Element

    if symbol in ISOTOPES or not Element.is_valid_symbol(symbol):
        message = f"{symbol!r} is not an element; {_nearest_element(symbol)}"
        raise ValueError(message)
    return symbol


def _nearest_element(word: str) -> str:
    """What may have been meant: another spelling of a symbol, or the element's name."""
    from pymatgen.core import Element

    elements = [Element.from_Z(number) for number in range(1, 119)]
    names = {element.long_name.lower(): element.symbol for element in elements}
    symbols = {element.symbol.lower(): element.symbol for element in elements}
    near = get_close_matches(word.lower(), [*symbols, *names], n=1, cutoff=0.5)
    found = (
        symbols.get(word.lower()) or names.get(word.lower()) or next((symbols.get(n) or names[n] for n in near), None)
    )
    return f"did you mean {found}?" if found else "write symbols such as Pb"


Name = Annotated[str, AfterValidator(_checked_name)]
ElementSymbol = Annotated[str, AfterValidator(_checked_element)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, lt=2**31)]


def check_range(name: str, low: float | None, high: float | None) -> None:
    """Reject a range whose ends are the wrong way round.

    Args:
        name: name of the range, for the message.
        low: lower end; None = open.
        high: upper end; None = open.

    Raises:
        ValueError: the low end lies above the high one.
    """
    if low is not None and high is not None and low > high:
        message = f"{name} = [{low!s:.40}, {high!s:.40}] is empty; write [low, high] with low at most high"
        raise ValueError(message)


class Section(BaseModel):
    """A block of `params.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
