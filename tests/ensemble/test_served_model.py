"""The model that MLflow serves, without its server (tests/pipeline/test_handover.py has that)."""

import json
from types import SimpleNamespace

import pytest
from small_outputs import make_outputs

from matscout.ensemble.evaluate import evaluate

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # MLflow's
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning"),  # MLflow's, of its own signature
]


def test_a_crystal_is_answered_while_the_model_is_loaded_so_that_no_request_waits_for_a_compiler(tmp_path, monkeypatch):
    from matscout import served_model  # brings MLflow, whose import takes seconds and warns

    outputs = make_outputs(tmp_path)
    evaluate(outputs.members, **outputs.arguments(), destination=tmp_path / "ensemble")
    validity = tmp_path / "validity.json"
    validity.write_text(json.dumps(outputs.params.curation.validity.model_dump(mode="json")))
    answers, predict = [], served_model.predict_cifs
    monkeypatch.setattr(served_model, "predict_cifs", lambda *asked: answers.append(predict(*asked)) or answers[-1])
    artifacts = {"members": outputs.members, "ensemble": tmp_path / "ensemble", "validity": validity}
    served_model.EnsembleModel().load_context(SimpleNamespace(artifacts=artifacts))
    (answer,) = answers
    assert answer[served_model.ERROR].isna().all()
    assert answer["band_gap"].notna().all()
