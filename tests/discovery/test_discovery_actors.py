"""Screening on Ray actors: the bytes of one process, although an actor is killed in the middle of a shard."""

import os
import sys
from collections import Counter

import pytest
from small_outputs import make_outputs
from small_screening import N_CANDIDATES, NOTES, ROWS_A_SHARD, NotingJudge, run_screening, write_candidates

from matscout.discovery import screening
from matscout.ensemble.evaluate import evaluate


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, of sockets it leaves open
def test_actors_that_load_the_ensemble_once_give_the_same_bytes_although_one_is_killed(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    outputs, ensemble, notes = make_outputs(tmp_path), tmp_path / "ensemble", tmp_path / "notes"
    evaluate(outputs.members, **outputs.arguments(), destination=ensemble)
    candidates = write_candidates(tmp_path / "candidates.parquet")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    here = run_screening(outputs, ensemble, candidates, tmp_path / "here")
    notes.mkdir()
    monkeypatch.setenv(NOTES, str(notes))
    monkeypatch.setenv("MATSCOUT_ENGINE", "ray")
    monkeypatch.setenv("MATSCOUT_WORKERS", "2")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setattr(screening, "Judge", NotingJudge)
    assert run_screening(outputs, ensemble, candidates, tmp_path / "on ray") == here

    lines = [path.name.split() for path in notes.iterdir()]
    loaded = Counter(line[1] for line in lines if line[0] == "loaded")
    predicted = Counter(line[2] for line in lines if line[0] == "predicted" and line[1] != str(os.getpid()))
    n_shards = -(-N_CANDIDATES // ROWS_A_SHARD)
    assert ["killed"] in lines
    # to predict: the killed, the one in its place, and the other if it began before all was done; to judge: one or both
    assert len(loaded) in {3, 4, 5}
    assert set(loaded.values()) == {1}
    assert str(os.getpid()) not in loaded
    assert sorted(predicted.values()) == [1] * (n_shards - 1) + [2]  # the shard it died in, once more
