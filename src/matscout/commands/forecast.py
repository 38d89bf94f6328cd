"""How long the pipeline will take with the present parameters, and how much memory and disk, stage by stage.

Training and prediction of every member are timed here, for a moment, on crystals of the bundled sample. Other stages
have a recorded cost per row (`COSTS`), which is scaled by the time that a fixed piece of work takes here. Rows of live
services have larger cells than the sample's; their recorded costs come from the rehearsal (docs/rehearsal.md).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from matscout.params import Database, Params
from matscout.sources.snapshots.snapshot_files import LIVE, MANIFEST_NAME, read_manifest

if TYPE_CHECKING:  # `mend` and `doctor --no-forecast` start without pymatgen
    from matscout.crystal import Crystal

SAMPLE: Final = Path("data/sample/materials_project")
N_CRYSTALS: Final = 128  # of the sample, timed in every member
TIMES: Final = 3  # the quickest counts: other programs only make a piece slower
LARGEST_BATCH: Final = 64

MEASURED: Final = "measured here"
RECORDED: Final = "recorded"
ASSUMED: Final = "assumed"


@dataclass(frozen=True)
class Cost:
    """What a stage takes on one core of the machine of record, an AMD EPYC 9005.

    Attributes:
        fixed_s: seconds, whatever the number of rows: start, imports, tables of constants.
        row_ms: milliseconds per row of the sample (11 atoms).
        live: factor for rows of live services, whose cells are larger.
        growth: the time per row grows as the number of rows, over `SAMPLE_ROWS`, to this power.
        divided: share of the time per row that all cores divide among them.
        fixed_gb, row_kb: memory, GB and kB per row of the sample.
        disk_kb: kB per row that the outputs take, in the workspace and as much in DVC's cache.
    """

    fixed_s: float
    row_ms: float
    live: float
    growth: float
    divided: float
    fixed_gb: float
    row_kb: float
    disk_kb: float


SAMPLE_ROWS: Final = 7117
COSTS: Final[Mapping[str, Cost]] = {
    "curate": Cost(4.0, 4.9, 2.2, 0.1, 0.8, 0.5, 8.0, 0.3),
    "split": Cost(0.7, 0.02, 1.0, 0.0, 0.0, 0.17, 1.0, 0.01),
    "hypothetical": Cost(4.0, 0.06, 1.0, 0.0, 0.0, 0.3, 5.0, 0.3),
    "featurize": Cost(2.5, 0.025, 2.0, 0.0, 0.9, 0.5, 4.0, 1.5),
    "evaluate": Cost(12.0, 0.2, 1.0, 0.0, 0.0, 0.8, 2.0, 1.2),
    "propose": Cost(6.0, 0.5, 1.0, 0.3, 0.7, 0.4, 1.0, 0.2),
    "screen": Cost(5.0, 0.1, 1.0, 0.0, 0.0, 0.7, 1.0, 0.5),
    "relax": Cost(20.0, 400.0, 3.5, 0.0, 0.9, 2.1, 0.0, 1.0),
    "report": Cost(5.0, 0.1, 1.0, 0.0, 0.0, 0.5, 5.0, 0.8),
    "summarize": Cost(3.0, 0.02, 1.0, 0.0, 0.0, 0.3, 2.0, 0.02),
}
PIECE_S: Final = 0.24  # of the machine of record, for `_piece`
STEPS_TO_TRAINING: Final = 1.25  # a training over its bare steps: batches, loss, averages, checkpoints, validation
LIVE_EDGES: Final = 2.0  # edges per crystal of mp_36k over the sample's: 111 and 54 within 8 Å, 12 neighbours
REFERENCE_ROWS: Final = 20_000  # largest number of training crystals that `evaluate` predicts
TRAINING_GB: Final = 0.6  # memory of a training
TRAINING_KB: Final = 3.0  # and per row
MEMBER_KB: Final = 700.0  # disk of a member
START_S: Final = 6.5  # of a training: imports and reading
DVC_S: Final = 2.0  # of DVC itself, around each stage
RAW_KB: Final = {"sample": 0.2, "live": 0.4}
ACQUIRE_MS: Final = {"sample": 0.05, "live": 2.0}
REQUESTS_PER_PAGE: Final = {"materials_project": (1, 1 / 100), "aflow": (1, 0.0), "oqmd": (2, 0.0)}  # and per row
ANSWER_S: Final = 1.0  # of a live service, for one request
BYTES_PER_FILE_ROW: Final = 600  # of a user's own file


@dataclass(frozen=True)
class Speed:
    """What this machine takes.

    Attributes:
        general: time of a fixed piece of work over that of the machine of record.
        training: ms for a step's share of one crystal of the sample, by member.
        prediction: ms for one crystal of the sample, by member and surrogate.
        cores: that may be used.
    """

    general: float
    training: Mapping[str, float]
    prediction: Mapping[str, float]
    cores: int


@dataclass(frozen=True)
class StageForecast:
    """One line of the forecast; memory and disk in GB, minutes of wall time on an idle machine."""

    stage: str
    rows: int
    minutes: float
    memory_gb: float
    disk_gb: float
    basis: str


@dataclass(frozen=True)
class Forecast:
    """All stages, and what they take together.

    Attributes:
        stages: in the order in which they run.
        training_minutes: of all members, side by side as `matscout repro` trains them.
        workers: members that train at the same time.
    """

    stages: tuple[StageForecast, ...]
    training_minutes: float
    workers: int

    @property
    def minutes(self) -> float:
        """Of the whole run by `matscout repro`."""
        return self.training_minutes + sum(stage.minutes for stage in self.stages if not _is_training(stage))

    @property
    def memory_gb(self) -> float:
        """The largest at any time: of one stage, or of all members that train at the same time."""
        training = sorted((stage.memory_gb for stage in self.stages if _is_training(stage)), reverse=True)
        others = (stage.memory_gb for stage in self.stages if not _is_training(stage))
        return max(sum(training[: self.workers]), *others, 0.0)

    @property
    def disk_gb(self) -> float:
        """Of all outputs, DVC's cache included."""
        return sum(stage.disk_gb for stage in self.stages)


