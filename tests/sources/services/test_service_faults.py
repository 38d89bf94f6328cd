"""What may go wrong on the way, each once: the download ends with the same bytes, or in one clear error.

The table in docs/acquisition.md lists these faults with tries and outcome.
"""

import errno
import re
import shutil
import time

import pytest
from replay import Fault, body, cut_gzip, cut_off, edited, slow, status
from sample_rows import split

from matscout.errors import SourceError
from matscout.sources.services import http
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

SECOND = {"materials_project": "_skip=20", "aflow": r"paging\(2,", "oqmd": "limit=20&offset=20"}


def content_of(folder):
    """Pages and manifest; the port of a replay, which the manifest names, is another each time."""
    pages = {path.name: path.read_bytes() for path in sorted(folder.glob("pages-*"))}
    return pages, read_manifest(folder).model_copy(update={"endpoint": None})


@pytest.fixture
def undisturbed(service):
    """What the service gives when nothing goes wrong; fetched once a service."""
    if service.name not in UNDISTURBED:
        UNDISTURBED[service.name] = content_of(service.acquire())
        del service.server.asked[:]
    return UNDISTURBED[service.name]


def undisturbed_of(name):
    @pytest.fixture
    def whole(start_service):
        if name not in UNDISTURBED:
            UNDISTURBED[name] = content_of(start_service(name).acquire(refresh=True))
        return UNDISTURBED[name]

    return whole


