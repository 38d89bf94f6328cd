"""Genuine bodies of OQMD and AFLUX, as the services answered; they lie beside the repository and are no part of it."""

import gzip
import json
import os
from pathlib import Path

import pytest
from pymatgen.core import Composition
from replay import Replay, answer
from sample_rows import ROOT, database

from matscout.sources.services import aflow, oqmd
from matscout.sources.services.aflow import _check as check_aflux
from matscout.sources.services.oqmd import OqmdClient
from matscout.sources.services.page_formats import FORMATS, parse_page

SHARED = Path(os.environ.get("MATSCOUT_SHARED", ROOT.parent / "shared"))
FOLDER = SHARED / "data" / "recorded_answers"
OQMD = "oqmd_rest_formationenergy_offset2000_limit2000.json.gz"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recorded answers at {FOLDER}")


@pytest.fixture(scope="module")
def body():
    return json.loads(gzip.decompress((FOLDER / OQMD).read_bytes()))


class Recorded(Replay):
    """The recorded body, then an empty page where its own link leads."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def respond(self, request):
        is_next = request.args["offset"] == "4000"
        return answer({**self.body, "data": [], "links": {"next": None}} if is_next else self.body)


def test_a_link_of_oqmd_is_followed_where_the_request_went(body):
    assert body["links"]["next"].startswith("http://oqmd.org/")
    with Recorded(body) as server:
        block = database("oqmd", origin="api", endpoint=server.url, optimade_endpoint=server.url)
        rows, available = OqmdClient(block)._walk(f"{server.url}formationenergy?limit=2000&offset=2000")
        assert [path.split("offset=")[1] for path in server.asked] == ["2000", "4000"]
    assert (len(rows), available) == (2000, 1022603)


def test_every_label_of_oqmd_parses_beside_a_cell(body):
    """The cells are made up: as many atoms as the formula has, in a box."""
    labels = [row | {"formationenergy_id": place} for place, row in enumerate(body["data"])]
    page = {"labels": {"data": labels}, "structures": {"data": [cell_of(row) for row in labels]}}
    items = list(parse_page(page, FORMATS[oqmd.FORMAT], source="oqmd", file="recorded"))
    assert [item.material_id for item in items] == [f"oqmd-{row['entry_id']}" for row in body["data"]]
    for record, row in zip(items, body["data"], strict=True):
        assert (record.formation_energy_per_atom, record.energy_above_hull) == (row["delta_e"], row["stability"])


def cell_of(label):
    symbols = [s for s, n in Composition(label["name"]).get_el_amt_dict().items() for _ in range(int(n))]
    side = 3.0 * len(symbols)
    return {
        "id": str(label["formationenergy_id"]),
        "attributes": {
            "lattice_vectors": [[side, 0, 0], [0, 3, 0], [0, 0, 3]],
            "species_at_sites": symbols,
            "cartesian_site_positions": [[3.0 * place, 0, 0] for place in range(len(symbols))],
        },
    }


def aflux_rows():
    rows = json.loads((FOLDER / "aflux_row_2024.json").read_text())
    (saved,) = (
        cell["output"]
        for cell in json.loads((FOLDER / "aflux_school_2025_outputs.json").read_text())
        if "Content of the saved file" in cell["source"]
    )
    return [*rows, *json.loads(saved.rstrip() + "}]")]


def test_answers_of_aflux_pass_as_rows_and_their_labels_parse():
    """What the recorded queries did not ask for, the cell and the functional, is made up."""
    rows = aflux_rows()
    check_aflux(rows)
    assert list(aflow.rows_of(rows)) == rows
    for row in rows:
        counts = Composition(row["compound"]).get_el_amt_dict()
        made_up = {
            "species": list(counts),
            "composition": [int(n) for n in counts.values()],
            "geometry": [8.0, 8.0, 8.0, 90, 90, 90],
            "positions_fractional": [[0.05 * n, 0.1 * n, 0] for n in range(int(sum(counts.values())))],
            "dft_type": ["PAW_PBE"],
        }
        record = aflow.parse_row(row | made_up, "aflow")
        assert record.material_id == row["auid"]
        assert record.band_gap == row["Egap"]
        assert record.year == (int(row["aflowlib_date"][0][:4]) if "aflowlib_date" in row else None)
