"""How the pictures of these pages are drawn: SVG, the same bytes for the same figures."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

FIGURES = Path(__file__).parent / "figures"


def begin() -> None:
    """Draw without a screen, and without what differs from run to run."""
    plt.switch_backend("svg")
    plt.rcParams["svg.hashsalt"] = "matscout"


def save(figure: Any, name: str) -> None:
    """Write docs/figures/`name`."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURES / name, metadata={"Date": None})
    plt.close(figure)
