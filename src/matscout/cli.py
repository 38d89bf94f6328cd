"""`matscout ...`: predict, screen, explain and check from the command line.

Exit codes: 0 done, 1 a problem with an input, parameter or artifact (the message gives the remedy), 2 wrong usage.
"""

import os
import sys
from collections.abc import Sized
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from matscout import __version__, layout
from matscout.errors import InputError, MatscoutError

if TYPE_CHECKING:
    import pandas as pd

    from matscout.sources.record import Rejection

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find new materials: predict, screen and explain with the ensemble that `make repro` trained.",
    epilog="Example: `matscout screen my_cifs/ --goal solar_absorber -o ranked.parquet`. "
    "Exit codes: 0 done, 1 an error whose message gives the remedy, 2 wrong usage.",
)
Structures = Annotated[
    list[Path], typer.Argument(help="CIF, POSCAR, a folder of them, or a record JSONL", show_default=False)
]
MembersOption = Annotated[Path, typer.Option("--members", help="folder of trained members")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="members at once; else MATSCOUT_WORKERS, else what fits")
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="local or ray (at RAY_ADDRESS, or started here); else MATSCOUT_ENGINE")
]
FoundMembers = Annotated[
    Path | None, typer.Option("--members", help="folder of trained members; else data/members, else the release")
]
FoundEnsemble = Annotated[
    Path | None, typer.Option("--ensemble", help="folder of the calibration; else data/ensemble, else the release")
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="table to write: .parquet or .csv")]
JsonOption = Annotated[bool, typer.Option("--json", help="print all columns as JSON, for scripts")]
EnsembleOption = Annotated[Path, typer.Option("--ensemble", help="folder of the calibration")]
SHOWN = 10  # reasons on the console


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"matscout {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: `matscout doctor --online`")
def doctor(
    online: Annotated[bool, typer.Option(help="also try the databases' endpoints")] = False,
) -> None:
    """Show what is installed, set, reachable and free; exit 1 on a problem."""
    from matscout.commands.doctor import examine

    marks = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
    problems = 0
    for finding in examine(online=online):
        problems += finding.status == "problem"
        typer.echo(f"{marks[finding.status]} {finding.topic:18} {finding.text}")
    if problems:
        raise InputError(f"{problems} problem(s); each line above says what to do")


@app.command(epilog="Example: `matscout results`")
def results() -> None:
    """Show where the results of the last run are, a summary, and what to run next."""
    from matscout.commands.results import lines_of_results

    for line in lines_of_results(Path.cwd()):
        typer.echo(line)


@app.command(epilog="Example: `matscout mend && dvc repro`")
def mend() -> None:
    """Restore dvc.lock if a kill left DVC's own files half-written; `make repro` runs this first."""
    from matscout.commands.mend import mend as put_back

    for line in put_back(Path.cwd()):
        typer.echo(line)


@app.command(epilog="Examples: `matscout repro`; on four cores of many: `matscout repro --workers 4`")
def repro(workers: WorkersOption = None, engine: EngineOption = None) -> None:
    """Run the pipeline like `dvc repro`, training one member per core at the same time."""
    from matscout.commands.repro import reproduce
    from matscout.engine.settings import Switch

    raise typer.Exit(reproduce(Switch.read(engine, workers)))


@app.command(epilog="Example: `dvc repro featurize split && matscout train --workers 4 && dvc repro`")
def train(
    names: Annotated[list[str] | None, typer.Argument(help="members; all by default", show_default=False)] = None,
    workers: WorkersOption = None,
    engine: EngineOption = None,
) -> None:
    """Train members side by side, on cores, graphics cards or Ray; `dvc repro` then only puts them in place."""
    from matscout.commands.train import make_engine, train_members
    from matscout.engine.settings import Switch
    from matscout.params import load_params

    switch, params = Switch.read(engine, workers), load_params()
    trained = train_members(names or list(params.members), params, make_engine(switch, params.compute))
    told = f"{', '.join(trained)}: trained" if trained else "all members are trained already"
    typer.echo(f"{told}; now run: dvc repro")


