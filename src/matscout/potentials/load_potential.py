"""Load a potential by name: one shipped with its package, an entry point of another package, or a user's file.

An entry point of the group `matscout.potentials`, and the function `load_potential()` of a user's file, take no
argument and return a `Potential`, such as `CalculatorPotential(calculator, Facts(...))` around an ASE calculator.
"""

import importlib.util
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from matscout.errors import InputError
from matscout.files import sha256_of
from matscout.potentials.potential import Potential

GROUP: Final = "matscout.potentials"
FUNCTION: Final = "load_potential"


def _sevennet(name: str, device: str) -> Potential:
    from matscout.potentials.sevennet import SevenNet

    return SevenNet.load(name, device)


def _chgnet(name: str, device: str) -> Potential:
    from matscout.potentials.chgnet import CHGNet

    return CHGNet.load(name, device)


POTENTIALS: Final[dict[str, Callable[[str], Potential]]] = {
    "sevennet-0": partial(_sevennet, "7net-0"),
    "sevennet-l3i5": partial(_sevennet, "7net-l3i5"),
    "chgnet": partial(_chgnet, "0.3.0"),
    "chgnet-r2scan": partial(_chgnet, "r2scan"),
}


@cache
def load_potential(name: str, *, trust_file: bool = False, device: str = "cpu") -> Potential:
    """A potential by its name, loaded once per process and device.

    Args:
        name: one of `POTENTIALS`, an entry point of the group `matscout.potentials`, or a Python file that ends in
            `.py` and has a function `load_potential()`.
        trust_file: whether such a file may be run.
        device: cpu or cuda, for one of `POTENTIALS`; the others run where their own code decides.

    Raises:
        InputError: the potential is unknown, its package is not installed, or its file is not trusted.
    """
    if name in POTENTIALS:
        return POTENTIALS[name](device)
    if name.endswith(".py"):
        return _from_file(Path(name), trusted=trust_file)
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name in found:
        return found[name].load()()
    raise InputError(
        f"potential {name!r} is unknown; choose one of {', '.join(sorted({*POTENTIALS, *found}))}, or name a file that "
        "ends in .py and has a function load_potential()"
    )


def code_of(name: str) -> str:
    """SHA-256 of a user's file; empty for a potential of an installed package."""
    return sha256_of(Path(name)) if name.endswith(".py") and Path(name).is_file() else ""


def _from_file(path: Path, *, trusted: bool) -> Potential:
    if not path.is_file():
        raise InputError(f"{path} does not exist; name a file that has a function {FUNCTION}()")
    if not trusted:
        raise InputError(
            f"{path} is Python code that matscout would run; if you trust it, set relaxation.trust_file: true"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, FUNCTION):
        raise InputError(f"{path} has no function {FUNCTION}(); define one that returns a potential")
    return getattr(module, FUNCTION)()
