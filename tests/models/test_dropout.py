from itertools import combinations

import pytest
import torch

from recsys.models.draws import Draws
from recsys.models.dropout import ReluDropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_units_is_left_out_and_the_mean_stays(share):
    torch.manual_seed(0)
    dropped = ReluDropout(share)(torch.ones(1000, 1001))
    # A million units: the standard error of the share is below 0.0005, the rounding below 0.002.
    assert (dropped == 0).double().mean().item() == pytest.approx(share, abs=0.005)
    assert dropped.double().mean().item() == pytest.approx(1.0, abs=0.01)
    assert len(dropped.unique()) == 2


def test_the_gradient_passes_where_the_unit_was_kept():
    torch.manual_seed(0)
    units = torch.ones(7, 13, requires_grad=True)
    dropped = ReluDropout(0.5)(units.clone())
    dropped.sum().backward()
    assert torch.equal(units.grad, dropped.detach())


def test_inactive_units_give_nothing_and_get_no_gradient():
    units = torch.tensor([[-1.0, 0.0, 2.0]] * 50, requires_grad=True)
    given = ReluDropout(0.5)(units.clone())
    given.sum().backward()
    assert (given[:, :2] == 0).all() and (units.grad[:, :2] == 0).all()
    assert set(given[:, 2].tolist()) == {0.0, 4.0}
    assert set(units.grad[:, 2].tolist()) == {0.0, 2.0}


def test_a_part_of_a_batch_loses_the_units_that_the_whole_would():
    dropout, draws, units = ReluDropout(0.5), Draws(7), torch.rand(60, 9)
    whole = dropout(units.clone(), draws)
    parts = [dropout(units[:25].clone(), draws), dropout(units[25:].clone(), draws.after(25))]
    assert torch.equal(torch.cat(parts), whole)


def test_another_key_and_another_layer_leave_out_other_units():
    units = torch.ones(60, 9)
    masks = [
        ReluDropout(0.5, stream)(units.clone(), Draws(key)) > 0
        for key, stream in ((7, 1), (8, 1), (7, 2))
    ]
    for one, other in combinations(masks, 2):  # independent: half agree, give or take 0.02
        assert (one == other).double().mean().item() == pytest.approx(0.5, abs=0.1)


def test_masks_follow_from_torchs_random_state_and_differ_from_call_to_call():
    dropout, units = ReluDropout(0.5), torch.ones(10, 10)
    torch.manual_seed(0)
    first, second = dropout(units.clone()), dropout(units.clone())
    torch.manual_seed(0)
    assert torch.equal(dropout(units.clone()), first)
    assert not torch.equal(first, second)


def test_evaluation_and_share_zero_leave_active_units_as_they_are():
    units = torch.randn(5, 3)
    for dropout in (ReluDropout(0.5).eval(), ReluDropout(0.0)):
        assert torch.equal(dropout(units.clone()), units.relu())


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_extreme_shares_still_keep_the_mean(share):
    torch.manual_seed(0)
    assert ReluDropout(share)(torch.ones(1000, 1000)).double().mean().item() == pytest.approx(
        1, abs=0.1
    )
