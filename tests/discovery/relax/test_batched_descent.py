"""Batches: when they are used, what happens to crystals that fail in them, and the same minima as one by one."""

from dataclasses import replace

import numpy as np
import pytest
from test_descent import POTENTIAL, caesium_chloride, settings

from matscout.crystal import Crystal
from matscout.discovery.relax import batched_descent, relax_all
from matscout.discovery.relax.batched_descent import batch_device, descend_together, in_batches
from matscout.discovery.relax.descent import CELL_EXPLODED, UNKNOWN_ELEMENT, descend
from matscout.errors import InputError
from matscout.potentials.load_potential import load_potential
from matscout.resume.parts import Parts

SHIFTED = Crystal(np.eye(3) * 3.2, ("Na", "Cl"), np.array([[0, 0, 0], [0.5, 0.5, 0.42]]))
LEFT_HANDED = Crystal(np.eye(3) * -3.6, ("Na", "Cl"), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
LARGER = Crystal(
    np.diag([3.4, 3.5, 7.0]),
    ("Na", "Cl", "Cs", "Cl"),
    np.array([[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]]),
)


@pytest.mark.parametrize(
    ("batches", "device", "gpu", "installed", "wanted"),
    [
        ("auto", "cpu", True, True, None),
        ("auto", "auto", True, True, "cuda"),
        ("auto", "auto", False, True, None),
        ("auto", "cuda", True, False, None),
        ("always", "cpu", True, True, "cpu"),
        ("always", "auto", True, True, "cuda"),
        ("never", "cuda", True, True, None),
    ],
)
def test_batches_need_a_gpu_and_torch_sim_unless_they_are_asked_for(
    monkeypatch, batches, device, gpu, installed, wanted
):
    monkeypatch.setattr(batched_descent.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(batched_descent, "find_spec", lambda _: "found" if installed else None)
    assert batch_device(settings(batches=batches), device) == wanted


def test_batches_that_are_asked_for_without_torch_sim_are_an_error(monkeypatch):
    monkeypatch.setattr(batched_descent, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs torch-sim.*auto or never"):
        batch_device(settings(batches="always"), "cpu")


def test_batches_hold_crystals_of_similar_size_up_to_a_limit(monkeypatch):
    monkeypatch.setitem(batched_descent.ATOMS, "cpu", 5)
    sizes = [2, 2, 2, 4, 9, 1, 4]
    crystals = [Crystal(np.eye(3) * 20, ("Na",) * n, np.random.default_rng(n).random((n, 3))) for n in sizes]
    assert in_batches(crystals, "cpu") == [[5, 0, 1], [2], [3], [6], [4]]
    assert in_batches([], "cpu") == []


def test_what_fails_in_a_batch_is_relaxed_alone_and_finished_batches_are_not_done_again(tmp_path, monkeypatch):
    crystals = [caesium_chloride(3.5), caesium_chloride(1.6), caesium_chloride(3.3, ("U", "Cl")), SHIFTED]
    ids, calls = list("abcd"), []

    def together(names, crystals, potential, settings):
        calls.append(tuple(names))
        found = [descend(n, c, potential, settings) for n, c in zip(names, crystals, strict=True)]
        return [None if descent.reason else replace(descent, steps=77) for descent in found]

    def run(n_batches=None):
        return relax_all.relax_all(ids, crystals, settings(), Parts(tmp_path), workers=1, batches_on="cpu")

    monkeypatch.setattr(relax_all, "descend_together", together)
    monkeypatch.setitem(batched_descent.ATOMS, "cpu", 4)
    found = run()
    assert calls == [("a", "b"), ("c", "d")]
    assert [descent.reason for descent in found] == ["", CELL_EXPLODED, UNKNOWN_ELEMENT, ""]
    assert [descent.steps == 77 for descent in found] == [True, False, False, True]
    for mark in tmp_path.glob("batch-*"):
        mark.unlink()
        break
    again = run()
    assert len(calls) == 3, "only the batch without its mark"
    assert [descent.energy_after for descent in again[::3]] == [descent.energy_after for descent in found[::3]]


@pytest.mark.parametrize("changes", [{}, {"cell": False}, {"symmetry": False}])
def test_torch_sim_ends_in_the_minima_of_ase_after_as_many_steps(changes):
    pytest.importorskip("torch_sim", reason="torch-sim (the extra `batches`) is not installed")
    chosen = settings(force=0.001, **changes)
    crystals = [caesium_chloride(3.6), SHIFTED, LEFT_HANDED, LARGER, caesium_chloride(3.2, ("U", "Cl"))]
    names = list("abcde")
    together = descend_together(names, crystals, POTENTIAL, chosen)
    assert together[4] is None
    for name, crystal, found in zip(names, crystals, together[:4], strict=False):
        wanted = descend(name, crystal, POTENTIAL, chosen)
        assert (wanted.reason, found.reason) == ("", "")
        assert found.energy_before == pytest.approx(wanted.energy_before, abs=1e-9)
        assert found.energy_after == pytest.approx(wanted.energy_after, abs=1e-6)  # eV/atom
        assert abs(found.steps - wanted.steps) <= 1
        assert found.force <= 0.001
        assert found.moved == pytest.approx(wanted.moved, abs=2e-3)
        np.testing.assert_allclose(found.crystal.lattice, wanted.crystal.lattice, atol=2e-3)


def test_torch_sim_leaves_an_exploding_cell_and_one_that_is_too_slow_to_ase():
    pytest.importorskip("torch_sim", reason="torch-sim (the extra `batches`) is not installed")
    crystals = [caesium_chloride(1.6), caesium_chloride(3.3)]
    assert [d is None for d in descend_together(["a", "b"], crystals, POTENTIAL, settings())] == [True, False]
    assert descend_together(["a", "b"], crystals, POTENTIAL, settings(steps=1)) == [None, None]


@pytest.mark.slow
def test_torch_sim_and_ase_agree_with_sevennet():
    pytest.importorskip("torch_sim", reason="torch-sim (the extra `batches`) is not installed")
    pytest.importorskip("sevenn")
    potential, chosen = load_potential("sevennet-0"), settings(force=0.05, steps=200)
    salt = np.array(
        [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    )
    crystals = [
        Crystal(np.eye(3) * 5.8, ("Na",) * 4 + ("Cl",) * 4, salt),
        Crystal(
            np.eye(3) * 4.0,
            ("Sr", "Ti", "O", "O", "O"),
            np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]),
        ),
        Crystal(
            np.diag([4.7, 4.7, 3.1]),
            ("Ti", "Ti", "O", "O", "O", "O"),
            np.array(
                [[0, 0, 0], [0.5, 0.5, 0.5], [0.31, 0.31, 0], [0.69, 0.69, 0], [0.19, 0.81, 0.5], [0.81, 0.19, 0.5]]
            ),
        ),
    ]
    for name, crystal, found in zip(
        "abc", crystals, descend_together(list("abc"), crystals, potential, chosen), strict=True
    ):
        wanted = descend(name, crystal, potential, chosen)
        assert found.energy_after == pytest.approx(wanted.energy_after, abs=1e-3)  # eV/atom
        assert found.crystal.volume == pytest.approx(wanted.crystal.volume, rel=0.005)
