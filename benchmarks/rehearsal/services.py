"""Replay servers of the three services over the files of `rows.py`, with the services' faults, on one port of loopback.

    python -m benchmarks.rehearsal.services FOLDER PORT

`/mp/`, `/aflow/`, `/oqmd/` and `/optimade/` are the four addresses. Answers are cut out of mapped files, so that the
server needs little memory and time beside the pipeline that is measured. One request in `FAULT_EVERY` fails: throttled,
unavailable, an HTML page, a body or gzip stream that is cut off. One AFLUX row makes every page with it fail, and one
is repeated; some OQMD labels have no cell; some rows of the Materials Project are announced and not given.
"""

import mmap
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
from werkzeug import Request, Response, serving

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "sources")]

from replay import answer, body, cut_gzip, cut_off, status  # noqa: E402

from benchmarks.rehearsal.rows import BATCH  # noqa: E402

FAULT_EVERY: Final = 29
FAULTS: Final = (status(429, Retry_After="1"), status(503), cut_off, cut_gzip, body("<html>maintenance</html>"))
HIDDEN: Final = 0.002  # share of the Materials Project's rows that are announced and not given
NO_CELL: Final = 997  # every so many OQMD labels have no cell
KEY: Final = "k" * 32


class Lines:
    """The lines of a file, mapped."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        ends = np.flatnonzero(np.frombuffer(self._map, dtype=np.uint8) == ord("\n"))
        self._ends = [-1, *ends.tolist()]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> bytes:
        return self._map[self._ends[place] + 1 : self._ends[place + 1]]

    def array(self, places: Sequence[int]) -> bytes:
        """The JSON array of these lines."""
        return b"[%s]" % b",".join(self[place] for place in places)


def json_answer(content: bytes) -> Response:
    """An answer of JSON text."""
    return Response(content, mimetype="application/json")


class MaterialsProject:
    """`heartbeat`, and `materials/{summary,thermo,core}/` with `_limit` and `_skip`."""

    def __init__(self, folder: Path) -> None:
        self._files = {name: Lines(folder / f"mp_{name}.jsonl") for name in ("summary", "thermo", "core")}
        controlled = f'"batch_id":"{BATCH}"'.encode()
        summaries = self._files["summary"]
        free = [place for place in range(len(summaries)) if controlled not in summaries[place]]
        self._announced = len(free)
        self._given = free[: len(free) - int(HIDDEN * len(free))]

    def respond(self, path: str, request: Request) -> Response:
        """What the service answers to `path`, below its address."""
        if path == "heartbeat":
            version = {"version": "0.87.3", "db_version": "rehearsal", "access_controlled_batch_ids": [BATCH]}
            return answer(version)
        if request.headers.get("x-api-key") != KEY:
            return Response('{"detail": "invalid key"}', 403)
        name = path.strip("/").rpartition("/")[2]
        if name == "summary":
            skip, limit = int(request.args.get("_skip", 0)), int(request.args["_limit"])
            places, total = self._given[skip : skip + limit], self._announced
        else:
            places = [int(key.removeprefix("mp-")) - 1 for key in request.args["material_ids"].split(",")]
            places = [place for place in places if self._files[name][place] != b"null"]
            total = len(places)
        return json_answer(b'{"data":%s,"meta":{"total_doc":%d}}' % (self._files[name].array(places), total))


class Aflux:
    """`$paging(n,k)`; one row fails with every page that holds it, and one is given twice."""

    def __init__(self, folder: Path) -> None:
        self._lines = Lines(folder / "aflow.jsonl")
        self._places = list(range(len(self._lines)))
        self._failing = len(self._places) // 3
        self._places.insert(2 * self._failing, 2 * self._failing)  # twice

    def respond(self, _path: str, request: Request) -> Response:
        """What the service answers."""
        found = re.search(r"\$paging\((\d+),(\d+)\)", unquote(request.query_string.decode()))
        if found is None:
            return Response("DB Fail!null", 200)
        number, size = map(int, found.groups())
        start = (number - 1) * size
        if start <= self._failing < start + size:
            return Response("DB Fail!null", 200)
        return json_answer(self._lines.array(self._places[start : start + size]))


class Oqmd:
    """Labels over REST, in no order, and cells over OPTIMADE, both for windows of ids."""

    def __init__(self, folder: Path) -> None:
        self._labels, self._cells = Lines(folder / "oqmd_labels.jsonl"), Lines(folder / "oqmd_cells.jsonl")
        number = re.compile(rb'"formationenergy_id":(\d+)')
        self._ids = [int(found[1]) for line in self._all(self._labels) if (found := number.search(line))]
        self._asked = count()

    @staticmethod
    def _all(lines: Lines) -> list[bytes]:
        return [lines[place] for place in range(len(lines))]

    def labels(self, _path: str, request: Request) -> Response:
        """An answer of REST."""
        places = self._window(request.args["filter"])
        limit, offset = int(request.args["limit"]), int(request.args["offset"])
        page = places[offset : offset + limit]
        page = page[::-1] if next(self._asked) % 2 else page
        following = None
        if offset + limit < len(places):
            following = request.url.replace(f"offset={offset}", f"offset={offset + limit}")
        return json_answer(
            b'{"links":{"next":%s},"resource":{},"data":%s,"meta":{"data_returned":%d,"data_available":%d,'
            b'"more_data_available":true},"response_message":"OK"}'
            % (_text(following), self._labels.array(page), len(page), len(places))
        )

    def cells(self, _path: str, request: Request) -> Response:
        """An answer of OPTIMADE."""
        places = [place for place in self._window(request.args["filter"]) if (place + 1) % NO_CELL]
        limit, offset = int(request.args["page_limit"]), int(request.args.get("page_offset", 0))
        following = None
        if offset + limit < len(places):
            bare = re.sub(r"&page_offset=\d+", "", request.url)
            following = f"{bare}&page_offset={offset + limit}"
        page = self._cells.array(places[offset : offset + limit])
        return json_answer(
            b'{"data":%s,"links":{"next":%s},"meta":{"data_returned":%d}}' % (page, _text(following), len(places))
        )

    def _window(self, conditions: str) -> range:
        found = re.search(r"id>=(\d+) AND id<(\d+)", conditions)
        low, high = map(int, found.groups()) if found else (0, 0)
        return range(bisect_left(self._ids, low), bisect_left(self._ids, high))


def _text(address: str | None) -> bytes:
    return b"null" if address is None else b'"%s"' % address.encode()


def serve(folder: Path, port: int) -> None:
    """Answer until the process is ended."""
    oqmd = Oqmd(folder)
    respond: dict[str, Callable[[str, Request], Response]] = {
        "mp": MaterialsProject(folder).respond,
        "aflow": Aflux(folder).respond,
        "oqmd": oqmd.labels,
        "optimade": oqmd.cells,
    }
    asked = count(1)

    def application(environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        service, _, path = request.path.lstrip("/").partition("/")
        number = next(asked)

        def healthy(request: Request) -> Response:
            return respond[service](path, request)

        failing = number % FAULT_EVERY == 0 and path != "heartbeat"
        act = FAULTS[number // FAULT_EVERY % len(FAULTS)]
        return (act(request, healthy) if failing else healthy(request))(environ, start_response)

    server = serving.make_server("127.0.0.1", port, application, threaded=True, request_handler=_Quiet)
    sys.stdout.write(f"serving {folder} at http://127.0.0.1:{server.server_port}/\n")
    sys.stdout.flush()
    server.serve_forever()


class _Quiet(serving.WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        pass


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