@app.command(
    epilog="Examples: `matscout tune composition --trials 20`; more trials of the same search: "
    "`matscout tune composition --trials 40`; of some parameters only: `matscout tune cogn --over lr --over epochs`."
)
def tune(
    member: Annotated[str, typer.Argument(help="a member of params.yaml", show_default=False)],
    trials: Annotated[int, typer.Option(min=1, help="finished trials, including those of an earlier call")] = 20,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="parameter to search, repeatable: lr, lr_scale, batch_size, weight_decay, averaging, warmup, "
            "grad_clip, epochs; by default lr, batch_size, weight_decay, averaging, epochs",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the proposals")] = 17,
) -> None:
    """Search the training recipe for your data: scored on validation rows, tracked in MLflow, resumable."""
    from matscout.commands.train import INPUTS, check_inputs
    from matscout.commands.tune import DEFAULT_KNOBS, experiment_command, tune
    from matscout.params import load_params
    from matscout.training.runs.tracking import MLflowTracker

    check_inputs()
    params = load_params()
    found = tune(
        member,
        params,
        n_trials=trials,
        over=over or DEFAULT_KNOBS,
        seed=seed,
        inputs=INPUTS,
        tracker=partial(MLflowTracker, params),
        say=typer.echo,
    )
    present = next(trial for trial in found if trial.number == 1)
    best = found[0]
    if best.ended != "complete":
        raise InputError(f"none of the {len(found)} trials came to its end; lower model.lr and search again")
    errors = ", ".join(f"{target} {error:.4g}" for target, error in best.mae.items())
    typer.echo(f"best: trial {best.number}, validation error {best.error:.4f} ({errors})")
    if best.number == present.number:
        typer.echo("none of the trials is better than the present values")
    else:
        typer.echo(f"present values: {present.error:.4f}; train with the best:\n{experiment_command(best.proposed)}")


@app.command(epilog="Example: `matscout size large`")
def size(
    name: Annotated[
        str, typer.Argument(help="small (two cores) or large (one GPU): a file of sizes/", show_default=False)
    ],
) -> None:
    """Write another size of the members into params.yaml; comments, seeds and everything else stay."""
    from matscout.commands.resize import resize

    changes = resize(name)
    for path, (before, now) in changes.items():
        typer.echo(f"{path}: {before} -> {now}")
    typer.echo("params.yaml written; now run: dvc repro" if changes else f"params.yaml is {name} already")


@app.command(epilog="Examples: `matscout predict my.cif`; `matscout predict POSCAR my_cifs/ -o predictions.parquet`")
def predict(
    structures: Structures,
    out: OutOption = None,
    as_json: JsonOption = False,
    members: FoundMembers = None,
    ensemble: FoundEnsemble = None,
) -> None:
    """Predict PBE gap, formation energy and stability, with 90 % intervals, for your own crystals.

    Works in any folder: with this repository's ensemble or, where there is none, with the release that ships with
    matscout.
    """
    _show_only_long_work()
    from matscout.discovery.screen.user_crystals import check_table_name, predict_structures
    from matscout.ensemble.predictor import EnsemblePredictor
    from matscout.ensemble.release import answering

    if out is not None:
        check_table_name(out, structures)
    who = answering(members, ensemble)
    predictor = EnsemblePredictor.load(who.members, who.ensemble)
    predictions, rejections = predict_structures(structures, predictor, who.limits, who.materials)
    if as_json:
        _print_json(predictions, rejections, who.told)
    elif out is None:
        from matscout.discovery.screen.console_tables import predicted_rows, table_lines

        typer.echo("\n".join(table_lines(predicted_rows(predictions))))
    _write_and_tell(predictions, rejections, out, who.told, done="predicted", only_json=as_json)