def forecast(params: Params, rows: Mapping[str, tuple[int, str]], speed: Speed) -> Forecast:
    """What the pipeline takes with these parameters.

    Args:
        params: all parameters.
        rows: number of rows of each database, and on what it is based (`rows_of_databases`).
        speed: of this machine.

    Returns:
        The forecast; every figure grows with rows, members, epochs and candidates.
    """
    known = sum(n for n, _ in rows.values())
    live_rows = sum(n for name, (n, _) in rows.items() if params.databases[name].origin in LIVE)
    live = live_rows / known if known else 0.0
    basis = ASSUMED if any(told == ASSUMED for _, told in rows.values()) else RECORDED
    hypothetical = params.hypothetical.n
    stages = [_acquired(name, params.databases[name], *told, speed) for name, told in rows.items()]

    def add(stage: str, n_rows: int, *, live: float = 0.0, members_ms: float = 0.0) -> None:
        stages.append(_of_cost(stage, n_rows, live, members_ms, speed, basis))

    add("curate", known, live=live)
    add("split", known)
    add("hypothetical", hypothetical)
    add("featurize", known + hypothetical, live=live * known / max(1, known + hypothetical))
    share = 1 - params.split.validation - params.split.test
    per_epoch = round(share * known) + min(params.hypothetical.per_epoch, hypothetical)
    sample_sized = per_epoch + share * live_rows * (LIVE_EDGES - 1)  # so many crystals of the sample take as long
    trained = [
        StageForecast(
            f"train@{name}",
            per_epoch,
            _minutes(
                START_S * speed.general
                + member.training.epochs * sample_sized * speed.training[name] / 1000 * STEPS_TO_TRAINING
            ),
            TRAINING_GB + TRAINING_KB * (known + hypothetical) / 1e6,
            2 * MEMBER_KB / 1e6,
            MEASURED,
        )
        for name, member in params.members.items()
    ]
    stages += trained
    predicted_ms = sum(speed.prediction.values())
    held_out = round((1 - share) * known) + round(params.hypothetical.calibration * hypothetical)
    evaluated = min(REFERENCE_ROWS, round(share * known) + hypothetical) + held_out
    add("evaluate", evaluated, live=live, members_ms=predicted_ms)
    add("propose", params.candidates.n)
    add("screen", params.candidates.n, members_ms=predicted_ms)
    relaxed = 2 * params.relaxation.n + params.relaxation.n_known if params.relaxation.potential else 0
    add("relax", relaxed, live=live)
    add("report", known)
    add("summarize", known)
    workers = max(1, speed.cores // (params.compute.threads * params.compute.processes))
    return Forecast(tuple(stages), makespan([stage.minutes for stage in trained], workers), workers)


def makespan(durations: Sequence[float], workers: int) -> float:
    """Time until all are done if each worker takes the longest that is left: as members are trained."""
    ends = [0.0] * workers
    for duration in sorted(durations, reverse=True):
        place = ends.index(min(ends))
        ends[place] += duration
    return max(ends)


def rows_of_databases(params: Params) -> dict[str, tuple[int, str]]:
    """Rows of each database: counted in the sample or a former snapshot, at most the limit of a live service.

    Returns:
        (rows, basis) by database.
    """
    return {name: _rows_of(name, database) for name, database in params.databases.items()}


def _rows_of(name: str, database: Database) -> tuple[int, str]:
    if database.origin in LIVE:
        return database.query.limit, ASSUMED
    path = Path(database.path)
    if (path / MANIFEST_NAME).is_file():
        return read_manifest(path).n_rows, RECORDED
    snapshot = Path("data/raw") / name
    if (snapshot / MANIFEST_NAME).is_file() and read_manifest(snapshot).origin == database.origin:
        return read_manifest(snapshot).n_rows, RECORDED
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) // BYTES_PER_FILE_ROW, ASSUMED


