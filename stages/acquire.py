"""Stage `acquire`: one database's rows, as it gave them, with a manifest."""

from matscout.params import load_params
from matscout.sources.acquire import acquire
from matscout.stage import FlagOption, NameOption, PathOption, run


def main(database: NameOption, out: PathOption, refresh: FlagOption = False) -> None:
    """Fetch or import one database into a snapshot; `--refresh` asks the service anew."""
    acquire(database, load_params().databases[database], out, refresh=refresh)


if __name__ == "__main__":
    run(main)
