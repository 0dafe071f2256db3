import numpy as np
import pytest
import torch

from recsys.data.histories import Histories
from recsys.errors import DataError
from recsys.models.augmented import AugmentedVectors
from recsys.models.id_embedding import IdEmbedding
from recsys.models.normalise import normalise
from recsys.models.tower import TowerParts
from recsys.pipeline import build_trainer
from recsys.training.mimic import Mimic, dual_mimic_loss, mimic_loss

IDS = torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 2.0]], requires_grad=True)
METADATA = torch.tensor([[0.0, 0.0], [5.0, 5.0], [2.0, 0.0]], requires_grad=True)


def parts(is_known, *, ids=None, augmented=None):
    there = torch.tensor(is_known)
    return TowerParts(METADATA, ids, there, METADATA, there, METADATA, augmented)


def test_metadata_is_drawn_to_the_known_ids_and_ids_stay():
    loss = mimic_loss(parts([True, False, True], ids=IDS))
    # (1 + 0) / 2 of the first, (0 + 4) / 2 of the last, over the two that are known
    assert loss.item() == (0.5 + 2.0) / 2
    of_ids, of_metadata = torch.autograd.grad(loss, (IDS, METADATA), allow_unused=True)
    assert of_ids is None
    assert of_metadata.tolist() == [[-0.5, 0.0], [0.0, 0.0], [0.0, -1.0]]


def test_nothing_known_and_no_ids_cost_nothing():
    assert mimic_loss(parts([False, False, False], ids=IDS)).item() == 0
    assert mimic_loss(parts([False, False, False])).item() == 0


def test_augmented_vectors_are_drawn_to_the_other_towers_output_of_their_positives():
    own = torch.tensor([[1.0, 1.0], [0.0, 2.0]], requires_grad=True)
    output = torch.tensor([[0.0, 1.0], [9.0, 9.0], [0.0, 4.0]], requires_grad=True)
    rows, others = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 2])  # output 1 is no positive
    loss = dual_mimic_loss(parts([True, True], augmented=own), rows, output, others)
    assert loss.item() == ((1 + 0) + (0 + 1) + (0 + 4)) / 3
    of_own, of_output = torch.autograd.grad(loss, (own, output), allow_unused=True)
    assert of_output is None  # held fixed
    torch.testing.assert_close(of_own, 2 / 3 * torch.tensor([[1.0, 0.0], [0.0, 1.0 - 2.0]]))


def test_positives_of_unknown_ids_draw_nothing():
    own = torch.ones(2, 2)
    rows, others = torch.tensor([0, 1]), torch.tensor([0, 0])
    output = torch.zeros(1, 2)
    assert dual_mimic_loss(parts([True, False], augmented=own), rows, output, others).item() == 2
    assert dual_mimic_loss(parts([False, False], augmented=own), rows, output, others).item() == 0


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_augmented_vectors_come_near_the_other_tower_in_training(
    board_config, board_prepared, similarity
):
    """The mean product of augmented vectors with the other tower's output grows by the weight."""
    nearness = []
    for weight in (0.0, 5.0):
        tower = {"feature_encoder": {"type": "linear"}, "fusion": "dual_augmented"}
        changes = {
            "model": {"user_encoder": tower, "similarity": similarity},
            "training": {"num_epochs": 5, "mimic_weight": weight},
        }
        trainer = build_trainer(board_config(changes), board_prepared)
        assert ["mimic" in result.parts for result in trainer.epochs()] == [weight > 0] * 5
        model, train = trainer.model, board_prepared.train
        ours = model.item_tower.parts(torch.arange(train.n_items)).augmented
        vectors = torch.from_numpy(
            model.collect_users(
                np.arange(train.n_users), Histories.of(train), lambda parts, _: parts.vectors
            )
        )
        pairs = (
            ours[torch.from_numpy(train.items.astype(np.int64))]
            - (normalise(vectors) if similarity == "cosine" else vectors)[
                torch.from_numpy(train.users.astype(np.int64))
            ]
        )
        nearness.append(-pairs.square().sum(dim=1).mean().item())
    assert nearness[1] > nearness[0]


def test_ids_without_training_take_the_mean_of_trained_ones():
    vectors = AugmentedVectors(IdEmbedding(3, 2))
    known = vectors(torch.tensor([1, 2, 3]))
    torch.testing.assert_close(vectors(torch.tensor([0]))[0], known.mean(dim=0))
    known_only = torch.autograd.grad(vectors(torch.tensor([0, 2])).sum(), vectors.parameters())[0]
    assert known_only.abs().sum(dim=1).tolist() == [0, 0, 2, 0]  # the mean is held fixed


def test_a_mimic_loss_without_metadata_is_refused(board_config, board_prepared):
    model = build_trainer(board_config({}), board_prepared).model
    for tower in (model.user_tower, model.item_tower):
        tower.fusion = tower.augmented = None
    with pytest.raises(DataError, match="above 0 needs metadata"):
        Mimic(model)
