import pytest
import torch

from recsys.models.dropout import ReluDropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_units_is_left_out_and_the_mean_stays(share):
    torch.manual_seed(0)
    dropped = ReluDropout(share)(torch.ones(1000, 1001))
    # A million units: the standard error of the share is below 0.0005, the rounding below 0.002.
    assert (dropped == 0).double().mean().item() == pytest.approx(share, abs=0.005)
    assert dropped.double().mean().item() == pytest.approx(1.0, abs=0.01)
    assert len(dropped.unique()) == 2


def test_the_gradient_is_that_of_a_relu_with_the_same_units_kept():
    units = torch.randn(7, 13, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(7, 13, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    factors = ReluDropout(0.25)(torch.ones(7, 13))  # 0 or 4/3: what becomes of each unit
    torch.manual_seed(0)
    fused = units.clone().requires_grad_()
    (ReluDropout(0.25)(fused) * weights).sum().backward()
    plain = units.clone().requires_grad_()
    (plain.relu() * factors * weights).sum().backward()
    torch.testing.assert_close(fused.grad, plain.grad)


def test_masks_follow_from_torchs_random_state_and_differ_from_call_to_call():
    dropout, units = ReluDropout(0.5), torch.ones(10, 10)
    torch.manual_seed(0)
    first, second = dropout(units), dropout(units)
    torch.manual_seed(0)
    assert torch.equal(dropout(units), first)
    assert not torch.equal(first, second)


def test_evaluation_and_share_zero_are_a_plain_relu():
    units = torch.randn(5, 3)
    for dropout in (ReluDropout(0.5).eval(), ReluDropout(0.0)):
        assert torch.equal(dropout(units), units.relu())


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_extreme_shares_still_keep_the_mean(share):
    torch.manual_seed(0)
    dropped = ReluDropout(share)(torch.ones(1000, 1000))
    assert dropped.double().mean().item() == pytest.approx(1, abs=0.1)
