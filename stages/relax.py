"""Stage `relax`: the best candidates relaxed by a potential, and judged a second time."""

from matscout.params import load_params
from matscout.stage import PathOption, run


def main(
    screening: PathOption,
    members: PathOption,
    ensemble: PathOption,
    materials: PathOption,
    split: PathOption,
    stand_ins: PathOption,
    hull: PathOption,
    out: PathOption,
) -> None:
    """Relax, apply the gates, combine both judges, rank again."""
    from pathlib import Path

    from matscout.discovery.relax.relax import Inputs, relax  # here: workers import this script again

    params = load_params()
    labels = Path(params.hypothetical.path)
    relax(Inputs(screening, members, ensemble, materials, split, stand_ins, labels, hull), params, out)


if __name__ == "__main__":
    run(main)
