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
    help="Find new materials: predict, rank and export crystals with a calibrated ensemble.",
    epilog="Example: `matscout screen my_cifs/ --goal solar_absorber -o ranked.parquet`. "
    "Exit codes: 0 done, 1 an error whose message gives the remedy, 2 wrong usage.",
)
Structures = Annotated[
    list[Path], typer.Argument(help="CIF, POSCAR or other structure files, or folders of them", show_default=False)
]
MembersOption = Annotated[Path, typer.Option("--members", help="folder of trained members")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="members trained at once (default: MATSCOUT_WORKERS, or as many as fit)"),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine", help="local, or ray (the cluster at RAY_ADDRESS, or one started here); default: MATSCOUT_ENGINE"
    ),
]
FoundMembers = Annotated[
    Path | None, typer.Option("--members", help="folder of trained members (default: data/members, or the release)")
]
FoundEnsemble = Annotated[
    Path | None, typer.Option("--ensemble", help="folder of the calibration (default: data/ensemble, or the release)")
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="table to write: .parquet or .csv")]
JsonOption = Annotated[bool, typer.Option("--json", help="print all columns as JSON, for scripts")]
EnsembleOption = Annotated[Path, typer.Option("--ensemble", help="folder of the calibration")]
SHOWN = 10  # rejected rows listed on the console


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
    online: Annotated[bool, typer.Option(help="also contact the databases")] = False,
    forecast: Annotated[
        bool, typer.Option(help="also time this machine and predict time, memory and disk of every stage")
    ] = True,
) -> None:
    """Check installation and settings, predict the pipeline's time, memory and disk use; exit with 1 on a problem."""
    _show_only_long_work()
    from matscout.commands.doctor import examine, predicted
    from matscout.commands.forecast import forecast_lines

    marks = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
    problems = 0
    told = predicted() if forecast else None
    for finding in examine(online=online, told=told):
        problems += finding.status == "problem"
        typer.echo(f"{marks[finding.status]} {finding.topic:18} {finding.text}")
    if told is not None:
        typer.echo("\n".join(["", *forecast_lines(told)]))
    if problems:
        raise InputError(f"{problems} problem(s); the lines above say what to do")


@app.command(epilog="Example: `matscout results`")
def results() -> None:
    """Show where the results of the last run are, a summary, and what to do next."""
    from matscout.commands.results import lines_of_results

    for line in lines_of_results(Path.cwd()):
        typer.echo(line)


@app.command(epilog="Examples: `matscout compare`; `matscout compare main~1 bold-owl --no-members`")
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="revisions and experiments; by default the last commit and its experiments"),
    ] = None,
    members: Annotated[bool, typer.Option(help="also list the members of each ensemble")] = True,
) -> None:
    """Compare variants and members in one table: test errors, coverage of 90 % intervals, changed parameters."""
    from matscout.commands.results import compare as table_of
    from matscout.discovery.screen.console_tables import table_lines

    typer.echo("\n".join(table_lines(table_of(names or (), members=members))))
    typer.echo("mean absolute errors on test crystals; in brackets, how many lie in the 90 % interval", err=True)


@app.command(epilog="Example: `matscout mend && dvc repro`")
def mend() -> None:
    """Restore files of DVC and MLflow that a killed run left half-written; `make repro` runs this first."""
    from matscout.commands.doctor import mend as put_back

    for line in put_back(Path.cwd()):
        typer.echo(line)


@app.command(epilog="Examples: `matscout repro`; to use only four cores: `matscout repro --workers 4`")
def repro(workers: WorkersOption = None, engine: EngineOption = None) -> None:
    """Run the pipeline like `dvc repro`, training one member per core at the same time."""
    from matscout.commands.train import reproduce
    from matscout.engine.process_setup import Switch

    raise typer.Exit(reproduce(Switch.read(engine, workers)))


