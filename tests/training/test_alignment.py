import numpy as np
import pytest
import torch

from recsys.data.arrays import Bags
from recsys.errors import DataError
from recsys.models.tower import TowerParts
from recsys.pipeline import build_trainer
from recsys.training.alignment import CategoryAlignment, main_categories
from recsys.training.batches import Batch

# Items 0 to 2 are of category 0; 3 and 4 of 1 (3 has the rarer 2 besides); 5 of 2; 6 of none.
CATEGORIES = Bags.from_pairs(
    np.array([0, 1, 2, 3, 3, 4, 5]),
    np.array([0, 0, 0, 2, 1, 1, 2]),
    n_rows=7,
    n_columns=3,
)


def loss(vectors, items, is_cosine=False, categories=CATEGORIES):
    nothing = torch.zeros(len(vectors), dtype=torch.bool)
    parts = TowerParts(vectors, None, nothing, vectors, nothing, None)
    empty = torch.zeros(0, dtype=torch.int64)
    batch = Batch(empty, items, empty, empty, empty, empty)
    return CategoryAlignment(categories, is_cosine=is_cosine)(parts, parts, batch)


def test_an_item_counts_in_the_most_frequent_of_its_categories():
    assert main_categories(CATEGORIES).tolist() == [0, 0, 0, 1, 1, 2, -1]


@pytest.mark.parametrize("is_cosine", [True, False])
@pytest.mark.parametrize("is_all", [True, False])
def test_the_loss_is_the_distance_of_the_covariances(is_all, is_cosine):
    drawn = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    chosen = np.arange(7) if is_all else np.array([4, 1, 6, 3, 0])
    vectors = torch.from_numpy(drawn[chosen])
    if is_cosine:
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    largest = np.cov(drawn[:3].T if is_all else drawn[[0, 1]].T)
    expected = ((largest - np.cov(drawn[[3, 4]].T)) ** 2).sum()  # one item of 2 has no covariance
    found = loss(vectors, 7 if is_all else torch.from_numpy(chosen), is_cosine)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_two_categories_costs_nothing():
    assert loss(torch.randn(3, 2), torch.tensor([0, 1, 3])).item() == 0
    assert loss(torch.randn(2, 2), torch.tensor([3, 4])).item() == 0


def test_data_without_categories_are_refused():
    with pytest.raises(DataError, match="needs items of at least two categories, got 0"):
        CategoryAlignment(None, is_cosine=True)


def test_training_brings_the_spreads_together(shop_config, shop_prepared):
    distances = []
    for weight in (0.0, 30.0):
        config = shop_config({"training": {"alignment_weight": weight}})
        trainer = build_trainer(config, shop_prepared)
        for result in trainer.epochs():
            assert ("alignment" in result.parts) == (weight > 0)
        n_items, bags = shop_prepared.n_warm_items, shop_prepared.item_features.bags
        vectors = trainer.model.item_tower(n_items)
        distances.append(loss(vectors, n_items, True, bags["categories"]).item())
    assert distances[1] < 0.5 * distances[0]