def measure_speed(params: Params, cores: int) -> Speed | None:
    """Time a fixed piece of work, and steps and predictions of every member; None without the bundled sample.

    It takes about ten seconds of one core.

    Args:
        params: all parameters.
        cores: that may be used.

    Returns:
        The speed. Of a device that is not there, the processor's is measured.
    """
    if not (SAMPLE / MANIFEST_NAME).is_file():
        return None
    crystals = _crystals()
    general = _quickest(partial(_piece, crystals)) / PIECE_S
    training, prediction = _members(params, crystals)
    return Speed(general, training, prediction, cores)


def _crystals() -> "list[Crystal]":
    from matscout.sources.record import Record
    from matscout.sources.snapshots.snapshot import read_snapshot

    n_rows = read_manifest(SAMPLE).n_rows
    records = (item for item in read_snapshot(SAMPLE) if isinstance(item, Record))
    return [record.crystal for record in islice(records, 0, None, max(1, n_rows // N_CRYSTALS))]


def _piece(crystals: "Sequence[Crystal]") -> None:
    """What curation spends most of its time with: pymatgen, spglib and small arrays."""
    from matscout.curation.structure_matching import reduce_crystal

    for crystal in crystals:
        reduce_crystal(crystal, 0.1)


def _members(params: Params, crystals: "Sequence[Crystal]") -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds per crystal of a training step, by member, and of a prediction, by member and surrogate."""
    import torch

    from matscout.ensemble.members import load_surrogates
    from matscout.graphs.graph_store import GraphStore
    from matscout.models.inference import embed
    from matscout.models.model import build_model

    device = params.compute.device
    device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    store = GraphStore.from_crystals([str(place) for place in range(len(crystals))], crystals, params.graphs)
    rows = np.arange(len(crystals))
    training, prediction = {}, {}
    threads = torch.get_num_threads()
    torch.set_num_threads(params.compute.threads)
    try:
        for name, member in params.members.items():
            settings = member.graph.model_dump()
            model = build_model(member, params.targets)
            prediction[name] = 1000 * _quickest(partial(embed, model, store, rows, **settings)) / len(crystals)
            model = model.to(device)
            batches = [store.batch(part, **settings).to(device) for part in np.array_split(rows, _n_batches(params))]
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

            def step(model=model, batches=batches, optimizer=optimizer) -> None:  # noqa: ANN001
                model.train()
                for batch in batches:
                    optimizer.zero_grad(set_to_none=True)
                    torch.stack([values.sum() for values in model(batch).values()]).sum().backward()
                    optimizer.step()
                if device == "cuda":
                    torch.cuda.synchronize()

            training[name] = 1000 * _quickest(step, by_wall=device == "cuda") / len(crystals)
        for surrogate in load_surrogates(Path(params.ensemble.surrogates)):
            predict = partial(embed, surrogate.model, store, rows, **surrogate.card.graph)
            prediction[surrogate.name] = 1000 * _quickest(predict) / len(crystals)
    finally:
        torch.set_num_threads(threads)
    return training, prediction


def _n_batches(params: Params) -> int:
    return max(1, N_CRYSTALS // min(LARGEST_BATCH, params.model.batch_size))


def _quickest(work: Callable[[], object], *, by_wall: bool = False) -> float:
    """Seconds of the quickest of several runs, after one that warms up; of processor time, or of wall time."""
    clock = time.perf_counter if by_wall else time.process_time
    work()
    took = []
    for _ in range(TIMES):
        began = clock()
        work()
        took.append(clock() - began)
    return min(took)


def _acquired(name: str, database: Database, rows: int, basis: str, speed: Speed) -> StageForecast:
    """A snapshot: its processor time, or the requests at the rate that is allowed."""
    kind = "live" if database.origin in LIVE else "sample"
    seconds = 1.0 * speed.general + rows * ACQUIRE_MS[kind] / 1000 * speed.general
    if database.origin in LIVE:
        per_page, per_row = REQUESTS_PER_PAGE.get(name, (1, 0.0))
        requests = rows * (per_page / database.service.page_size + per_row)
        seconds = max(seconds, requests * max(ANSWER_S, 1 / database.service.requests_per_second))
        basis = ASSUMED
    copies = 3 if database.origin in LIVE else 2  # .downloads, data/raw, DVC's cache
    return StageForecast(f"acquire@{name}", rows, _minutes(seconds), 0.3, copies * rows * RAW_KB[kind] / 1e6, basis)


def _of_cost(stage: str, rows: int, live: float, members_ms: float, speed: Speed, basis: str) -> StageForecast:
    """A stage with a recorded cost, and what its members take beside it."""
    cost = COSTS[stage]
    size = 1 + live * (cost.live - 1)
    grown = max(1.0, rows / SAMPLE_ROWS) ** cost.growth
    seconds = cost.fixed_s + rows * cost.row_ms / 1000 * size * grown * _wall(cost.divided, speed.cores)
    seconds = seconds * speed.general + rows * members_ms / 1000 / speed.cores
    memory = cost.fixed_gb + rows * cost.row_kb * size / 1e6
    return StageForecast(stage, rows, _minutes(seconds), memory, 2 * rows * cost.disk_kb * size / 1e6, basis)


def _wall(divided: float, cores: int) -> float:
    """Amdahl's law."""
    return 1 - divided + divided / cores


def _minutes(seconds: float) -> float:
    return (seconds + DVC_S) / 60


def _is_training(stage: StageForecast) -> bool:
    return stage.stage.startswith("train@")


def forecast_lines(told: Forecast) -> Iterator[str]:
    """The forecast as a table for the console."""
    yield f"{'stage':26} {'rows':>10} {'minutes':>9} {'memory, GB':>11} {'disk, GB':>9}  basis"
    for stage in told.stages:
        yield (
            f"{stage.stage:26} {stage.rows:>10,} {stage.minutes:>9.1f} {stage.memory_gb:>11.1f} "
            f"{stage.disk_gb:>9.2f}  {stage.basis}"
        )
    yield f"{'together':26} {'':>10} {told.minutes:>9.1f} {told.memory_gb:>11.1f} {told.disk_gb:>9.2f}"
    alone = sum(stage.minutes for stage in told.stages if _is_training(stage))
    yield (
        f"With matscout repro, which trains {told.workers} members at a time; dvc repro takes "
        f"{told.minutes - told.training_minutes + alone:.1f} minutes. On an idle machine; expect a factor of 1.5."
    )