@app.command(epilog="Example: `dvc repro featurize split && matscout train --workers 4 && dvc repro`")
def train(
    names: Annotated[
        list[str] | None, typer.Argument(help="members to train (default: all)", show_default=False)
    ] = None,
    workers: WorkersOption = None,
    engine: EngineOption = None,
) -> None:
    """Train members side by side, on cores, GPUs or Ray; a later `dvc repro` finds them trained."""
    from matscout.commands.train import make_engine, train_members
    from matscout.engine.process_setup import Switch
    from matscout.params import load_params

    switch, params = Switch.read(engine, workers), load_params()
    trained = train_members(names or list(params.members), params, make_engine(switch, params.compute))
    told = f"{', '.join(trained)}: trained" if trained else "all members are already trained"
    typer.echo(f"{told}; now run: dvc repro")


@app.command(
    epilog="Examples: `matscout tune composition --trials 20`; more trials of the same search: "
    "`matscout tune composition --trials 40`; only some settings: `matscout tune cogn --over lr --over epochs`."
)
def tune(
    member: Annotated[str, typer.Argument(help="a member of params.yaml", show_default=False)],
    trials: Annotated[
        int, typer.Option(min=1, help="number of finished trials, including those of earlier calls")
    ] = 20,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="setting to search, repeatable: lr, lr_scale, batch_size, weight_decay, averaging, warmup, "
            "grad_clip, epochs (default: lr, batch_size, weight_decay, averaging, epochs)",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="random seed of the search")] = 17,
) -> None:
    """Find the training settings that suit your data, scored on validation rows; MLflow tracks the trials."""
    from matscout.commands.train import INPUTS, check_inputs
    from matscout.commands.tune import DEFAULT_KNOBS, experiment_command, tune
    from matscout.params import load_params
    from matscout.training.tracking import MLflowTracker

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
        raise InputError(f"none of the {len(found)} trials finished; lower model.lr and search again")
    errors = ", ".join(f"{target} {error:.4g}" for target, error in best.mae.items())
    typer.echo(f"best: trial {best.number}, validation error {best.error:.4f} ({errors})")
    if best.number == present.number:
        typer.echo("no trial is better than the current values")
    else:
        typer.echo(
            f"current values: {present.error:.4f}; to train with the best values:\n{experiment_command(best.proposed)}"
        )


@app.command(epilog="Example: `matscout profile notebook && matscout doctor`")
def profile(
    name: Annotated[
        str,
        typer.Argument(
            help="laptop (the bundled sample), notebook, workstation, gpu, cluster or another file in profiles/",
            show_default=False,
        ),
    ],
) -> None:
    """Write databases, members and candidates that suit a machine into params.yaml; comments and seeds stay."""
    from matscout.commands.profile import put_in

    changes = put_in(name)
    for path, (before, now) in changes.items():
        typer.echo(f"{path}: {before} -> {now}")
    told = "params.yaml written; now run: matscout doctor, then dvc repro"
    typer.echo(told if changes else f"params.yaml already has the profile {name}")


@app.command(hidden=True)
def size(name: Annotated[str, typer.Argument(show_default=False)]) -> None:
    """The former name of `profile`; `small` is now the profile laptop, `large` the profile gpu."""
    profile({"small": "laptop", "large": "gpu"}.get(name, name))


@app.command(epilog="Examples: `matscout predict my.cif`; `matscout predict POSCAR my_cifs/ -o predictions.parquet`")
def predict(
    structures: Structures,
    out: OutOption = None,
    as_json: JsonOption = False,
    members: FoundMembers = None,
    ensemble: FoundEnsemble = None,
) -> None:
    """Predict PBE gap, formation energy and stability of your own crystals, with 90 % intervals.

    Works in any folder: matscout uses the ensemble of the repository or, without one, the release that ships with it.
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
    name: Annotated[str, typer.Option(help="name in MLflow's model registry; each call adds a version")] = "matscout",
    members: MembersOption = layout.MEMBERS,
    ensemble: EnsembleOption = layout.ENSEMBLE,
) -> None:
    """Add the ensemble to MLflow's model registry; `mlflow models serve` then returns predictions for CIFs."""
    from matscout.params import load_params
    from matscout.serving.register import register_ensemble

    limits = load_params().curation.validity
    model = register_ensemble(name, members=members, ensemble=ensemble, limits=limits)
    typer.echo(f"{model.uri} in {model.store}")
    typer.echo(f"serve it: MLFLOW_TRACKING_URI={model.store} mlflow models serve -m {model.uri} --env-manager local")