undisturbed_aflow, undisturbed_oqmd = undisturbed_of("aflow"), undisturbed_of("oqmd")
UNDISTURBED = {}
PASSING = {
    "429 with Retry-After": status(429, Retry_After="0.2"),
    "429 with a date": status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "429 without": status(429),
    "500": status(500),
    "502": status(502),
    "503": status(503, Retry_After="0"),
    "read timeout": slow(1.5),
    "connection reset in the body": cut_off,
    "truncated gzip": cut_gzip,
    "200 with HTML": body("<html><body>Gateway</body></html>"),
    "200 with DB Fail": body("DB Fail!null"),
    "200 with nothing": body(""),
    "200 with an error object": body('{"status": "error", "message": "try later"}'),
    "200 with a list of text": body('["a", "b"]'),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the server's reset
@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_costs_a_try_and_no_row(service, undisturbed, fault, monkeypatch):
    monkeypatch.setattr(http, "READ_TIMEOUT_S", 0.7)
    service.server.faults = [Fault(PASSING[fault], times=2, match=SECOND[service.name])]
    assert content_of(service.acquire(refresh=True)) == undisturbed
    assert not service.server.faults


def test_a_long_outage_within_the_patience_costs_time_and_no_row(start_service, undisturbed_oqmd):
    """Eighty failures in a row are forty minutes of waiting at the rate of the real waits, half a minute on average."""
    service = start_service("oqmd")
    for server in (service.server, service.cells):
        server.faults = [Fault(PASSING["502"], times=80, match="offset=20|structures")]
    assert content_of(service.acquire()) == undisturbed_oqmd
    assert not service.server.faults
    assert not service.cells.faults


@pytest.mark.parametrize("fault", ["500", "200 with HTML", "429 without"])
def test_a_lasting_fault_ends_within_the_patience_and_keeps_what_was_fetched(service, undisturbed, fault):
    # AFLUX is asked for smaller parts of a page that fails, whose numbers are others
    match = r"paging\((?!1,)" if service.name == "aflow" else SECOND[service.name]
    service.server.faults = [Fault(PASSING[fault], times=10**6, match=match)]
    begun = time.monotonic()
    with pytest.raises(SourceError, match=r"failed \d+ time\(s\), last: .*run again to go on"):
        service.acquire(refresh=True, service__patience=0.5)
    assert time.monotonic() - begun < 20
    service.server.faults = []
    assert content_of(service.acquire()) == undisturbed


def test_a_wait_longer_than_the_patience_is_not_begun(service):
    service.server.faults = [Fault(status(429, Retry_After="3600"), times=10**6, match=SECOND[service.name])]
    with pytest.raises(SourceError, match="HTTP 429"):
        service.acquire(service__patience=5.0)


def test_retry_after_is_waited_for(service):
    service.server.faults = [Fault(status(429, Retry_After="1"), match=SECOND[service.name])]
    begun = time.monotonic()
    service.acquire()
    assert time.monotonic() - begun >= 1


@pytest.mark.parametrize("code", [400, 404, 501])
def test_a_refusal_is_not_tried_again(service, code):
    service.server.faults = [Fault(status(code, "no such field"), times=10**6, match=SECOND[service.name])]
    with pytest.raises(SourceError, match=f"HTTP {code}.*no such field"):
        service.acquire()
    assert sum(Fault(None, match=SECOND[service.name]).matches(path) for path in service.server.asked) == 1


def rows_in(answer):
    return answer if isinstance(answer, list) else answer["data"]


def replace_rows(answer, rows):
    return rows if isinstance(answer, list) else {**answer, "data": rows}


FLAWED = {
    "a page that repeats a row": lambda a: replace_rows(a, [*rows_in(a)[:-1], rows_in(a)[0]]),
    "a page that skips a row": lambda a: replace_rows(a, rows_in(a)[1:]),
    "an empty page before the end": lambda a: replace_rows(a, []),
}


@pytest.mark.parametrize("flaw", FLAWED)
def test_a_page_that_repeats_or_skips_rows_is_asked_for_again(service, undisturbed, flaw):
    service.server.faults = [Fault(edited(FLAWED[flaw]), match=SECOND[service.name])]
    assert content_of(service.acquire(refresh=True)) == undisturbed
    assert not service.server.faults


@pytest.mark.parametrize("places", [[27], [20, 39], [25, 26]])
@pytest.mark.parametrize("fault", ["500", "200 with DB Fail"])
def test_a_row_of_aflux_that_fails_for_good_is_left_out_and_counted(start_service, places, fault):
    """Rows 20 to 39 are the second page; every request whose answer would hold a bad row fails."""
    service = start_service("aflow")
    expected = [row["auid"] for place, row in enumerate(service.server.rows) if place not in places]

    def holds_one(path):
        number, size = map(int, re.search(r"\$paging\((\d+),(\d+)\)", path).groups())
        return any((number - 1) * size <= place < number * size for place in places)

    service.server.faults = [Fault(PASSING[fault], times=10**6)]
    service.server.faults[0].matches = holds_one
    folder = service.acquire()
    records, _ = split(read_snapshot(folder))
    assert [record.material_id for record in records] == expected
    assert read_manifest(folder).skipped == {"fails whenever it is asked for": len(places)}


def test_an_outage_of_aflux_skips_no_row(start_service, undisturbed_aflow):
    """All of it fails, then it comes back within the patience."""
    service = start_service("aflow")
    service.server.faults = [Fault(PASSING["502"], times=25, match=r"paging\(([2-9]|\d\d|1,1\))")]
    assert content_of(service.acquire()) == undisturbed_aflow


def test_a_row_that_aflux_goes_on_to_repeat_is_counted_once(start_service):
    """One row of the first page stands in the second too, and one twice within it."""
    service = start_service("aflow")
    rows = service.server.rows
    service.server.rows = [*rows[:20], rows[3], *rows[20:25], rows[24], *rows[25:]]
    folder = service.acquire()
    records, _ = split(read_snapshot(folder))
    assert [record.material_id for record in records] == [row["auid"] for row in rows]
    assert read_manifest(folder).skipped == {"repeated by the service": 2}


@pytest.mark.parametrize("base", ["http://elsewhere:80", "https://oqmd.org", ""])
def test_links_are_followed_at_the_host_that_was_asked(start_service, undisturbed_oqmd, base):
    """As OQMD's, which say http:// behind a base of https://, or as a proxy's inner name."""
    service = start_service("oqmd")

    def relinked(a):
        link = a["links"]["next"]
        plain = link["href"] if isinstance(link, dict) else link
        moved = plain and base + "/" + plain.split("/", 3)[3]
        return {**a, "links": {**a["links"], "next": {"href": moved} if isinstance(link, dict) else moved}}

    for server in (service.server, service.cells):
        server.faults = [Fault(edited(relinked), times=10**6)]
    assert content_of(service.acquire()) == undisturbed_oqmd


def test_a_page_that_is_an_earlier_one_for_ever_is_an_error(start_service):
    service = start_service("aflow")

    def first_page(request, respond):
        request.environ["QUERY_STRING"] = request.environ["QUERY_STRING"].replace("paging(2,", "paging(1,")
        return respond(type(request)(request.environ))

    service.server.faults = [Fault(first_page, times=10**6, match=SECOND["aflow"])]
    with pytest.raises(SourceError, match=r"page 1 failed .* repeats 20 row"):
        service.acquire(service__patience=5.0)


def test_cells_that_optimade_skips_are_asked_for_again_and_then_quarantined(start_service):
    service = start_service("oqmd")
    undisturbed = content_of(service.acquire())
    without_first = edited(lambda a: {**a, "data": a["data"][1:]})
    service.cells.faults = [Fault(without_first, match="structures")]
    assert content_of(service.acquire(refresh=True)) == undisturbed
    service.cells.cells = service.cells.cells[1:]
    records, rejections = split(read_snapshot(service.acquire(refresh=True)))
    assert [rejection.reason for rejection in rejections] == ["structure_missing"]
    assert len(records) == 59


NULLS = {
    "materials_project": {"band_gap": None, "energy_above_hull": "0.25"},
    "aflow": {"Egap": None, "enthalpy_formation_atom": "-0.5", "ldau_TLUJ": None},
    "oqmd": {"band_gap": None, "stability": None, "delta_e": "-0.5", "spacegroup": None},
}
BROKEN = {"materials_project": {"structure": None}, "aflow": {"positions_fractional": [[0, 0]]}, "oqmd": {"natoms": 77}}


def with_first(changes):
    return edited(lambda a: replace_rows(a, [rows_in(a)[0] | changes, *rows_in(a)[1:]]))


def test_null_and_text_fields_are_read(service):
    service.server.faults = [Fault(with_first(NULLS[service.name]), match=SECOND[service.name])]
    records, rejections = split(read_snapshot(service.acquire()))
    assert not rejections
    assert len(records) == 60


def test_a_broken_structure_is_quarantined_and_the_others_kept(service):
    service.server.faults = [Fault(with_first(BROKEN[service.name]), match=SECOND[service.name])]
    records, rejections = split(read_snapshot(service.acquire()))
    assert (len(records), len(rejections)) == (59, 1)
    assert rejections[0].detail


ENERGY = {"materials_project": "formation_energy_per_atom", "aflow": "enthalpy_formation_atom", "oqmd": "delta_e"}


def test_a_service_that_changes_its_units_is_refused(service):
    """kJ/mol instead of eV/atom: no median of formation energies is -60 eV/atom."""
    key = ENERGY[service.name]

    def in_kilojoules(answer):
        return replace_rows(answer, [row | {key: row.get(key, -1.0) * 96.485 - 100} for row in rows_in(answer)])

    kilojoules = edited(in_kilojoules)
    service.server.faults = [Fault(kilojoules, times=10**6, match="paging|thermo|formationenergy")]
    with pytest.raises(SourceError, match="the rows are in another unit"):
        service.acquire()


@pytest.mark.parametrize("place", ["page", "publication"])
def test_a_full_disk_is_told_and_nothing_is_lost(service, undisturbed, monkeypatch, place):

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    module = {
        "page": "matscout.sources.snapshots.download.write_page",
        "publication": "matscout.sources.snapshots.download.write_manifest",
    }
    with monkeypatch.context() as patch:
        patch.setattr(module[place], no_space)
        with pytest.raises(SourceError, match=r"the disk is full at .* rows, which are kept"):
            service.acquire(service.root / "raw", refresh=True)
    assert not (service.root / "raw").exists()
    assert content_of(service.acquire(service.root / "raw")) == undisturbed


def test_a_download_that_cannot_fit_is_refused_with_a_figure(service, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    with pytest.raises(SourceError, match=r"need [\d.]+ GiB, 0.0 GiB are free"):
        service.acquire(query__limit=10**6)
    assert not service.server.asked


def test_a_page_damaged_on_disk_after_its_download_is_refused(service):
    service.acquire()
    page = next((service.root / ".downloads").rglob("pages-00000.json.gz"))
    page.write_bytes(page.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"pages-00000.*--refresh"):
        service.acquire()
