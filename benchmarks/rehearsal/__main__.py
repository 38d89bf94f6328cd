"""The whole pipeline at full scale: three services, 230,000 rows, a bounded disk, killed and resumed.

    python -m benchmarks.rehearsal [--rows 230000] [--until featurize] [--members cgcnn cogn] [--epochs 1]

In `--folder` it makes the rows, starts replay servers of the three services, clones this repository (its last commit),
puts in the profile `notebook`, and runs `dvc repro` with all databases at the origin `api`. It kills the run once in
each stage of `--kill`, with all its processes, and resumes it. A rehearsal that is stopped goes on where it was when
the same command is given again. It needs ../shared/data, and says so and stops where that is absent.

Writes benchmarks/results/rehearsal.json and the tables of docs/rehearsal.md.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.rehearsal.rows import SHARES, make_rows, numbers_of_rows
from benchmarks.rehearsal.services import KEY
from benchmarks.rehearsal.tables import RESULTS, write_page
from benchmarks.rehearsal.watch import Watched, disk_gb, run_watched
from benchmarks.shared_rows import SHARED
from matscout.commands.profile import put_in
from matscout.files import write_json

ROOT: Final = Path(__file__).resolve().parents[2]
KILLED: Final = ("acquire@materials_project", "acquire@oqmd", "curate", "featurize", "train@cgcnn", "propose", "screen")
KILL_AFTER_S: Final = (4.0, 20.0)  # of a stage
STATE: Final = "rehearsal.json"
FAST: Final = 1e6  # requests/s: as fast as the server answers


@dataclass(frozen=True)
class Setting:
    """What is rehearsed; another setting needs another folder."""

    rows: int
    seed: int
    profile: str
    paced: bool
    members: tuple[str, ...] | None
    epochs: int | None
    candidates: int | None
    relax: bool = True

    def params(self, text: str, port: int) -> dict[str, Any]:
        """params.yaml of the run."""
        tree = yaml.safe_load(text)
        base = f"http://127.0.0.1:{port}/"
        numbers = numbers_of_rows(self.rows)
        for name, address in (("materials_project", "mp/"), ("aflow", "aflow/"), ("oqmd", "oqmd/")):
            database = tree["databases"][name]
            database |= {"origin": "api", "endpoint": base + address}
            database["query"]["limit"] = numbers[name]
            if not self.paced:
                database["service"]["requests_per_second"] = FAST
        tree["databases"]["oqmd"]["optimade_endpoint"] = f"{base}optimade/"
        if self.members:
            tree["members"] = {name: tree["members"][name] for name in self.members}
        if self.epochs:
            for member in tree["members"].values():
                member["training"]["epochs"] = self.epochs
        if self.candidates:
            tree["candidates"]["n"] = self.candidates
        if not self.relax:
            tree["relaxation"] |= {"potential": None, "judge": None}
        return tree


class Rehearsal:
    """One rehearsal in its folder, with what is known of it on disk."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder, self.clone, self.setting = folder, folder / "clone", setting
        self._file = folder / STATE
        wanted = json.loads(json.dumps(setting.__dict__))
        self.state: dict[str, Any] = {
            "setting": wanted,
            "port": _free_port(),
            "killed": [],
            "attempts": [],
            "wall_s": 0.0,
        }
        if self._file.is_file():
            self.state = json.loads(self._file.read_text())
        if self.state["setting"] != wanted:
            sys.exit(f"{folder} holds a rehearsal of {self.state['setting']}: remove it, or give another --folder")

    def save(self) -> None:
        """Write the state."""
        write_json(self._file, self.state)

    def make_clone(self) -> None:
        """Clone this repository's last commit and put the parameters in; once."""
        if (self.clone / ".rehearsed").is_file():
            return
        shutil.rmtree(self.clone, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", str(ROOT), str(self.clone)], check=True)
        for kind in ("*.nbi", "*.nbc"):  # compiled kernels, as `make setup` leaves them
            for file in (ROOT / "src").rglob(kind):
                place = self.clone / file.relative_to(ROOT)
                place.parent.mkdir(exist_ok=True)
                shutil.copy2(file, place)
        params = self.clone / "params.yaml"
        put_in(self.setting.profile, params, self.clone / "profiles")
        tree = self.setting.params(params.read_text(), self.state["port"])
        params.write_text(yaml.safe_dump(tree, sort_keys=False))
        shutil.rmtree(self.clone / "metrics")
        (self.clone / "dvc.lock").unlink(missing_ok=True)
        (self.clone / ".rehearsed").touch()
        self.state["commit"] = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=self.clone, check=True, capture_output=True, text=True
        ).stdout.strip()
        self.save()

    def run(self, until: str | None, kills: list[str], budget_gb: float) -> Watched:
        """Run, kill and resume until all is done.

        Returns:
            The last attempt.

        Raises:
            SystemExit: a stage failed, or the folder grew above its budget.
        """
        while True:
            chance = random.Random(f"{self.setting.seed} {len(self.state['attempts'])}")
            waiting = {s: chance.uniform(*KILL_AFTER_S) for s in kills if s not in self.state["killed"]}
            command = [sys.executable, "-m", "dvc", "repro", *([until] if until else [])]
            log, before, began = self.folder / "repro.log", self.state["wall_s"], time.monotonic()
            self.state["attempts"].append({"runs": [], "disk": [], "status": None})

            def note(known: Watched, before: float = before, began: float = began) -> None:
                self.state["wall_s"] = before + time.monotonic() - began
                self.state["attempts"][-1] = asdict(known)
                self.state["killed"] = [
                    run["stage"] for each in self.state["attempts"] for run in each["runs"] if run["killed"]
                ]
                self.save()

            watched = run_watched(
                command, self.clone, self._environment(), kills=waiting, budget_gb=budget_gb, log=log, note=note
            )
            note(watched)
            if watched.over_budget:
                sys.exit(f"{self.clone} takes more than its budget of {budget_gb} GB")
            mend = str(Path(sys.executable).parent / "matscout")
            subprocess.run([mend, "mend"], cwd=self.clone, env=self._environment(), check=True)
            if watched.status > 0:
                sys.exit(f"a stage failed; see {log}")
            if watched.status == 0:
                return watched

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "MATSCOUT_"))}
        workers = {key: value for key, value in os.environ.items() if key == "MATSCOUT_WORKERS"}
        return {
            **kept,
            **workers,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.clone / "src"),
            "MP_API_KEY": KEY,
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def facts(self, kinds: dict[str, int]) -> dict[str, Any]:
        """What the results say of this rehearsal."""
        return {
            "rows": self.setting.rows,
            "kinds": kinds,
            "setting": self.state["setting"],
            "commit": self.state["commit"],
            "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, python {platform.python_version()}",
            "killed": self.state["killed"],
            "wall_s": round(self.state["wall_s"]),
            "stages": _by_stage(self.state["attempts"]),
            "peak_disk_gb": max((gb for attempt in self.state["attempts"] for _, gb in attempt["disk"]), default=0.0),
            "disk_over_time": _thinned(self.state["attempts"]),
            "outputs_gb": round(disk_gb(self.clone / "data"), 3),
            "cache_gb": round(disk_gb(self.clone / ".dvc" / "cache"), 3),
            **_counts(self.clone),
        }


