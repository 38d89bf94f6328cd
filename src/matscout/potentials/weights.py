"""Check the weights of other packages: they are pickles, which can run code, so only known files are read."""

from pathlib import Path

from matscout.errors import InputError
from matscout.files import sha256_of


def check_weights(path: Path, expected: str) -> str:
    """Check and return the SHA-256 of a file of weights from an installed package.

    Args:
        path: the file.
        expected: its SHA-256, as hex.

    Raises:
        InputError: the file has another SHA-256.
    """
    sha256 = sha256_of(path)
    if sha256 != expected:
        raise InputError(
            f"{path} has SHA-256 {sha256}, not {expected}: reading it could run foreign code, so it is not read. "
            "Install the package again in the version of pyproject.toml"
        )
    return sha256
