import torch

from recsys.models.tower import TowerParts
from recsys.training.mimic import mimic_loss

IDS = torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 2.0]], requires_grad=True)
METADATA = torch.tensor([[0.0, 0.0], [5.0, 5.0], [2.0, 0.0]], requires_grad=True)


def parts(ids, is_known):
    there = torch.tensor(is_known)
    return TowerParts(METADATA, ids, there, METADATA, there, METADATA)


def test_metadata_is_drawn_to_the_known_ids_and_ids_stay():
    loss = mimic_loss(parts(IDS, [True, False, True]))
    # (1 + 0) / 2 of the first, (0 + 4) / 2 of the last, over the two that are known
    assert loss.item() == (0.5 + 2.0) / 2
    of_ids, of_metadata = torch.autograd.grad(loss, (IDS, METADATA), allow_unused=True)
    assert of_ids is None
    assert of_metadata.tolist() == [[-0.5, 0.0], [0.0, 0.0], [0.0, -1.0]]


def test_nothing_known_and_no_ids_cost_nothing():
    assert mimic_loss(parts(IDS, [False, False, False])).item() == 0
    assert mimic_loss(parts(None, [False, False, False])).item() == 0