SUMMED: Final = ("wall_s", "processor_s")
HIGHEST: Final = ("peak_memory_gb", "peak_disk_gb", "load")


def _by_stage(attempts: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Sums over a stage's runs, killed ones included; the largest of its peaks."""
    stages: dict[str, dict[str, Any]] = {}
    for run in (run for attempt in attempts for run in attempt["runs"]):
        found = stages.setdefault(run["stage"], {"runs": 0, "kills": 0, **dict.fromkeys((*SUMMED, *HIGHEST), 0.0)})
        found["runs"] += 1
        found["kills"] += run["killed"]
        for key in SUMMED:
            found[key] = round(found[key] + run[key], 1)
        for key in HIGHEST:
            found[key] = round(max(found[key], run[key]), 2)
    return stages


def _thinned(attempts: list[dict[str, Any]], n: int = 60) -> list[tuple[float, float]]:
    """(seconds, GB) of the folder over the whole rehearsal, at most about `n` points."""
    points, before = [], 0.0
    for attempt in attempts:
        points += [(round(before + seconds), gb) for seconds, gb in attempt["disk"]]
        before += attempt["disk"][-1][0] if attempt["disk"] else 0.0
    return points[:: max(1, len(points) // n)]


def _counts(clone: Path) -> dict[str, Any]:
    """Rows that came out, and the size of the report, as far as the run went."""
    found: dict[str, Any] = {}
    summary, report = clone / "data/curated/summary.json", clone / "data/report/index.html"
    if summary.is_file():
        content = json.loads(summary.read_text())
        found["curated"] = {key: content[key] for key in ("counts", "duplicates") if key in content}
    if report.is_file():
        found["report_mb"] = round(report.stat().st_size / 1e6, 1)
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _services(rows: Path, port: int) -> Iterator[None]:
    """The replay servers, while they are needed; always at the same port, which is a part of the parameters."""
    command = [sys.executable, "-m", "benchmarks.rehearsal.services", str(rows), str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not (process.stdout and process.stdout.readline().startswith("serving")):
                sys.exit(f"the replay servers do not start at port {port}")
            yield
        finally:
            process.terminate()


def main() -> None:
    """Rehearse, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000 * sum(SHARES.values()))
    parser.add_argument("--folder", type=Path, default=ROOT / ".rehearsal", help="rows, clone and state")
    parser.add_argument("--profile", default="notebook")
    parser.add_argument("--until", help="last stage; default: all")
    parser.add_argument("--members", nargs="+", help="default: all of the profile")
    parser.add_argument("--epochs", type=int, help="of each member; default: the profile's")
    parser.add_argument("--candidates", type=int, help="default: the profile's")
    parser.add_argument("--no-relax", action="store_true", help="leave out the relaxation of the best candidates")
    parser.add_argument("--kill", nargs="*", default=list(KILLED), help="stages in which the run is killed")
    parser.add_argument("--paced", action="store_true", help="keep the services' rate limits (half an hour for OQMD)")
    parser.add_argument("--budget", type=float, default=15.0, help="GB that the clone may take, its cache included")
    parser.add_argument("--seed", type=int, default=17)
    arguments = parser.parse_args()
    if not SHARED.is_dir():
        sys.stdout.write(f"skipped: {SHARED} is absent\n")
        return
    members = tuple(arguments.members) if arguments.members else None
    setting = Setting(
        arguments.rows,
        arguments.seed,
        arguments.profile,
        arguments.paced,
        members,
        arguments.epochs,
        arguments.candidates,
        not arguments.no_relax,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the same command goes on"))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = arguments.folder.resolve()
    rehearsal = Rehearsal(folder, setting)
    kinds = make_rows(folder / "rows", setting.rows, setting.seed)
    rehearsal.make_clone()
    with _services(folder / "rows", rehearsal.state["port"]):
        rehearsal.run(arguments.until, arguments.kill, arguments.budget)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results[str(setting.rows)] = rehearsal.facts(kinds)
    write_json(RESULTS, dict(sorted(results.items(), key=lambda item: int(item[0]))))
    write_page(results)
    sys.stdout.write(f"written to {RESULTS}; the folder may be removed: {folder}\n")


if __name__ == "__main__":
    main()
