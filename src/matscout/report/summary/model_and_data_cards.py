"""The model card and the data card: generated from the figures of the run."""

from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from matscout import columns
from matscout.files import write_bytes
from matscout.report import json_tables, wording
from matscout.report.run import Run, database_citations, paper_of
from matscout.report.summary.tracked_metrics import curation_document


def write_cards(run: Run, folder: Path) -> None:
    """Write `model_card.md` and `data_card.md`."""
    environment = Environment(
        loader=PackageLoader("matscout.report"),
        autoescape=False,  # noqa: S701 -- Markdown, in which a name of somebody's file must open no tag
        finalize=lambda value: value.replace("<", "&lt;") if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": wording.number, "count": wording.count, "percent": wording.percent}
    environment.filters |= {"name": wording.name_of, "unit": wording.unit_of}
    for name, facts in (("model_card", model_facts(run)), ("data_card", data_facts(run))):
        text = environment.get_template(f"{name}.md.j2").render(**facts)
        write_bytes(folder / f"{name}.md", text.encode())


def model_facts(run: Run) -> dict[str, Any]:
    """The content of the model card."""
    folds = curation_document(run)["folds"]
    return {
        "members": run.members,
        "architectures": {name: member.architecture for name, member in run.params.ensembled.items()},
        "papers": {name: paper_of(member) for name, member in run.params.ensembled.items()},
        "targets": run.targets,
        "judged": {target: json_tables.judged(run.ensemble, target) for target in run.targets},
        "scores": {target: json_tables.scores(run, target).to_dict("records") for target in run.targets},
        "n_train": folds.get(columns.TRAIN, 0),
        "n_validation": folds.get(columns.VALIDATION, 0),
        "hypothetical": run.hypothetical,
        "started": sorted(name for name, member in run.params.ensembled.items() if member.training.start),
        "split": run.params.split,
        "combine": run.params.ensemble.combine,
        "share_far": run.ensemble["flags"]["test_share_far"],
        "elements": sorted({s for symbols in _training_species(run) for s in symbols}),
        "notes": {t: run.ensemble["targets"][t]["conformal_notes"] for t in run.targets},
    }


def data_facts(run: Run) -> dict[str, Any]:
    """The content of the data card."""
    real = run.materials.loc[~run.materials[columns.SYNTHETIC].to_numpy(dtype=bool)]
    labelled = {t: int(real[settings.label].notna().to_numpy().sum()) for t, settings in run.params.targets.items()}
    return {
        "summary": curation_document(run),
        "manifests": run.manifests,
        "citations": database_citations(run.manifests.values()),
        "targets": run.targets,
        "labelled": labelled,
        "withheld_gaps": _withheld_gaps(run),
        "old_ytterbium": int((run.materials[columns.YTTERBIUM] == columns.YB_2).to_numpy().sum()),
        "made": {source: _made(rows) for source, rows in real.groupby(columns.SOURCE)},
        "reference": run.params.curation.offsets.reference,
        "validity": run.params.curation.validity,
        "split": run.params.split,
        "hypothetical": run.hypothetical,
    }


def _withheld_gaps(run: Run) -> dict[str, int]:
    """Rows whose published gap is of another functional than their energies, by that functional."""
    stated = run.materials.loc[run.materials[columns.BAND_GAP_FUNCTIONAL].notna().to_numpy()]
    other = stated[columns.BAND_GAP_FUNCTIONAL].to_numpy() != stated[columns.FUNCTIONAL].to_numpy()
    counts = stated.loc[other, columns.BAND_GAP_FUNCTIONAL].value_counts().sort_index()
    return {str(functional): int(n) for functional, n in counts.items()}


def _made(rows: pd.DataFrame) -> dict[str, int]:
    """How many crystals have been made, as their database states, and for how many it states this."""
    stated = rows[columns.IS_EXPERIMENTAL].dropna().to_numpy(dtype=bool)
    return {"made": int(stated.sum()), "stated": len(stated)}


def _training_species(run: Run) -> list[list[str]]:
    training = run.split.loc[run.split[columns.FOLD] == columns.TRAIN, columns.MATERIAL_ID]
    return list(run.materials.loc[run.materials[columns.MATERIAL_ID].isin(training), columns.SPECIES])
