"""Replay servers on loopback that behave as the three services do, with faults on demand.

A fault is a function `(request, respond) -> Response`, used up by one request that matches it; `respond` gives
what the healthy service would have answered. `asked` lists every request.
"""

import gzip
import json
import re
import threading
import time
from urllib.parse import unquote

from werkzeug import Request, Response, serving

PER_ATOM = ("formation_energy_per_atom", "energy_above_hull")


class Replay:
    """One service over HTTP on a free port of loopback."""

    def __init__(self):
        self.faults = []
        self.asked = []
        self._lock = threading.Lock()
        self._server = serving.make_server("127.0.0.1", 0, self._app, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/"

    def _app(self, environ, start_response):
        request = Request(environ)
        with self._lock:
            self.asked.append(unquote(request.full_path))
            fault = next((f for f in self.faults if f.matches(unquote(request.full_path))), None)
            if fault:
                fault.times -= 1
                self.faults = [f for f in self.faults if f.times > 0]
        response = fault.act(request, self.respond) if fault else self.respond(request)
        return response(environ, start_response)

    def respond(self, request):
        raise NotImplementedError


class Fault:
    def __init__(self, act, *, times=1, match=""):
        self.act, self.times, self._match = act, times, match

    def matches(self, path):
        return re.search(self._match, path) is not None


def answer(content):
    return Response(json.dumps(content), mimetype="application/json")


# ---------------------------------------------------------------------------------- faults
def status(code, text="try later", **headers):
    return lambda request, respond: Response(text, code, {key.replace("_", "-"): v for key, v in headers.items()})


def body(text):
    return lambda request, respond: Response(text, 200, mimetype="text/html")


def slow(seconds):
    def act(request, respond):
        time.sleep(seconds)
        return respond(request)

    return act


def cut_off(request, respond):
    """The connection ends in the middle of the body."""
    data = respond(request).get_data()

    def stream():
        yield data[: len(data) // 2]
        msg = "reset by the fault"
        raise ConnectionResetError(msg)

    return Response(stream(), 200, {"Content-Length": str(len(data)), "Content-Type": "application/json"})


def cut_gzip(request, respond):
    """A gzip body that ends early though its length is as announced."""
    data = gzip.compress(respond(request).get_data())
    return Response(data[: len(data) // 2], 200, {"Content-Encoding": "gzip", "Content-Type": "application/json"})


def edited(change):
    """The healthy JSON answer, changed."""

    def act(request, respond):
        return answer(change(json.loads(respond(request).get_data())))

    return act


# ---------------------------------------------------------------------------------- services
class MaterialsProject(Replay):
    """`/heartbeat`, `/materials/{summary,thermo,core}/` with `_limit`, `_skip`, filters, key.

    `hidden` ids are counted in `total_doc` and never given, as to a key without access; `batch_ids` are the heartbeat's.
    A document may hold `thermo` (None: no document of the GGA hull) and `run_types` (by task) for its other documents.
    """

    key = "k" * 32

    def __init__(self, documents):
        super().__init__()
        self.documents = sorted(documents, key=lambda d: d["material_id"])
        self.by_id = {d["material_id"]: d for d in documents}
        self.version = "2026.11.1"
        self.hidden = set()
        self.batch_ids = ["gnome_r2scan_statics"]
        self.ignores_batches = False

    def respond(self, request):
        if request.path == "/heartbeat":
            content = {"version": "0.87.3", "db_version": self.version, "access_controlled_batch_ids": self.batch_ids}
            return answer(content)
        if request.headers.get("x-api-key") != self.key:
            return Response('{"detail": "invalid key"}', 403)
        if request.path == "/materials/summary/":
            return self._summary(request.args)
        if request.path == "/materials/thermo/":
            named = (self.by_id[key] for key in reversed(request.args["material_ids"].split(",")))
            rows = [thermo for document in named if (thermo := thermo_of(document))]
            return answer({"data": rows, "meta": {"total_doc": len(rows)}})
        if request.path == "/materials/core/":
            ids = request.args["material_ids"].split(",")
            rows = [{"material_id": key, "run_types": self.by_id[key].get("run_types")} for key in reversed(ids)]
            return answer({"data": rows, "meta": {"total_doc": len(rows)}})
        return Response("not found", 404)

    def _summary(self, args):
        excluded = set(filter(None, args.get("exclude_elements", "").split(",")))
        batches = args.get("batch_id_neq_any", "").split(",")
        low, high = int(args["nelements_min"]), int(args["nelements_max"])
        rows = [
            d
            for d in self.documents
            if low <= len(elements_of(d)) <= high
            and int(args["nsites_min"]) <= len(d["structure"]["sites"]) <= int(args["nsites_max"])
            and not excluded & elements_of(d)
            and (self.ignores_batches or d.get("builder_meta", {}).get("batch_id") not in batches)
        ]
        visible = [d for d in rows if d["material_id"] not in self.hidden]
        skip, limit = int(args.get("_skip", 0)), int(args["_limit"])
        fields = set(args["_fields"].split(","))
        page = [{key: value for key, value in d.items() if key in fields} for d in visible[skip : skip + limit]]
        return answer({"data": page, "meta": {"total_doc": len(rows)}})


def elements_of(document):
    return {site["species"][0]["element"] for site in document["structure"]["sites"]}


def thermo_of(document):
    if document.get("thermo", document) is None or "formation_energy_per_atom" not in document:
        return None
    labels = {key: document[key] for key in PER_ATOM if key in document} | document.get("thermo", {})
    return {"material_id": document["material_id"], "thermo_type": "GGA_GGA+U", "energy_type": "GGA", **labels}


class Aflux(Replay):
    """Matchbook in the query string, `$paging(n,k)`, sorted by auid, empty beyond the end; either shape."""

    def __init__(self, rows, *, shape="today", largest=None):
        super().__init__()
        self.rows = sorted(rows, key=lambda row: row["auid"])
        self.shape, self.largest = shape, largest

    def respond(self, request):
        query = unquote(request.query_string.decode())
        number, size = map(int, re.search(r"\$paging\((\d+),(\d+)\)", query).groups())
        if self.largest and size > self.largest:
            return Response("[{", 200)
        wanted = re.search(r"species\(([^*)]*)\)", query)
        names = set(wanted.group(1).split(":")) if wanted and wanted.group(1) else None
        low, high = map(int, re.search(r"natoms\((\d+)\*,\*(\d+)\)", query).groups())
        rows = [
            row
            for row in self.rows
            if (names is None or names & set(row["species"])) and low <= sum(row["composition"]) <= high
        ]
        page = rows[(number - 1) * size : number * size]
        return answer(page if self.shape == "today" else as_of_2018(page, (number - 1) * size, len(rows)))


def as_of_2018(rows, start=0, total=None):
    """The AFLUX answer of 2017 to 2020: keyed by number, all values text."""

    def text(value):
        if isinstance(value, list):
            nested = value and isinstance(value[0], list)
            return ";".join(",".join(map(str, v)) for v in value) if nested else ",".join(map(str, value))
        return None if value is None else str(value)

    return {
        f"{n} of {total or len(rows)}": {key: v if key == "synthetic" else text(v) for key, v in row.items()}
        for n, row in enumerate(rows, start + 1)
    }


class OqmdLabels(Replay):
    """REST with `filter`, `limit`, `offset`; `data_available` counts the matches; order changes with each request."""

    def __init__(self, labels):
        super().__init__()
        self.labels = labels

    def respond(self, request):
        conditions = request.args["filter"].split(" AND ")
        rows = [row for row in self.labels if all(holds(row, condition) for condition in conditions)]
        limit, offset = int(request.args["limit"]), int(request.args["offset"])
        page = rows[offset : offset + limit]
        page = page[::-1] if len(self.asked) % 2 else page
        query = unquote(request.query_string.decode())
        following = f"{self.url}formationenergy?{query.replace(f'offset={offset}', f'offset={offset + limit}')}"
        links = {"next": following if offset + limit < len(rows) else None, "previous": None}
        meta = {"data_returned": len(page), "data_available": len(rows), "more_data_available": True}
        return answer({"links": links, "resource": {}, "data": page, "meta": meta, "response_message": "OK"})


def holds(row, condition):
    name, sign, number = re.fullmatch(r"(\w+)(>=|<=|<)([\d.]+)", condition).groups()
    value = {
        "id": row["formationenergy_id"],
        "ntypes": len(re.findall(r"[A-Z][a-z]?", row["name"])),
        "natoms": row["natoms"],
        "stability": row["stability"] if row["stability"] is not None else 0.0,
    }[name]
    number = float(number)
    return {">=": value >= number, "<=": value <= number, "<": value < number}[sign]


class OqmdCells(Replay):
    """OPTIMADE `/structures` for windows of ids, `page_limit`, `links.next` as an object; 6 decimals."""

    def __init__(self, cells):
        super().__init__()
        self.cells = sorted(cells, key=lambda row: int(row["id"]))

    def respond(self, request):
        low, high = map(int, re.search(r"id>=(\d+) AND id<(\d+)", request.args["filter"]).groups())
        rows = [row for row in self.cells if low <= int(row["id"]) < high]
        limit, offset = int(request.args["page_limit"]), int(request.args.get("page_offset", 0))
        query = re.sub(r"&page_offset=\d+", "", unquote(request.query_string.decode()))
        more = offset + limit < len(rows)
        following = {"href": f"{self.url}structures?{query}&page_offset={offset + limit}"} if more else None
        meta = {"data_returned": len(rows), "data_available": len(self.cells), "more_data_available": more}
        return answer({"data": rows[offset : offset + limit], "links": {"next": following}, "meta": meta})


class Optimade(Replay):
    """A provider of the standard below `/v1/`: `info/structures`, and `structures` along `links.next`.

    `counts` says whether it tells how many rows match, `base` what its links begin with.
    """

    def __init__(self, entries, properties):
        super().__init__()
        self.entries, self.properties = entries, properties
        self.counts, self.base = True, None

    def respond(self, request):
        if request.path == "/v1/info/structures":
            return answer({"data": {"properties": {name: {} for name in self.properties}}, "meta": {}})
        if request.path != "/v1/structures":
            return Response('{"errors": [{"status": "404"}]}', 404)
        bounds = re.findall(r"(nelements|nsites)(>=|<=)(\d+)", request.args["filter"])
        rows = [e for e in self.entries if all(is_within(e["attributes"], *bound) for bound in bounds)]
        limit, offset = int(request.args["page_limit"]), int(request.args.get("page_offset", 0))
        fields = set(request.args["response_fields"].split(","))
        page = [
            {**e, "attributes": {key: value for key, value in e["attributes"].items() if key in fields}}
            for e in rows[offset : offset + limit]
        ]
        query = re.sub(r"&page_offset=\d+", "", request.query_string.decode())
        base = self.base or self.url
        link = f"{base}v1/structures?{query}&page_offset={offset + limit}" if offset + limit < len(rows) else None
        meta = {"data_returned": len(rows)} if self.counts else {}
        return answer({"data": page, "links": {"next": link}, "meta": meta})


def is_within(attributes, name, sign, number):
    value = len(set(attributes["species_at_sites"])) if name == "nelements" else len(attributes["species_at_sites"])
    return value >= int(number) if sign == ">=" else value <= int(number)
