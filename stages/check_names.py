"""First command of every stage whose next one holds names of `params.yaml`: no other name comes before a shell."""

from matscout.params import load_params
from matscout.stage import run


def main() -> None:
    """Refuse a `params.yaml` that is not as it must be."""
    load_params()


if __name__ == "__main__":
    run(main)