@app.command(epilog="Example: `matscout screen my_cifs/ --goal thermoelectric --top 10`")
def screen(
    structures: Structures,
    goal: Annotated[str, typer.Option(help="a goal in screening.goals of params.yaml")] = "solar_absorber",
    out: OutOption = None,
    top: Annotated[int, typer.Option(min=1, help="number of crystals to print")] = 20,
    as_json: JsonOption = False,
    members: FoundMembers = None,
    ensemble: FoundEnsemble = None,
) -> None:
    """Rank your own crystals by the probability that they meet a goal."""
    _show_only_long_work()
    from matscout.discovery.rank.goals import not_known_yet
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
    if ignored := not_known_yet(who.goals[goal]):
        typer.echo(f"goal {goal}: {ignored}; `matscout relax` computes them", err=True)
    _write_and_tell(ranked, rejections, out, who.told, done="ranked", only_json=as_json)


@app.command(epilog="Example: `matscout relax my_cifs/ --goal thermoelectric -o relaxed.parquet --cif relaxed/`")
def relax(
    structures: Structures,
    goal: Annotated[str, typer.Option(help="a goal in screening.goals of params.yaml")] = "solar_absorber",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="table to write: .parquet or .csv")] = None,
    cif: Annotated[Path | None, typer.Option("--cif", help="folder to write the relaxed cells to")] = None,
    potential: Annotated[str | None, typer.Option(help="potential to use instead of those in params.yaml")] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option(help="surface_energy, average_voltage or bulk_modulus_potential, repeatable"),
    ] = None,
    members: MembersOption = layout.MEMBERS,
    ensemble: EnsembleOption = layout.ENSEMBLE,
) -> None:
    """Relax your own crystals with a universal potential, then predict and rank them as the stage `relax` does."""
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
        Path, typer.Option("--out", "-o", help="folder to write: new, empty, or from an earlier export")
    ] = Path("handoff"),
    top: Annotated[int, typer.Option(min=1, help="number of candidates, best first")] = 20,
    candidate: Annotated[list[str] | None, typer.Option(help="id of a candidate, repeatable")] = None,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch", help="export the diverse set that is meant to be computed together, not the best-ranked"
        ),
    ] = False,
    ranked: Annotated[Path, typer.Option(help="ranking written by the stage `screen`")] = layout.RANKED,
    relaxed: Annotated[Path, typer.Option(help="output folder of the stage `relax`")] = layout.RELAXED,
) -> None:
    """Export the best candidates as CIF, VASP inputs, an atomate2 script and OPTIMADE, with their provenance."""
    from matscout.discovery.handoff.export import export_bundle

    rows = export_bundle(ranked, out, relaxed=relaxed, top=top, ids=candidate, batch=batch)
    typer.echo(f"{_count(rows, 'candidate')} -> {out}; after the calculations, run: matscout collect {out}")


@app.command(epilog="Example: `matscout collect handoff/ && matscout feedback && dvc repro`")
def collect(
    handoff: Annotated[
        Path, typer.Argument(help="exported folder with finished calculations in it", show_default=False)
    ],
    feedback: Annotated[Path, typer.Option(help="folder to write the results to")] = layout.FEEDBACK,
) -> None:
    """Turn finished VASP and atomate2 calculations of exported candidates into checked formation energies and gaps."""
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
        typer.echo(f"candidates without a result: {', '.join(found.waiting[:SHOWN])}{more}", err=True)
    if not found.rows:
        raise InputError(f"none of {_count(found.rejections, 'calculation')} below {handoff} can be used")


@app.command(epilog="Examples: `matscout feedback`; `matscout feedback --accept ms-2f59651b072a`")
def feedback(
    folder: Annotated[
        Path, typer.Argument(help="folder of JSONL files with results; see data/feedback/README.md")
    ] = layout.FEEDBACK,
    ranked: Annotated[Path, typer.Option(help="ranking written by the stage `screen`")] = layout.RANKED,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="id of a result to accept even if it is far from the prediction; repeatable"),
    ] = None,
) -> None:
    """Compare new results with the predictions; results that pass are used in the next `dvc repro`."""
    from matscout.discovery.handoff.check_feedback import check_feedback

    table, rejections = check_feedback(folder, ranked, accept=accept or ())
    typer.echo(table.to_string(index=False))
    _tell_rejections(rejections, None)


