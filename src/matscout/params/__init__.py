"""`params.yaml` as frozen models: every value the user may want to change, with its unit and range.

The file is complete and the only place of a default. A misspelt or missing key, or a value out of range, fails with its
full path before any work starts.
"""

from matscout.params.data import (
    Curation,
    Database,
    FileImport,
    Graphs,
    Hypothetical,
    Matching,
    Offsets,
    Query,
    Service,
    Split,
    Validity,
)
from matscout.params.discovery import Candidates, Cascade, ElementGroups, Goal, Objective, Relaxation, Routes, Screening
from matscout.params.learning import (
    Compute,
    Distilled,
    Encoder,
    Ensemble,
    FineTuned,
    Member,
    MemberGraph,
    MemberTraining,
    Recipe,
    Target,
    base_target,
)
from matscout.params.section import Section
from matscout.params.tree import PARAMS_FILE, Params, block_of, check_params, load_params

__all__ = [
    "PARAMS_FILE",
    "Candidates",
    "Cascade",
    "Compute",
    "Curation",
    "Database",
    "Distilled",
    "ElementGroups",
    "Encoder",
    "Ensemble",
    "FileImport",
    "FineTuned",
    "Goal",
    "Graphs",
    "Hypothetical",
    "Matching",
    "Member",
    "MemberGraph",
    "MemberTraining",
    "Objective",
    "Offsets",
    "Params",
    "Query",
    "Recipe",
    "Relaxation",
    "Routes",
    "Screening",
    "Section",
    "Service",
    "Split",
    "Target",
    "Validity",
    "base_target",
    "block_of",
    "check_params",
    "load_params",
]
