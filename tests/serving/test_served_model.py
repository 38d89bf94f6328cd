"""The model that MLflow serves, without its server (tests/pipeline/test_handover.py has that)."""

import json
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pandas as pd
import pytest
from small_outputs import make_outputs

from matscout.ensemble.evaluate import evaluate
from matscout.ensemble.release import lowest_rows

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # MLflow's
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning"),  # MLflow's, of its own signature
]


def artifacts_of(outputs, folder):
    """What `register_ensemble` puts beside the model."""
    validity, hull = folder / "validity.json", folder / "hull.parquet"
    validity.write_text(json.dumps(outputs.params.curation.validity.model_dump(mode="json")))
    lowest_rows(outputs.materials).to_parquet(hull)
    return {"members": outputs.members, "ensemble": folder / "ensemble", "hull": hull, "validity": validity}


def test_a_crystal_is_answered_while_the_model_is_loaded_so_that_no_request_waits_for_a_compiler(tmp_path, monkeypatch):
    from matscout.serving import served_model  # brings MLflow, whose import takes seconds and warns

    outputs = make_outputs(tmp_path)
    evaluate(outputs.members, **outputs.arguments(), destination=tmp_path / "ensemble")
    answers, predict = [], served_model.predict_cifs
    monkeypatch.setattr(served_model, "predict_cifs", lambda *asked: answers.append(predict(*asked)) or answers[-1])
    artifacts = artifacts_of(outputs, tmp_path)
    served_model.EnsembleModel().load_context(SimpleNamespace(artifacts=artifacts))
    (answer,) = answers
    assert answer["error"].isna().all()
    assert answer["band_gap"].notna().all()


BLOCKER = """
import ast, importlib.metadata as metadata, json, re, sys
from importlib.util import find_spec
from pathlib import Path

tree = ast.parse(Path(find_spec("matscout.serving.register").origin).read_text())  # read: importing it would load what is tried
named = [node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "REQUIREMENTS"]
REQUIREMENTS = ast.literal_eval(named[0].value)

allowed, waiting = set(), [*REQUIREMENTS, "mlflow", "matscout"]
while waiting:
    name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
    if name in allowed:
        continue
    allowed.add(name)
    try:
        needed = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        continue
    waiting += [re.match(r"[A-Za-z0-9._-]+", line)[0] for line in needed if name != "matscout" and "extra ==" not in line]
owners = metadata.packages_distributions()


class Absent:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        names = [re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(top, [])]
        if names and not allowed & set(names):
            raise ModuleNotFoundError(f"{top} is not among the requirements of the registered model")


for name in [n for n in sys.modules if n.partition(".")[0] in owners]:
    if not name.startswith("matscout"):
        top = name.partition(".")[0]
        names = [re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(top, [])]
        assert allowed & set(names), name
sys.meta_path.insert(0, Absent())
import matscout.discovery.screen.user_crystals, matscout.ensemble.predictor
from matscout.serving.served_model import ROCK_SALT
from matscout.sources.files.named_structures import read_text
print(read_text(ROCK_SALT, "x").crystal.reduced_formula)
"""


def test_the_requirements_are_all_that_an_answer_needs():
    """In a process that can import nothing but the registered requirements and what those bring."""
    done = subprocess.run([sys.executable, "-c", BLOCKER], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["NaCl"], done.stderr


def test_the_requirements_can_be_installed_from_any_index():
    """A local version such as torch's `+cpu` is on no index but its own."""
    from packaging.requirements import Requirement

    from matscout.serving.register import pinned

    found = {Requirement(line).name: Requirement(line).specifier for line in pinned()}
    assert all("+" not in str(specifier) for specifier in found.values())
    assert all(specifier.contains(metadata.version(name)) for name, specifier in found.items())


def test_every_row_has_its_own_answer_and_no_figure_is_nan(tmp_path):
    from matscout.serving import served_model

    outputs = make_outputs(tmp_path)
    evaluate(outputs.members, **outputs.arguments(), destination=tmp_path / "ensemble")
    artifacts = artifacts_of(outputs, tmp_path)
    model = served_model.EnsembleModel()
    model.load_context(SimpleNamespace(artifacts=artifacts))
    posted = [served_model.ROCK_SALT, "data_x\n", None, 5, "x" * (1 << 21), served_model.ROCK_SALT]
    answer = model.predict(None, pd.DataFrame({"cif": posted, "material_id": list("abcdef")}))
    assert answer["material_id"].tolist() == list("abcdef")
    reasons = [None if text is None else text.split(":")[0] for text in answer["error"]]
    assert reasons == [None, "unreadable_structure", "no_text", "no_text", "too_large", None]
    assert answer["band_gap"].notna().tolist() == [True, False, False, False, False, True]
    json.dumps(answer.to_dict("records"), allow_nan=False)
    rejected = model.predict(None, pd.DataFrame({"cif": [None]}))
    json.dumps(rejected.to_dict("records"), allow_nan=False)
    assert rejected["error"][0].startswith("no_text")
