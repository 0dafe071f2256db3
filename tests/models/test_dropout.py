import pytest
import torch

from recsys.models.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_units_is_left_out_and_the_mean_stays(share):
    torch.manual_seed(0)
    dropped = Dropout(share)(torch.ones(1000, 1001))
    # A million units: the standard error of the share is below 0.0005, the rounding below 0.002.
    assert (dropped == 0).double().mean().item() == pytest.approx(share, abs=0.005)
    assert dropped.double().mean().item() == pytest.approx(1.0, abs=0.01)
    assert len(dropped.unique()) == 2


def test_the_gradient_passes_where_the_unit_was_kept():
    torch.manual_seed(0)
    units = torch.ones(7, 13, requires_grad=True)
    dropped = Dropout(0.5)(units)
    dropped.sum().backward()
    assert torch.equal(units.grad, dropped.detach())


def test_masks_follow_from_torchs_random_state_and_differ_from_call_to_call():
    dropout, units = Dropout(0.5), torch.ones(10, 10)
    torch.manual_seed(0)
    first, second = dropout(units), dropout(units)
    torch.manual_seed(0)
    assert torch.equal(dropout(units), first)
    assert not torch.equal(first, second)


def test_evaluation_and_share_zero_leave_units_as_they_are():
    units = torch.randn(5, 3)
    for dropout in (Dropout(0.5).eval(), Dropout(0.0)):
        assert dropout(units) is units


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_extreme_shares_still_keep_the_mean(share):
    torch.manual_seed(0)
    dropped = Dropout(share)(torch.ones(1000, 1000))
    assert dropped.double().mean().item() == pytest.approx(1, abs=0.1)
