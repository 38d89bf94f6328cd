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
    "ALIGNN": "matscout.models.encoders.alignn",
    "CGCNN": "matscout.models.encoders.cgcnn",
    "CoGN": "matscout.models.encoders.cogn",
    "ComFormer": "matscout.models.encoders.comformer",
    "CompositionTransformer": "matscout.models.encoders.composition",
    "Crystal": "matscout.crystal",
    "CrystalGraph": "matscout.graphs.crystal_graph",
    "EnsemblePredictor": "matscout.ensemble.predictor",
    "Goal": "matscout.params",
    "GraphStore": "matscout.graphs.graph_store",
    "MEGNet": "matscout.models.encoders.megnet",
    "MLflowTracker": "matscout.training.tracking",
    "acquire": "matscout.sources.acquire",
    "check_params": "matscout.params",
    "create_crystal_graph": "matscout.graphs.graph_store",
    "distill": "matscout.ensemble.distill",
    "draw_crystal_graph": "matscout.report.figures.graph_picture",
    "evaluate": "matscout.ensemble.evaluate",
    "load_materials_database": "matscout.curated_table",
    "load_member": "matscout.models.saved_member",
    "load_params": "matscout.params",
    "predict": "matscout.discovery.screen.user_crystals",
    "predict_structures": "matscout.discovery.screen.user_crystals",
    "pretrain": "matscout.training.pretrain",
    "rank_candidates": "matscout.discovery.rank.pareto",
    "read_manifest": "matscout.sources.snapshots.snapshot_files",
    "screen_materials": "matscout.discovery.screen.screen",
    "train_member": "matscout.training.train_member",
}


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module 'matscout' has no attribute {name!r}; public names: {', '.join(sorted(_HOME))}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*_HOME, "__version__"])