@app.command(
    "add-data",
    epilog="Example: `matscout add-data lab.csv --name lab --label band_gap_exp='Eg (opt)'`",
)
def add_data(
    path: Annotated[
        Path, typer.Argument(help="CSV with structures, extended XYZ, JSON, or a folder", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="name of the new database", show_default=False)],
    column: Annotated[
        list[str] | None, typer.Option(help="label=column of your file, repeatable: band_gap='Eg (eV)'")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="a label of your own as name=column, such as band_gap_exp='Eg (opt)'; repeatable"),
    ] = None,
    unit: Annotated[list[str] | None, typer.Option(help="label=unit, repeatable: band_gap=meV")] = None,
    functional: Annotated[str, typer.Option(help="of rows that state none: PBE, HSE06 or experiment")] = "PBE",
    licence: Annotated[
        str, typer.Option(help="owner and licence, shown in the data card and model card")
    ] = "own data, not published",
) -> None:
    """Add a file of your own as another database; writes params.yaml and dvc.yaml."""
    from matscout.commands.add_data import add_data as add

    columns, units, labels = (dict(_pair(text) for text in given or ()) for given in (column, unit, label))
    found = add(path, name, mapping=columns, units=units, own_labels=labels, functional=functional, licence=licence)
    for ours, theirs in found.mapping.items():
        typer.echo(f"{ours}: column {theirs!r}" + (f", in {found.units[ours]}" if ours in found.units else ""))
    counts = ", ".join(f"{label} {number}" for label, number in found.labels.items())
    typer.echo(f"{found.n_rows} rows ({functional}), labels: {counts}")
    _tell_rejections(list(found.rejections), None)
    typer.echo(f"added to params.yaml and dvc.yaml as databases.{name}; now run: dvc repro")


def _pair(text: str) -> tuple[str, str]:
    ours, separator, theirs = text.partition("=")
    if not separator or not theirs:
        raise InputError(f"{text!r} is not a pair; write label=column, such as band_gap='Eg (eV)'")
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
    """Show progress bars only for work that takes longer than three seconds."""
    from matscout.progress import DELAY

    os.environ.setdefault(DELAY, "3")


def _print_json(table: "pd.DataFrame", rejections: "list[Rejection]", told: str) -> None:
    """Print one JSON object: the ensemble that predicted, the rows of the table, and what was rejected and why."""
    import json
    from dataclasses import asdict

    from matscout.discovery.screen.console_tables import json_rows

    left_out = [asdict(rejection) for rejection in rejections]
    content = {"answered_by": told, "rows": json_rows(table), "left_out": left_out}
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def _write_and_tell(
    table: "pd.DataFrame", rejections: "list[Rejection]", out: Path | None, told: str, *, done: str, only_json: bool
) -> None:
    """Write the table if a name was given; name the ensemble that predicted, and what was rejected."""
    if out is not None:
        from matscout.discovery.screen.user_crystals import write_table

        write_table(out, table)
        typer.echo(f"{_count(table, 'crystal')} {done} -> {out}", err=only_json)
    typer.echo(f"answered by {told}", err=True)
    _tell_rejections(rejections, out)


def _count(rows: Sized, what: str) -> str:
    return f"{len(rows)} {what}{'' if len(rows) == 1 else 's'}"


def _tell_rejections(rejections: "list[Rejection]", out: Path | None) -> None:
    """Name the files that could not be used, and write all reasons to a file beside the output."""
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
    """Entry point: an error that a user can fix is one message and exit code 1."""
    from matscout.engine.process_setup import collect_garbage_rarely, use_one_thread

    collect_garbage_rarely()
    use_one_thread()
    try:
        app()
    except MatscoutError as error:
        sys.stderr.write(f"matscout: error: {error}\n")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output, such as `head`, has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        from matscout.stage import storage_message

        sys.stderr.write(f"matscout: error: {storage_message(error)}\n")
        sys.exit(1)
