"""Build `potential/`: hypothetical crystals labelled by SevenNet-0, a share of them by CHGNet too.

    pip install -e ".[potentials]"
    dvc repro split
    python data/sample/build_potential.py [--n 40000] [--similar 40000] [--onto FOLDER [--volumes FOLDER]]

The crystals are drawn, seeded, from the bundled sample's training rows (`matscout.hypothetical.draw_crystals`).
Finished parts of 200 crystals wait in `.checkpoints/label-crystals`, so that a killed run resumes. A crystal takes
about 56 ms of one core, or 16 ms with `--volumes`. `--onto` keeps the labels of another folder and adds new ones, by
SevenNet-0 alone. The bundled folder was made in four steps: 40,000 draws from all chemistries for 0.2.0; for 0.3.0
`--n 0 --similar 20000`, then twice `--n 0 --similar 120000 --onto data/sample/potential --volumes data/sample/volumes`
with `--seed 40` and `--seed 41`.
"""

import argparse
import tempfile
from pathlib import Path

from volume_network import VolumeNetwork

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
    parser.add_argument(
        "--volumes", type=Path, default=None, help="network of the minima's volumes (build_pretrained.py --volumes)"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--out", type=Path, default=DESTINATION)
    arguments = parser.parse_args()
    for folder in (arguments.onto, arguments.volumes):
        if folder is not None and not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    flush_subnormals()
    with tempfile.TemporaryDirectory() as folder:
        made = arguments.out if arguments.onto is None else Path(folder) / "labels"
        build_labels(
            Path("data/curated/materials.parquet"),
            Path("data/splits/split.parquet"),
            made,
            n=arguments.n,
            n_similar=arguments.similar,
            seed=arguments.seed,
            potential="sevennet-0",
            second="chgnet" if arguments.onto is None else None,
            workers=arguments.workers,
            known_by=arguments.onto,
            volumes=None if arguments.volumes is None else VolumeNetwork(arguments.volumes),
        )
        if arguments.onto is not None:
            Labels.read(arguments.onto).joined(Labels.read(made)).write(arguments.out)
    print(f"labels in {arguments.out}")


if __name__ == "__main__":
    main()
