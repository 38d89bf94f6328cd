""""""

import pytest
import torch

from matscout.errors import TrainingError
from matscout.models.model import PropertyHead

NAN = float("nan")


@pytest.fixture
def head():
    torch.manual_seed(0)
    return PropertyHead(8, {"energy": "laplace", "gap": "hurdle"})


def test_statistics_are_median_deviation_and_odds_of_zero(head):
    head.fit_statistics(
        {"energy": torch.tensor([-3.0, -1.0, NAN, 0.0, 2.0, 4.0]), "gap": torch.tensor([0.0, 0.0, 0.0, 1.0, 3.0, 2.0])}
    )
    energy, gap = head.heads["energy"], head.heads["gap"]
    assert energy.center == 0.0
    assert energy.spread == pytest.approx((3 + 1 + 0 + 2 + 4) / 5)
    assert gap.center == 2.0  # of the values above zero
    assert gap.spread == pytest.approx(2 / 3)
    assert torch.sigmoid(gap.prior_logit) == pytest.approx((3 + 1) / (6 + 2))


def test_labels_in_other_units_give_outputs_in_those_units(head):
    labels = torch.rand(50, generator=torch.Generator().manual_seed(1)) + 0.1
    crystals = torch.randn(4, 8)
    head.fit_statistics({"energy": labels, "gap": labels})
    in_ev = head(crystals)
    head.fit_statistics({"energy": 1000 * labels, "gap": 1000 * labels})
    in_mev = head(crystals)
    torch.testing.assert_close(in_mev["energy"], 1000 * in_ev["energy"])
    torch.testing.assert_close(in_mev["gap"][:, 1:], 1000 * in_ev["gap"][:, 1:])
    torch.testing.assert_close(in_mev["gap"][:, 0], in_ev["gap"][:, 0])


def test_statistics_travel_with_the_weights(head):
    head.fit_statistics({"energy": torch.arange(5.0), "gap": torch.arange(5.0)})
    other = PropertyHead(8, head.kinds)
    other.load_state_dict(head.state_dict())
    crystals = torch.randn(3, 8)
    assert all(torch.equal(head(crystals)[target], other(crystals)[target]) for target in head.kinds)


def test_scales_stay_positive_however_sure_the_network_is(head):
    head.fit_statistics({"energy": torch.arange(5.0), "gap": torch.arange(5.0)})
    for values in head(1e4 * torch.randn(64, 8)).values():
        assert (values[:, -1] > 0).all()


@pytest.mark.parametrize(
    ("energy", "gap", "complaint"),
    [
        ([NAN, NAN], [1.0, 2.0], "'energy' .* 0 labels"),
        ([1.5, 1.5], [1.0, 2.0], "'energy' .* 2 labels .* 1 distinct"),
        ([1.0, 2.0], [0.0, 0.0], "'gap' .* 2 labels .* 0 distinct ones above zero"),
    ],
)
def test_refuses_a_target_with_nothing_to_learn(head, energy, gap, complaint):
    with pytest.raises(TrainingError, match=complaint):
        head.fit_statistics({"energy": torch.tensor(energy), "gap": torch.tensor(gap)})


def test_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match=r"'gauss' is unknown; choose one of \['hurdle', 'laplace', 'log_laplace'\]"):
        PropertyHead(8, {"energy": "gauss"})


def test_a_log_laplace_head_standardises_logarithms():
    head = PropertyHead(8, {"modulus": "log_laplace"})
    head.fit_statistics({"modulus": torch.tensor([10.0, NAN, 100.0, 1000.0])})
    modulus = head.heads["modulus"]
    assert modulus.center == pytest.approx(torch.tensor(100.0).log())
    assert modulus.spread == pytest.approx(2 / 3 * torch.tensor(10.0).log())
    assert head(torch.randn(5, 8))["modulus"].shape == (5, 2)
