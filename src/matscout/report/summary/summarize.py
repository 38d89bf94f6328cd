"""The stage `summarize`: small metrics for Git, tables for `dvc plots`, and the model and data cards."""

from pathlib import Path

from matscout.files import write_json
from matscout.params import Params
from matscout.report.run import Run
from matscout.report.summary.model_and_data_cards import write_cards
from matscout.report.summary.plot_tables import write_plots
from matscout.report.summary.tracked_metrics import (
    curation_document,
    ensemble_document,
    members_document,
    screening_document,
)


def summarize(data: Path, *, params: Params, metrics: Path, plots: Path) -> None:
    """Collect the figures of the stages.

    Args:
        data: folder with every stage's outputs (see docs/architecture.md).
        params: all of `params.yaml`.
        metrics: folder for curation, members, ensemble and screening `.json`, `model_card.md`, `data_card.md`.
        plots: folder for the CSV tables.

    Raises:
        InputError: an output of an earlier stage is missing; the message names the stage.
    """
    run = Run(Path(data), params)
    documents = {
        "curation": curation_document(run),
        "members": members_document(run),
        "ensemble": ensemble_document(run),
        "screening": screening_document(run),
    }
    for name, document in documents.items():
        write_json(Path(metrics) / f"{name}.json", document)
    write_plots(run, Path(plots))
    write_cards(run, Path(metrics))
