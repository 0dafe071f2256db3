from math import exp, log

import pytest
import torch
from pytest import approx

from recsys.training.losses import mimic_sum, sampled_bce


def test_both_halves_are_the_mean_cross_entropy_of_their_logits():
    positive, negative = sampled_bce(torch.tensor([2.0]), torch.tensor([[0.0, -1.0]]))
    assert positive.item() == approx(-log(1 / (1 + exp(-2.0))) / 2)
    assert negative.item() == approx((log(2.0) + log(1 + exp(-1.0))) / 2 / 2)


@pytest.mark.parametrize("k", [1, 4, 50])
def test_the_number_of_negatives_does_not_change_the_scale(k):
    positive, negative = sampled_bce(torch.zeros(3), torch.zeros(3, k))
    assert (positive + negative).item() == approx(log(2.0))


def test_large_logits_stay_finite():
    positive, negative = sampled_bce(torch.tensor([-1e4]), torch.tensor([[1e4]]))
    assert (positive + negative).item() == approx(1e4)


def test_mimic_loss_moves_the_metadata_alone():
    ids = torch.ones(2, 3, requires_grad=True)
    metadata = torch.zeros(2, 3, requires_grad=True)
    total, _ = mimic_sum(ids, metadata, torch.tensor([True, True]))
    total.backward()
    assert ids.grad is None
    assert metadata.grad is not None and (metadata.grad < 0).all()


def test_mimic_loss_leaves_unknown_ids_out():
    ids, metadata = torch.tensor([[1.0], [9.0]]), torch.tensor([[3.0], [0.0]])
    total, n_known = mimic_sum(ids, metadata, torch.tensor([True, False]))
    assert (total.item(), n_known.item()) == (approx(4.0), 1)
