"""matscout: reproducible search for new materials with calibrated ensembles of crystal graph networks.

>>> from matscout import load_materials_database, create_crystal_graph, screen_materials
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.2.0"

# Read when torch is loaded: the threads of a training that has several sleep while they wait for each other. Where they
# burn their cores instead, it takes many times as long beside another process.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Imported on first use: `import matscout` and `matscout --help` stay fast.
_HOME = {
    "ALIGNN": "matscout.models.alignn",
    "CGCNN": "matscout.models.cgcnn",
    "CoGN": "matscout.models.cogn",
    "ComFormer": "matscout.models.comformer",
    "CompositionTransformer": "matscout.models.composition",
    "Crystal": "matscout.crystal",
    "CrystalGraph": "matscout.graphs.graph",
    "EnsemblePredictor": "matscout.ensemble.predictor",
    "Goal": "matscout.params",
    "GraphStore": "matscout.graphs.store",
    "MEGNet": "matscout.models.megnet",
    "acquire": "matscout.sources.registry",
    "check_params": "matscout.params",
    "create_crystal_graph": "matscout.graphs.build",
    "distill": "matscout.ensemble.distill",
    "draw_crystal_graph": "matscout.report.graph_picture",
    "evaluate": "matscout.ensemble.evaluate",
    "load_materials_database": "matscout.curation.loading",
    "load_member": "matscout.models.member",
    "load_params": "matscout.params",
    "predict": "matscout.discovery.own_structures",
    "predict_structures": "matscout.discovery.own_structures",
    "pretrain": "matscout.training.pretraining",
    "rank_candidates": "matscout.discovery.pareto",
    "read_manifest": "matscout.sources.manifest",
    "screen_materials": "matscout.discovery.screening",
    "train_member": "matscout.training.member",
}


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module 'matscout' has no attribute {name!r}; public names: {', '.join(sorted(_HOME))}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*_HOME, "__version__"])
