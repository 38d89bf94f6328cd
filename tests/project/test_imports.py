"""Start-up: what each command and each stage loads before it works. Modules that take long are listed here by name."""

import ast
import subprocess
import sys

import pytest
from imports import ROOT, loaded_at_start

PACKAGES = [
    "ase",
    "chgnet",
    "dvc",
    "emmet",
    "mlflow",
    "moyopy",
    "numba",
    "optuna",
    "pandas",
    "paretoset",
    "plotly",
    "pymatgen",
    "ray",
    "scipy",
    "sklearn",
    "smact",
    "torch",
    "torch_geometric",
]
GRAPHS = {"numba", "pymatgen.core"}
LEARNING = GRAPHS | {"torch", "torch.nn.functional", "torch.autograd.function", "pandas"}
TRAINING = LEARNING | {"torch.distributed", "torch.multiprocessing.spawn"}
ENSEMBLE = LEARNING | {"scipy.special"}
SYMMETRY = {"moyopy", "pymatgen.util.coord"}
RELAXATION = (
    ENSEMBLE
    | SYMMETRY
    | {
        *("ase", "ase.calculators.calculator", "ase.constraints", "ase.filters", "ase.optimize", "paretoset"),
        *("ase.build", "ase.eos", "ase.units", "pymatgen.core.surface", "pymatgen.symmetry.analyzer"),
        *("pymatgen.core", "pymatgen.core.structure_matcher", "pymatgen.core.structure_prediction", "pymatgen.io.cif"),
        *("pymatgen.analysis", "pymatgen.core.entries", "pymatgen.core.structure_analyzer", "pymatgen.io.vasp.sets"),
        *("scipy.optimize", "smact", "smact.data_loader", "smact.utils.oxidation"),
    }
)
MAY_LOAD = {
    "stage acquire": {"pymatgen.core", "emmet.core.mpid", "moyopy"},
    "stage curate": {
        *("pandas", "moyopy", "scipy.spatial", "sklearn.ensemble", "emmet.core.mpid"),
        *("pymatgen.core", "pymatgen.analysis.structure_matcher"),
    },
    "stage distill": TRAINING | ENSEMBLE,
    "stage evaluate": ENSEMBLE | {"sklearn.ensemble"},
    "stage featurize": GRAPHS,
    "stage finetune": TRAINING,
    "stage hypothetical": {
        *("pandas", "moyopy", "scipy.optimize", "scipy.spatial", "sklearn.ensemble", "emmet.core.mpid"),
        *("pymatgen.core", "pymatgen.analysis.structure_matcher"),
    },
    "stage label": {
        *("pandas", "moyopy", "scipy.optimize", "pymatgen.analysis", "pymatgen.core", "pymatgen.core.entries"),
        *("pymatgen.core.structure_analyzer", "pymatgen.io.vasp.sets"),
    },
    "stage pretrain": TRAINING,
    "stage propose": SYMMETRY
    | {"pymatgen.analysis.prototypes", "pymatgen.analysis.prototypes.matcher", "pymatgen.util"}
    | {"pymatgen.core", "pymatgen.core.structure_matcher", "pymatgen.core.structure_prediction"}
    | {"scipy.optimize", "smact", "smact.metallicity", "smact.screening", "smact.utils.oxidation"},
    "stage relax": RELAXATION,
    "stage report": {
        *("pandas", "plotly.graph_objects", "plotly.offline", "pymatgen.core", "pymatgen.io.cif"),
        "pymatgen.analysis.molecule_structure_comparator",
    },
    "stage screen": ENSEMBLE | SYMMETRY | {"pymatgen.analysis", "pymatgen.io.cif", "paretoset", "smact.data_loader"},
    "stage split": {"pandas", "pymatgen.core"},
    "stage summarize": {"pandas", "pymatgen.core"},
    "stage train": TRAINING,
    "compare": {"pandas"},
    "doctor": set(),
    "results": set(),
    "mend": set(),
    "repro": set(),
    "train": set(),
    "tune": TRAINING | {"optuna", "optuna.distributions", "optuna.trial"},
    "size": set(),
    "predict": ENSEMBLE | {"moyopy"},
    "register": ENSEMBLE,
    "screen": ENSEMBLE | {"moyopy"},
    "relax": RELAXATION,
    "export": SYMMETRY | {"pandas", "pymatgen.core", "pymatgen.io.cif", "pymatgen.io.vasp.sets"},
    "feedback": {"pandas", "pymatgen.core", "moyopy"},
    "collect": {
        *("pandas", "moyopy", "pymatgen.analysis", "pymatgen.core", "pymatgen.core.entries"),
        *("pymatgen.core.structure_analyzer", "pymatgen.io.vasp", "pymatgen.io.vasp.sets"),
    },
    "add_data": {"pymatgen.core", "moyopy"},
    "why_merged": {"pandas"},
}


def modules_of_entries():
    """By stage and command: the modules of ours that it imports, those within its function too."""
    found = {f"stage {path.stem}": _imported(ast.parse(path.read_text())) for path in (ROOT / "stages").glob("*.py")}
    for node in ast.parse((ROOT / "src/matscout/cli.py").read_text()).body:
        if isinstance(node, ast.FunctionDef) and any("app.command" in ast.unparse(d) for d in node.decorator_list):
            found[node.name] = ["matscout.cli", *_imported(node)]
    return found


def _imported(tree):
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [node.module for node in nodes if node.module.startswith("matscout")]


@pytest.mark.parametrize("entry", sorted(modules_of_entries()))
def test_a_command_or_stage_loads_what_it_uses_and_no_more(entry):
    loaded = loaded_at_start(modules_of_entries()[entry], PACKAGES)
    too_many = {name: " <- ".join(chain) for name, chain in loaded.items() if name not in MAY_LOAD[entry]}
    assert not too_many, too_many


@pytest.mark.parametrize("stage", ["curate", "featurize", "propose", "screen"])
def test_a_worker_process_does_not_load_the_stage_that_started_it(stage):
    """A spawned process imports the script of its parent again, before it takes its first piece of work."""
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    at_the_top = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not loaded_at_start(at_the_top, PACKAGES)


def test_predicting_loads_no_library_of_fitting_or_drawing():
    """What the lists above cannot see: libraries that load one another."""
    unwanted = ["scipy.optimize", "sklearn", "mlflow", "plotly", "smact", "paretoset", "ray", "matplotlib", "IPython"]
    code = "\n".join(f"import {name}" for name in modules_of_entries()["predict"])
    code += f"\nimport sys\nprint([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
