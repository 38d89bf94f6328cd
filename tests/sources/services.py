"""Running replays of the three services, each with the block of params.yaml that points to it."""

import contextlib
import copy
from dataclasses import dataclass, field
from pathlib import Path

from replay import Aflux, MaterialsProject, OqmdCells, OqmdLabels
from sample_rows import database, sample_pages

from matscout.sources import acquire as registry

N_ROWS = 60


def clear_heartbeat():
    from mp_api.client.core.client import _Rester

    _Rester._get_heartbeat_info.cache_clear()


@dataclass
class Service:
    """A running replay with the block of params.yaml that points to it."""

    name: str
    server: object
    database: object
    root: Path
    cells: object = None
    n_acquired: int = field(default=0)

    def acquire(self, folder=None, *, refresh=False, **changes):
        folder = folder or self.root / f"raw-{self.n_acquired}"
        self.n_acquired += 1
        clear_heartbeat()
        registry.acquire(self.name, self.with_changes(**changes), folder, refresh=refresh)
        return folder

    def with_changes(self, **changes):
        tree = self.database.model_dump()
        for path, value in changes.items():
            *parents, key = path.split("__")
            node = tree
            for parent in parents:
                node = node[parent]
            node[key] = value
        return type(self.database).model_validate(tree)


@contextlib.contextmanager
def start(name, root, n_rows=N_ROWS, page_size=20, **options):
    """A replay of the service `name` over the first rows of its sample."""
    common = {"origin": "api", "service__page_size": page_size, "service__requests_per_second": 1000.0}
    common |= {"service__patience": 30.0, "query__energy_above_hull": None}
    if name == "materials_project":
        rows = [document for page in sample_pages(name) for document in page["data"]][:n_rows]
        rows = copy.deepcopy(rows)  # tests change them
        with MaterialsProject(rows) as server:
            yield Service(name, server, database(name, endpoint=server.url, **common), root)
    elif name == "aflow":
        rows = [row for page in sample_pages(name) for row in page][:n_rows]
        rows = copy.deepcopy(rows)
        with Aflux(rows, **options) as server:
            yield Service(name, server, database(name, endpoint=server.url, **common), root)
    else:
        labels = [row for page in sample_pages(name) for row in page["labels"]["data"]][:n_rows]
        cells = [row for page in sample_pages(name) for row in page["structures"]["data"]][:n_rows]
        # The sample's numbers are large; real ones begin at 1 with gaps, and that is what a window meets.
        labels = [row | {"formationenergy_id": moved(i), "entry_id": moved(i)} for i, row in enumerate(labels)]
        cells = [row | {"id": str(moved(i))} for i, row in enumerate(cells)]
        with OqmdLabels(labels) as server, OqmdCells(cells) as structures:
            block = database(name, endpoint=server.url, optimade_endpoint=structures.url, **common)
            yield Service(name, server, block, root, structures)


def moved(i):
    return 17 + 9 * i + (5000 if i > N_ROWS // 2 else 0)
