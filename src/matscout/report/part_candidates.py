"""Where candidates come from and which were lost: counts per gate, from the first idea to the shortlist."""

from dataclasses import dataclass
from typing import Any, Final

from matscout import columns
from matscout.discovery import gates
from matscout.report import labels
from matscout.report.inputs import Run

GATES: Final = {
    gates.GENERATED: "ideas generated",
    gates.UNCHANGED: "nothing replaced",
    gates.CHARGE: "charges do not cancel",
    gates.REPEATED_ELEMENT: "one element on two sites",
    gates.ELECTRONEGATIVITY: "cation more electronegative than anion",
    gates.VOLUME: "volume beyond reason",
    gates.CONTACT: "atoms too close",
    gates.IN_CURATED: "already in the curated table",
    gates.DUPLICATE: "same as another candidate",
    gates.POLYMORPHS: "enough structures of this formula",
}


@dataclass(frozen=True)
class Gate:
    """One bar: how many remain or were lost, as a share of the widest bar."""

    name: str
    count: str
    share: str
    lost: str = ""


@dataclass(frozen=True)
class Funnel:
    """Bars of one stage."""

    title: str
    gates: list[Gate]


def candidates(run: Run) -> dict[str, Any]:
    """The section's words and its bars."""
    counts = run.attrition["gates"]
    routes = run.attrition["by_route"]
    made = labels.sentence_list(
        [f"{labels.count(n)} by {labels.name_of(route)}" for route, n in sorted(routes.items())]
    )
    return {
        "intro": f"{labels.count(run.attrition['n_candidates'])} candidates: {made}. Each is a known crystal with ions "
        "replaced, or a prototype decorated with ions, that no database here holds. Every gate counts what it "
        "turns away.",
        "funnels": [_lost(counts), _kept(run)],
        "cards_intro": "One card a candidate: what is predicted, which known crystal it was made from and how. Cells "
        "are scaled to plausible volumes, not relaxed: a calculation comes next.",
    }


def _lost(counts: dict[str, int]) -> Funnel:
    """What `propose` turned away, by gate, the hungriest first."""
    ordered = sorted(counts.items(), key=lambda item: (item[0] != gates.GENERATED, -item[1], item[0]))
    widest = max(counts.values(), default=1) or 1
    bars = [Gate(GATES.get(gate, labels.name_of(gate)), labels.count(n), f"{n / widest:.4f}") for gate, n in ordered]
    return Funnel("Ideas generated, and how many each gate turned away", bars)


def _kept(run: Run) -> Funnel:
    """What remained of the candidates after each step of screening."""
    ranked = run.ranked
    steps = [("screened", len(ranked))]
    if columns.UNSEEN_ELEMENTS in ranked:
        steps.append(("of elements seen in training", int((ranked[columns.UNSEEN_ELEMENTS] == "").sum())))
    if columns.FAR_FROM_TRAINING in ranked:
        steps.append(("near the training data", int((~ranked[columns.FAR_FROM_TRAINING].astype(bool)).sum())))
    steps += [
        ("meet the goal", int(ranked[columns.GOAL_MET].sum())),
        ("on the Pareto front", int(ranked[columns.PARETO_FRONT].astype(bool).sum())),
        ("shortlist", min(run.params.screening.top_k, len(ranked))),
    ]
    widest = max(len(ranked), 1)
    bars = [Gate(name, labels.count(n), f"{n / widest:.4f}") for name, n in steps]
    return Funnel("Candidates screened, and what is left of them", bars)
