"""Acquisition against replayed services: rows/s and peak memory, beside plain `requests` for the same bytes.

    python -m benchmarks.speed.acquire [--rows 230000] [--only aflow]

The rows are generated: the sample's, under new ids, 50,000 : 100,000 : 80,000 as in the full-scale query. The server
runs in a process of its own and answers from bytes made in advance, so that its time is not counted twice; no rate
limit is kept. Writes benchmarks/results/acquire.json.
"""

# ruff: noqa: ANN001, ANN002, ANN201, ANN204 - a script whose types are plain JSON

import argparse
import json
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote

import requests
from werkzeug import Request, Response, serving

from matscout.params import Database, load_params
from matscout.sources.acquire import acquire
from matscout.sources.snapshots.snapshot_files import read_manifest, read_page

ROOT = Path(__file__).parents[2]
SHARES = {"materials_project": 50, "aflow": 100, "oqmd": 80}
PAGE = {"materials_project": 1000, "aflow": 1000, "oqmd": 100}
KEY = "k" * 32


def sample_pages(name):
    folder = ROOT / "data" / "sample" / name
    return [read_page(folder / page) for page in read_manifest(folder).pages]


class Service:
    """Answers of one service for row numbers [start, stop), made from the sample's rows in turn."""

    def __init__(self, name, n_rows):
        self.name, self.n_rows = name, n_rows
        if name == "materials_project":
            self.rows = [row for page in sample_pages(name) for row in page["data"]]
        elif name == "aflow":
            self.rows = [row for page in sample_pages(name) for row in page]
        else:
            pages = sample_pages(name)
            self.rows = [row for page in pages for row in page["labels"]["data"]]
            self.cells = [row for page in pages for row in page["structures"]["data"]]
        self.cache = {}

    def row(self, number):
        row = self.rows[number % len(self.rows)]
        if self.name == "materials_project":
            return row | {"material_id": f"mp-{number + 1}"}
        if self.name == "aflow":
            return row | {"auid": f"aflow:{number:016x}"}
        return row | {"formationenergy_id": number, "entry_id": number}

    def answer(self, request):
        query = unquote(request.query_string.decode())
        if query not in self.cache:
            self.cache[query] = self.content(request, query)
        return Response(self.cache[query], mimetype="application/json")

    def content(self, request, query):
        if request.path.endswith("/heartbeat"):
            return json.dumps({"version": "0.87.3", "db_version": "benchmark", "access_controlled_batch_ids": []})
        if self.name == "materials_project" and "thermo" in request.path:
            ids = request.args["material_ids"].split(",")
            rows = [{**self.row(int(i[3:]) - 1), "structure": None, "energy_type": "GGA"} for i in ids]
            return json.dumps({"data": [{**r, "material_id": i} for r, i in zip(rows, ids, strict=True)], "meta": {}})
        if self.name == "materials_project":
            skip, limit = int(request.args["_skip"]), int(request.args["_limit"])
            rows = [self.row(i) for i in range(skip, min(skip + limit, self.n_rows))]
            return json.dumps({"data": rows, "meta": {"total_doc": self.n_rows}})
        if self.name == "aflow":
            number, size = map(int, re.search(r"\$paging\((\d+),(\d+)\)", query).groups())
            return json.dumps([self.row(i) for i in range((number - 1) * size, min(number * size, self.n_rows))])
        return self.oqmd(request, query)

    def oqmd(self, request, query):
        start, stop = map(int, re.search(r"id>=(\d+) AND id<(\d+)", request.args["filter"]).groups())
        stop = min(stop, self.n_rows)
        is_cells = "page_limit" in request.args
        limit = int(request.args["page_limit" if is_cells else "limit"])
        offset = int(request.args.get("offset", 0))
        numbers = range(min(start + offset, stop), min(start + offset + limit, stop))
        if is_cells:
            rows = [self.cells[i % len(self.cells)] | {"id": str(i)} for i in numbers]
        else:
            rows = [self.row(i) for i in numbers]
        bare = re.sub(r"&offset=\d+", "", query)
        more = offset + limit < stop - start
        following = f"{request.base_url}?{bare}&offset={offset + limit}" if more else None
        meta = {"data_returned": len(rows), "data_available": max(0, stop - start)}
        return json.dumps({"data": rows, "links": {"next": following}, "meta": meta})


def serve(name, n_rows, pipe):
    service = Service(name, n_rows)
    server = serving.make_server("127.0.0.1", 0, lambda e, s: service.answer(Request(e))(e, s), threaded=True)
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - one line a request
    pipe.send(server.server_port)
    server.serve_forever()


def client(name, block, folder, pipe):
    """In a process of its own, so that its peak memory is its own."""
    os.environ |= {"DVC_ROOT": folder, "MP_API_KEY": KEY}
    begun = time.perf_counter()
    acquire(name, Database.model_validate(block), Path(folder) / "raw")
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = sum(path.stat().st_size for path in (Path(folder) / "raw").iterdir())
    pipe.send({"seconds": round(seconds, 1), "peak_mib": round(peak), "bytes_on_disk": size})


def floor(urls, pipe):
    """The same requests with nothing else."""
    session, received = requests.Session(), 0
    begun = time.perf_counter()
    for url in urls:
        received += len(session.get(url, headers={"x-api-key": KEY}).content)
    seconds = time.perf_counter() - begun
    pipe.send({"seconds": round(seconds, 1), "mib": round(received / 2**20)})


def in_process(function, *arguments):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=function, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def urls_of(name, base, n_rows):
    size = PAGE[name]
    if name == "materials_project":
        for start in range(0, n_rows, size):
            yield f"{base}materials/summary/?_skip={start}&_limit={size}"
    elif name == "aflow":
        for number in range(1, n_rows // size + 1):
            yield f"{base}?auid,$paging({number},{size}),format(json)"
    else:
        for start in range(0, n_rows, size):
            window = f"id>={start} AND id<{start + size}"
            yield f"{base}formationenergy?filter={window}&limit={size}&offset=0"
            yield f"{base}structures?filter={window}&page_limit={size}"


def measure(name, n_rows):
    server, pipe = in_process(serve, name, n_rows)
    base = f"http://127.0.0.1:{pipe.recv()}/"
    block = load_params(ROOT / "params.yaml").databases[name].model_dump()
    block |= {"origin": "api", "endpoint": base, "optimade_endpoint": base}
    block["query"] |= {"limit": n_rows}
    block["service"] |= {"requests_per_second": 1e6, "page_size": PAGE[name]}
    with tempfile.TemporaryDirectory() as folder:
        process, pipe = in_process(client, name, block, folder)
        ours = pipe.recv()
        process.join()
    process, pipe = in_process(floor, list(urls_of(name, base, n_rows)))
    plain = pipe.recv()
    process.join()
    server.terminate()
    rate = {
        "rows_per_second": round(n_rows / ours["seconds"]),
        "floor_rows_per_second": round(n_rows / plain["seconds"]),
    }
    result = {"rows": n_rows, **ours, **rate, "bytes_per_row": round(ours["bytes_on_disk"] / n_rows), "floor": plain}
    print(f"{name}: {json.dumps(result)}", flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=230_000)
    parser.add_argument("--only", choices=sorted(SHARES))
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(SHARES)
    results = {name: measure(name, arguments.rows * SHARES[name] // 230) for name in names}
    path = ROOT / "benchmarks" / "results" / "acquire.json"
    path.parent.mkdir(exist_ok=True)
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | results, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