@app.command(epilog="Example: `matscout register --name bandgap`")
def register(
    name: Annotated[str, typer.Option(help="in MLflow's model registry; each call adds a version")] = "matscout",
    members: MembersOption = layout.MEMBERS,
    ensemble: EnsembleOption = layout.ENSEMBLE,
) -> None:
    """Put the ensemble into MLflow's model registry, from where `mlflow models serve` answers posted CIFs."""
    from matscout.params import load_params
    from matscout.serving.register import register_ensemble

    limits = load_params().curation.validity
    model = register_ensemble(name, members=members, ensemble=ensemble, limits=limits)
    typer.echo(f"{model.uri} in {model.store}")
    typer.echo(f"serve it: MLFLOW_TRACKING_URI={model.store} mlflow models serve -m {model.uri} --env-manager local")


@app.command(epilog="Example: `matscout screen my_cifs/ --goal thermoelectric --top 10`")
def screen(
    structures: Structures,
    goal: Annotated[str, typer.Option(help="a goal of params.yaml, screening.goals")] = "solar_absorber",
    out: OutOption = None,
    top: Annotated[int, typer.Option(min=1, help="how many to print")] = 20,
    as_json: JsonOption = False,
    members: FoundMembers = None,
    ensemble: FoundEnsemble = None,
) -> None:
    """Rank your own crystals by how likely they meet a goal."""
    _show_only_long_work()
    from matscout.discovery.screen.user_crystals import check_table_name, screen_structures
    from matscout.ensemble.release import answering

    if out is not None:
        check_table_name(out, [*structures, layout.MATERIALS])
    who = answering(members, ensemble)
    ranked, rejections = screen_structures(structures, goal, who)
    if as_json:
        _print_json(ranked, rejections, who.told)
    else:
        from matscout.discovery.screen.console_tables import screened_rows, table_lines

        typer.echo("\n".join(table_lines(screened_rows(ranked.head(top)))))
    _write_and_tell(ranked, rejections, out, who.told, done="ranked", only_json=as_json)


@app.command(epilog="Example: `matscout relax my_cifs/ --goal thermoelectric -o relaxed.parquet --cif relaxed/`")
def relax(
    structures: Structures,
    goal: Annotated[str, typer.Option(help="a goal of params.yaml, screening.goals")] = "solar_absorber",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="table to write: .parquet or .csv")] = None,
    cif: Annotated[Path | None, typer.Option("--cif", help="folder to write the relaxed cells to")] = None,
    potential: Annotated[str | None, typer.Option(help="relaxes and judges, instead of those of params.yaml")] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option(help="surface_energy, average_voltage or bulk_modulus_potential, repeatable"),
    ] = None,
    members: MembersOption = layout.MEMBERS,
    ensemble: EnsembleOption = layout.ENSEMBLE,
) -> None:
    """Relax your own crystals with a universal potential, and judge them as the stage `relax` judges candidates."""
    from matscout.discovery.relax.relax_user_crystals import SHOWN_COLUMNS, relax_structures, write_relaxed_cifs
    from matscout.discovery.screen.user_crystals import check_table_name, write_table

    if out is not None:
        check_table_name(out, [*structures, layout.MATERIALS])
    table, rejections = relax_structures(
        structures, goal, potential=potential, members=members, ensemble=ensemble, properties=properties or ()
    )
    typer.echo(table[[name for name in SHOWN_COLUMNS if name in table]].to_string(index=False))
    if cif is not None:
        typer.echo(f"{write_relaxed_cifs(cif, table)} relaxed cells -> {cif}")
    if out is not None:
        write_table(out, table)
        typer.echo(f"{_count(table, 'crystal')} relaxed -> {out}")
    _tell_rejections(rejections, out)


