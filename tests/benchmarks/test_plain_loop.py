"""The loop that the product is measured against must compute what the product computes."""

import numpy as np
import pytest
import torch

from benchmarks.plain_loop import PlainLoop, PlainNegatives, PlainTwoTower, copy_weights
from benchmarks.shop import write_distinct_shop
from benchmarks.training_sides import count_rows, examples_of, trainer_of
from benchmarks.worlds import training_config
from recsys.data.dataset import prepare
from recsys.models.build import build_two_tower

SEED = 0
"""Of the order of batches and of their negatives, as the sides of the benchmark have it."""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_distinct_shop(folder, n_users=60, n_items=80, n_train=600, seed=0)
    tower = {
        "id_embedding": {"params": {"embedding_dim": 8, "dropout": 0.0}},
        "feature_encoder": {"hidden_dims": [16], "output_dim": 8, "dropout": 0.0},
    }
    changes = {
        "model": {"user_encoder": tower},
        "training": {"batch_size": 64, "negatives_per_positive": 3, "precision": "float32"},
    }
    return training_config(folder, changes)


@pytest.fixture(scope="module")
def prepared(config):
    return prepare(config.data, 0)


@pytest.fixture
def model(config, prepared):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_two_tower(config.model, prepared)


@pytest.fixture
def plain(config, prepared, model):
    plain = PlainTwoTower(config, prepared)
    copy_weights(model, plain)
    return plain


def product_losses(model, config, prepared):
    """The loss of each step of the product's first epoch."""
    trainer = trainer_of(config, prepared, prepared.train, model)
    totals = [(0, 0.0)]
    next(trainer.epochs(lambda step: totals.append((step.positives, float(step.loss)))))
    sums = [done * mean for done, mean in totals]
    counts = [done for done, _ in totals]
    return np.diff(sums) / np.diff(counts)


def plain_losses(plain, config, prepared):
    """The loss of each step of the plain loop on the same batches."""
    loop, losses = PlainLoop(plain, config), []
    examples = examples_of(config, prepared, prepared.train)
    for batch in examples.epoch(np.random.default_rng(SEED)):
        users, items = batch.users.numpy()[batch.rows], batch.items.numpy()
        losses.append(float(loop.step(users, items[batch.targets], items[batch.negatives])))
    return losses


def test_the_plain_loop_computes_the_loss_of_the_product(model, plain, config, prepared):
    ours, theirs = product_losses(model, config, prepared), plain_losses(plain, config, prepared)
    assert len(ours) == 10
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)


def test_the_plain_loop_learns_what_the_product_learns(model, plain, config, prepared):
    """Ten steps on: rounding apart, equal gradients through equal optimizers."""
    ours, theirs = product_losses(model, config, prepared), plain_losses(plain, config, prepared)
    assert ours[-1] < ours[0]
    assert ours == pytest.approx(theirs, rel=1e-3)
    after = plain.users.ids.weight.detach().numpy()
    expected = model.user_tower.id_embedding.embedding.weight.detach().numpy()
    assert np.abs(after - expected).mean() < 1e-4


def test_the_plain_loop_has_the_dropouts_of_the_product(config, prepared):
    classic = training_config(config.data.books_path.parent)
    plain, tower = PlainTwoTower(classic, prepared), classic.model.user_encoder
    share = tower.id_embedding.params.dropout
    assert plain.users.id_dropout == plain.items.id_dropout == share == 0.1
    shares = [m.p for m in plain.modules() if isinstance(m, torch.nn.Dropout)]
    assert shares == [tower.feature_encoder.dropout] * 2 == [0.1, 0.1]


def test_plain_negatives_are_unknown_to_the_user(prepared):
    train = prepared.train
    negatives = PlainNegatives(train, prepared.n_warm_items)
    drawn = negatives.sample(train.users, 5, np.random.default_rng(0))
    assert drawn.shape == (len(train), 5)
    assert not train.by_user.contains(train.users[:, None], drawn).any()
    assert len(np.unique(drawn)) > 0.9 * prepared.n_warm_items


def test_rows_are_counted_once_for_each_distinct_one(config, prepared):
    examples = examples_of(config, prepared, prepared.train)
    rows = count_rows(examples)
    expected = []
    for batch in examples.epoch(np.random.default_rng(1)):
        users, items = batch.users[batch.rows].tolist(), batch.items
        used = [items[batch.targets], items[batch.negatives].ravel()]
        expected.append((len(set(users)), len(set(torch.cat(used).tolist()))))
    assert rows["user_rows"] == sum(users for users, _ in expected)
    assert rows["item_rows"] == sum(items for _, items in expected)
