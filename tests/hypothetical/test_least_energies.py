"""The lowest energy over the volume: found by parabolas, or at the volume that a network knows."""

import numpy as np
import pytest
import torch
from imports import ROOT

from matscout.crystal import Crystal
from matscout.errors import StoreError
from matscout.hypothetical.least_energies import LikelyMinima, least_energies
from matscout.models.model import build_model
from matscout.models.saved_member import MemberCard, save_member
from matscout.params import Target, load_params


def rock_salt(a, b, length=5.0):
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * length
    return Crystal(fcc, (a, b), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


class Well:
    """A potential whose energy is a parabola in the logarithm of the volume per atom; it keeps the volumes asked for."""

    def __init__(self, volume, depth=-3.0):
        self.volume, self.depth, self.asked = volume, depth, []

    def energies(self, crystals):
        self.asked += [crystal.volume for crystal in crystals]
        x = np.array([np.log(crystal.volume / crystal.n_atoms / self.volume) for crystal in crystals])
        return (self.depth + 2.0 * x**2) * [crystal.n_atoms for crystal in crystals]


class Silent:
    """A potential that supports no element."""

    def energies(self, crystals):
        return np.full(len(crystals), np.nan)


@pytest.mark.parametrize("ratio", [0.6, 0.8, 0.97, 1.0, 1.2, 1.7])
def test_the_least_energy_is_found_at_the_volume_of_the_well(ratio):
    crystal = rock_salt("Na", "Cl")
    potential = Well(volume=crystal.volume / 2 * ratio)
    found = least_energies(potential, [crystal])
    assert found.energy[0] == pytest.approx(-3.0, abs=1e-9)
    assert found.scale[0] == pytest.approx(ratio)
    assert found.points[0] == 3


def test_no_minimum_is_told_as_none():
    class Slope:
        def energies(self, crystals):
            return np.array([-crystal.volume for crystal in crystals])

    sure = LikelyMinima(np.zeros(2), np.array([True, False]))
    for potential, likely in ((Slope(), None), (Silent(), None), (Silent(), sure)):
        found = least_energies(potential, [rock_salt("Na", "Cl"), rock_salt("K", "Br")], likely)
        assert np.isnan(found.energy).all()
        assert np.isnan(found.scale).all()


def test_where_the_volume_is_known_one_energy_is_the_label():
    crystals = [rock_salt("Na", "Cl"), rock_salt("K", "Br"), rock_salt("Li", "F")]
    potential = Well(volume=crystals[0].volume / 2 * 1.2)
    likely = LikelyMinima(np.log([1.25, 1.3, 1.1]), np.array([True, False, True]))
    found = least_energies(potential, crystals, likely)
    assert potential.asked[:2] == pytest.approx([crystals[0].volume * 1.25, crystals[2].volume * 1.1])
    assert found.points.tolist() == [1, 3, 1]
    assert found.scale == pytest.approx([1.25, 1.2, 1.1])
    assert found.energy[1] == pytest.approx(-3.0, abs=1e-9)
    assert found.energy[[0, 2]] == pytest.approx([-3 + 2 * np.log(s / 1.2) ** 2 for s in (1.25, 1.1)])


def test_the_search_begins_at_the_likely_volume():
    crystal = rock_salt("Na", "Cl")
    potential = Well(volume=crystal.volume / 2 * 1.6)
    far, near = (
        least_energies(potential, [crystal], LikelyMinima(np.log([start]), np.array([False]))) for start in (1.0, 1.6)
    )
    assert len(potential.asked) > 6, "the far start needs more than one parabola"
    assert potential.asked[-2] == pytest.approx(crystal.volume * 1.6), "the near one needs one about its volume"
    assert far.scale[0] == pytest.approx(1.6)
    assert near.scale[0] == pytest.approx(1.6)


@pytest.fixture
def says(monkeypatch):
    """What the network of a folder says of crystals."""
    monkeypatch.syspath_prepend(ROOT / "data/sample")
    from volume_network import VolumeNetwork

    return lambda folder, crystals: VolumeNetwork(folder)(crystals)


def write_network(folder, target="log_scale", *, log_spread=-5.0):
    """An untrained network whose head says the same of every crystal: no change of volume, this spread."""
    torch.manual_seed(0)
    params = load_params(ROOT / "params.yaml")
    member = params.members["cgcnn"]
    encoder = member.encoder.model_copy(update={"hidden_dim": 8, "n_layers": 1})
    graph = member.graph.model_copy(update={"n_neighbors": 6, "cutoff": 5.0})
    member = member.model_copy(update={"encoder": encoder, "graph": graph})
    targets = {target: Target(label=target, noise=None, head="laplace", weight=1.0)}
    model = build_model(member, targets)
    model.head.fit_statistics({target: torch.tensor(np.log(1.3) + np.array([-0.5, 0.0, 0.5]))})
    with torch.no_grad():
        for name, parameter in model.head.named_parameters():
            if name.endswith("bias") and parameter.shape == (2,):
                parameter.copy_(torch.tensor([0.0, log_spread]))
            elif parameter.ndim == 2 and parameter.shape[0] == 2:
                parameter.zero_()
    card = {
        "name": "volumes",
        "architecture": member.architecture,
        "encoder": encoder.model_dump(),
        "graph": graph.model_dump(),
        "graphs": params.graphs.model_dump(),
        "targets": {name: settings.model_dump() for name, settings in targets.items()},
        "elements": ("Na", "Cl"),
        "hashes": {},
    }
    save_member(folder, model, MemberCard(**card))
    return folder


def test_a_network_says_where_minima_are_likely_and_whether_it_is_sure(tmp_path, says):
    crystals = [rock_salt("Na", "Cl"), rock_salt("K", "Br")]
    sure = says(write_network(tmp_path / "sure"), crystals)
    assert sure.log_scale == pytest.approx(np.log(1.3), abs=1e-5)
    assert sure.is_sure.tolist() == [True, True]
    unsure = says(write_network(tmp_path / "unsure", log_spread=2.0), crystals)
    assert unsure.is_sure.tolist() == [False, False]


def test_a_crystal_without_a_graph_keeps_its_volume_and_is_not_sure(tmp_path, says):
    on_one_place = Crystal(np.eye(3) * 4, ("Na", "Cl"), np.zeros((2, 3)))
    likely = says(write_network(tmp_path / "sure"), [on_one_place, rock_salt("Na", "Cl")])
    assert likely.log_scale[0] == 0
    assert likely.is_sure.tolist() == [False, True]


def test_a_network_of_another_target_is_refused(tmp_path, says):
    with pytest.raises(StoreError, match="does not predict log_scale"):
        says(write_network(tmp_path / "energies", target="formation_energy_aligned"), [rock_salt("Na", "Cl")])