@app.command(epilog="Example: `matscout export --top 20 -o handoff/`")
def export(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="folder to write: absent, empty, or an earlier hand-off")
    ] = Path("handoff"),
    top: Annotated[int, typer.Option(min=1, help="how many of the best")] = 20,
    candidate: Annotated[list[str] | None, typer.Option(help="id of a candidate, repeatable")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="the diverse set to compute together, not the best")] = False,
    ranked: Annotated[Path, typer.Option(help="what the stage `screen` wrote")] = layout.RANKED,
    relaxed: Annotated[Path, typer.Option(help="folder of the stage `relax`")] = layout.RELAXED,
) -> None:
    """Export candidates as CIF, VASP inputs, an atomate2 script and OPTIMADE, with provenance."""
    from matscout.discovery.handoff.export import export_bundle

    rows = export_bundle(ranked, out, relaxed=relaxed, top=top, ids=candidate, batch=batch)
    typer.echo(f"{_count(rows, 'candidate')} -> {out}; when they are computed: matscout collect {out}")


@app.command(epilog="Example: `matscout collect handoff/ && matscout feedback && dvc repro`")
def collect(
    handoff: Annotated[Path, typer.Argument(help="hand-off with finished calculations in it", show_default=False)],
    feedback: Annotated[Path, typer.Option(help="folder that the results are written to")] = layout.FEEDBACK,
) -> None:
    """Turn finished VASP and atomate2 calculations of a hand-off into checked formation energies and gaps."""
    from matscout.discovery.handoff.collect import collect as gather
    from matscout.discovery.screen.console_tables import collected_rows, table_lines

    found = gather(handoff, feedback)
    if found.rows:
        typer.echo("\n".join(table_lines(collected_rows(found.rows))))
        typer.echo(f"{_count(found.rows, 'result')} -> {found.file}; now run: matscout feedback {feedback}")
    for rejection in found.rejections:
        typer.echo(f"left out {rejection.file}: {rejection.reason}: {rejection.detail}", err=True)
    if found.waiting:
        more = f" and {len(found.waiting) - SHOWN} more" if len(found.waiting) > SHOWN else ""
        typer.echo(f"without a result: {', '.join(found.waiting[:SHOWN])}{more}", err=True)
    if not found.rows:
        raise InputError(f"none of {_count(found.rejections, 'calculation')} below {handoff} can be used")


@app.command(epilog="Examples: `matscout feedback`; `matscout feedback --accept ms-2f59651b072a`")
def feedback(
    folder: Annotated[
        Path, typer.Argument(help="JSONL files with results of candidates, see its README.md")
    ] = layout.FEEDBACK,
    ranked: Annotated[Path, typer.Option(help="what the stage `screen` wrote")] = layout.RANKED,
    accept: Annotated[
        list[str] | None, typer.Option(help="id of a result to accept though it lies far off, repeatable")
    ] = None,
) -> None:
    """Check new results against predictions; results that pass train with the next `dvc repro`."""
    from matscout.discovery.handoff.check_feedback import check_feedback

    table, rejections = check_feedback(folder, ranked, accept=accept or ())
    typer.echo(table.to_string(index=False))
    _tell_rejections(rejections, None)


@app.command(
    "add-data",
    epilog="Example: `matscout add-data lab.csv --name lab --column band_gap='Eg (opt)' --functional experiment`",
)
def add_data(
    path: Annotated[Path, typer.Argument(help="CSV with structures, extended XYZ, JSON, a folder", show_default=False)],
    name: Annotated[str, typer.Option(help="of the new database", show_default=False)],
    column: Annotated[list[str] | None, typer.Option(help="ours=theirs, repeatable: band_gap='Eg (eV)'")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="ours=unit, repeatable: band_gap=meV")] = None,
    functional: Annotated[str, typer.Option(help="of rows that do not state it: PBE, HSE06, experiment")] = "PBE",
    licence: Annotated[str, typer.Option(help="owner and terms, for report and data card")] = "own data, not published",
) -> None:
    """Make a file of your own one more database: find its columns, count its labels, write params.yaml and dvc.yaml."""
    from matscout.commands.add_data import add_data as add

    pairs = [dict(_pair(text) for text in given or ()) for given in (column, unit)]
    found = add(path, name, mapping=pairs[0], units=pairs[1], functional=functional, licence=licence)
    for ours, theirs in found.mapping.items():
        typer.echo(f"{ours}: column {theirs!r}" + (f", in {found.units[ours]}" if ours in found.units else ""))
    counts = ", ".join(f"{label} {number}" for label, number in found.labels.items())
    typer.echo(f"{found.n_rows} rows ({functional}), labels: {counts}")
    _tell_rejections(list(found.rejections), None)
    typer.echo(f"params.yaml and dvc.yaml name it databases.{name}; now run: dvc repro")


