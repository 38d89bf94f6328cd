"""Build `potential/`: hypothetical crystals labelled by SevenNet-0, a share of them by CHGNet too.

    pip install -e ".[potentials]"
    dvc repro split
    python data/sample/build_potential.py [--n 40000] [--similar 40000] [--onto FOLDER] [--workers 2] [--out FOLDER]

The crystals are drawn, seeded, from the bundled sample's training rows (`matscout.hypothetical.draw_crystals`).
Finished parts of 200 crystals wait in `.checkpoints/label-crystals`, so that a killed run resumes. A crystal takes
about 65 ms of one core. `--onto` keeps the labels of another folder and adds the new ones. The bundled folder was made
in two steps: 40,000 draws from all chemistries for 0.2.0, then `--n 0 --onto data/sample/potential` for 0.3.0.
"""

import argparse
import tempfile
from pathlib import Path

from matscout.engine.process_setup import flush_subnormals
from matscout.hypothetical.label_crystals import build_labels
from matscout.hypothetical.potential_labels import Labels

DESTINATION = Path(__file__).parent / "potential"
SEED = 17


def main() -> None:
    """Parse the arguments, label, say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=40_000, help="crystals to draw from all chemistries")
    parser.add_argument(
        "--similar", type=int, default=40_000, help="crystals that differ from a known one by similar elements"
    )
    parser.add_argument("--onto", type=Path, default=None, help="folder of labels to which the new ones are added")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--out", type=Path, default=DESTINATION)
    arguments = parser.parse_args()
    flush_subnormals()
    with tempfile.TemporaryDirectory() as folder:
        made = arguments.out if arguments.onto is None else Path(folder) / "labels"
        build_labels(
            Path("data/curated/materials.parquet"),
            Path("data/splits/split.parquet"),
            made,
            n=arguments.n,
            n_similar=arguments.similar,
            seed=SEED,
            potential="sevennet-0",
            second="chgnet",
            workers=arguments.workers,
        )
        if arguments.onto is not None:
            Labels.read(arguments.onto).joined(Labels.read(made)).write(arguments.out)
    print(f"labels in {arguments.out}")


if __name__ == "__main__":
    main()
