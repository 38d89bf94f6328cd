"""Stage `acquire`: one database's rows, as it gave them, with a manifest."""

from matscout.params import load_params
from matscout.sources.registry import acquire
from matscout.stage import NameOption, PathOption, run


def main(database: NameOption, out: PathOption) -> None:
    """Fetch or import one database into a snapshot."""
    acquire(database, load_params().databases[database], out)


if __name__ == "__main__":
    run(main)