def _pair(text: str) -> tuple[str, str]:
    ours, separator, theirs = text.partition("=")
    if not separator or not theirs:
        raise InputError(f"{text!r} is no pair; write ours=theirs, such as band_gap='Eg (eV)'")
    return ours.strip(), theirs.strip()


@app.command("why-merged", epilog="Example: `matscout why-merged mp-149`")
def why_merged(
    material_id: Annotated[str, typer.Argument(help="id of a curated row")],
    curated: Annotated[Path, typer.Option(help="folder of the curated table")] = layout.CURATED,
) -> None:
    """Explain which rows are the same material as this one, and why."""
    from matscout.curation.explain_merge import why_merged as explain

    typer.echo(explain(material_id, curated))


def _show_only_long_work() -> None:
    """Draw progress bars only where they last: a few crystals take less time than a reader of six bars."""
    os.environ.setdefault("TQDM_DELAY", "3")  # seconds; read when tqdm is imported


def _print_json(table: "pd.DataFrame", rejections: "list[Rejection]", told: str) -> None:
    """Everything as one JSON object: who answered, the table's rows, what was left out and why."""
    import json
    from dataclasses import asdict

    from matscout.discovery.screen.console_tables import json_rows

    left_out = [asdict(rejection) for rejection in rejections]
    content = {"answered_by": told, "rows": json_rows(table), "left_out": left_out}
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def _write_and_tell(
    table: "pd.DataFrame", rejections: "list[Rejection]", out: Path | None, told: str, *, done: str, only_json: bool
) -> None:
    """Write the table if a name was given; say who answered, and what was left out."""
    if out is not None:
        from matscout.discovery.screen.user_crystals import write_table

        write_table(out, table)
        typer.echo(f"{_count(table, 'crystal')} {done} -> {out}", err=only_json)
    typer.echo(f"answered by {told}", err=True)
    _tell_rejections(rejections, out)


def _count(rows: Sized, what: str) -> str:
    return f"{len(rows)} {what}{'' if len(rows) == 1 else 's'}"


def _tell_rejections(rejections: "list[Rejection]", out: Path | None) -> None:
    """Say which files could not be used, and keep the reasons beside the output."""
    if not rejections:
        return
    for rejection in rejections[:SHOWN]:
        typer.echo(f"left out {rejection.file} row {rejection.row}: {rejection.reason}: {rejection.detail}", err=True)
    if len(rejections) > SHOWN:
        typer.echo(f"... and {len(rejections) - SHOWN} more", err=True)
    if out is not None:
        from matscout.discovery.screen.user_crystals import write_rejections

        typer.echo(f"{len(rejections)} left out; all reasons -> {write_rejections(out, rejections)}", err=True)


def main() -> None:
    """Entry point: errors that a user can mend are one message and exit code 1."""
    from matscout.engine.floating_point import use_one_thread
    from matscout.memory import collect_garbage_rarely

    collect_garbage_rarely()
    use_one_thread()
    try:
        app()
    except MatscoutError as error:
        sys.stderr.write(f"matscout: error: {error}\n")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        from matscout.stage import storage_message

        sys.stderr.write(f"matscout: error: {storage_message(error)}\n")
        sys.exit(1)
