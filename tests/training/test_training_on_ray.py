"""A member that Ray trains goes on after its worker is killed in the middle of an epoch, to the same bytes."""

import os
import sys
from functools import partial

import pytest
from tiny_training import MEMBER, kill_at_call, no_tracker, tiny_params, train

from matscout.engine.on_ray import RayEngine
from matscout.engine.tasks import DONE, Job
from matscout.files import sha256_of
from matscout.training import member


def fit_and_die_once(inputs, marker, name):
    member.member_run = no_tracker
    if not marker.exists():
        kill_at_call(member.Trainer, "_step", 9, lambda *_, **__: marker.touch())
    member.fit_member(name, params=tiny_params(), **inputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, of sockets it leaves open
def test_a_worker_killed_in_an_epoch_is_replaced_and_the_bytes_are_the_same(
    tiny_inputs, uninterrupted, tmp_path, dvc_root, monkeypatch
):
    pytest.importorskip("ray")
    monkeypatch.setattr(member, "member_run", member.member_run)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    job = Job(partial(fit_and_die_once, tiny_inputs, tmp_path / "killed"), tmp_path, tmp_path / "logs")
    ended = [some for some in RayEngine(workers=2, cpus=1).run(job, [MEMBER]) if some]
    assert ended == [{MEMBER: DONE}]
    assert (tmp_path / "killed").exists()
    begun = []
    run_epoch = member.Trainer._run_epoch
    monkeypatch.setattr(member.Trainer, "_run_epoch", lambda self, e, *a: begun.append(e) or run_epoch(self, e, *a))
    train(tiny_inputs, tmp_path / "member", dvc_root=dvc_root)
    assert begun == []  # the worker reached the last epoch
    assert sha256_of(tmp_path / "member") == uninterrupted[1]
