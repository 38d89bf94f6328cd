"""`params.yaml` as frozen models: every value the user may want to change, with its unit and range.

The file is complete and the only place of a default; a misspelt or missing key, or a value out of
range, fails with its full path before any work begins.
"""

from matscout.params.data import (
    Curation,
    Database,
    FileImport,
    Graphs,
    Matching,
    Offsets,
    Query,
    Service,
    Split,
    Validity,
)
from matscout.params.discovery import Candidates, Goal, Objective, Screening
from matscout.params.learning import (
    ALIGNNEncoder,
    ALIGNNMember,
    CGCNNEncoder,
    CGCNNMember,
    CoGNEncoder,
    CoGNMember,
    ComFormerEncoder,
    ComFormerMember,
    CompositionEncoder,
    CompositionMember,
    Compute,
    Ensemble,
    MEGNetEncoder,
    MEGNetMember,
    Member,
    MemberGraph,
    MemberTraining,
    Model,
    Target,
)
from matscout.params.section import Section
from matscout.params.tree import PARAMS_FILE, Params, check_params, load_params

__all__ = [
    "PARAMS_FILE",
    "ALIGNNEncoder",
    "ALIGNNMember",
    "CGCNNEncoder",
    "CGCNNMember",
    "Candidates",
    "CoGNEncoder",
    "CoGNMember",
    "ComFormerEncoder",
    "ComFormerMember",
    "CompositionEncoder",
    "CompositionMember",
    "Compute",
    "Curation",
    "Database",
    "Ensemble",
    "FileImport",
    "Goal",
    "Graphs",
    "MEGNetEncoder",
    "MEGNetMember",
    "Matching",
    "Member",
    "MemberGraph",
    "MemberTraining",
    "Model",
    "Objective",
    "Offsets",
    "Params",
    "Query",
    "Screening",
    "Section",
    "Service",
    "Split",
    "Target",
    "Validity",
    "check_params",
    "load_params",
]
