"""Where candidates come from and which were lost: counts per gate, from the first idea to the shortlist."""

from dataclasses import dataclass
from typing import Any, Final

from matscout import columns
from matscout.discovery.propose import gates
from matscout.report import wording
from matscout.report.run import Run

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
    gates.NOT_NEEDED: "passed, but enough were found",
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
    """The section's text and its bars."""
    counts = run.attrition["gates"]
    routes = run.attrition["by_route"]
    made = wording.sentence_list(
        [f"{wording.count(n)} by {wording.name_of(route)}" for route, n in sorted(routes.items())]
    )
    return {
        "intro": f"{wording.count(run.attrition['n_candidates'])} candidates: {made}. Each is a known crystal with "
        "ions replaced, or a prototype decorated with ions, that no database here holds. Every gate counts what it "
        "turns away.",
        "funnels": [_lost(counts), _kept(run)],
        "left_out": run.attrition["user_files_left_out"],
        "cards_intro": "One card a candidate: what is predicted, which known crystal it was made from and how. Cells "
        "are scaled to plausible volumes, not relaxed: a calculation comes next.",
    }


def _lost(counts: dict[str, int]) -> Funnel:
    """How many candidates `propose` rejected, by gate, the largest number first."""
    ordered = sorted(counts.items(), key=lambda item: (item[0] != gates.GENERATED, -item[1], item[0]))
    widest = max(counts.values(), default=1) or 1
    bars = [Gate(GATES.get(gate, wording.name_of(gate)), wording.count(n), f"{n / widest:.4f}") for gate, n in ordered]
    return Funnel("Ideas generated, and how many each gate turned away", bars)


def _kept(run: Run) -> Funnel:
    """How many of the candidates are what one may want."""
    steps = [
        ("screened", len(run.ranked)),
        ("obey the goal's element rules", int(run.flags(columns.ELEMENT_RULES_MET).sum())),
        ("of elements seen in training", int((run.ranked[columns.UNSEEN_ELEMENTS].to_numpy() == "").sum())),
        ("near the training data", int((~run.flags(columns.FAR_FROM_TRAINING)).sum())),
        ("below the hull of their rivals, as far as can be judged", run.screening["n_below_hull"]),
        ("meet the goal by their median", int(run.flags(columns.GOAL_MET).sum())),
        ("on the Pareto front", int(run.flags(columns.PARETO_FRONT).sum())),
        ("shortlist", min(run.params.screening.top_k, len(run.ranked))),
    ]
    widest = max(len(run.ranked), 1)
    return Funnel(
        "Candidates screened, and how many of them", [Gate(n, wording.count(k), f"{k / widest:.4f}") for n, k in steps]
    )
