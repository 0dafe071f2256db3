"""The loop that the product is measured against must compute what the product computes."""

import numpy as np
import pytest
import torch

from benchmarks.plain_loop import PlainLoop, PlainNegatives, PlainTwoTower, copy_weights
from benchmarks.shop import NUMERIC_COLUMNS, write_distinct_shop
from benchmarks.training_sides import count_rows
from recsys.config import Config
from recsys.data.dataset import prepare
from recsys.models.two_tower import build_two_tower
from recsys.training.batches import BatchStream
from recsys.training.optimizers import build_optimizer
from recsys.training.sampling import NegativeSampler
from recsys.training.trainer import Plan, Trainer

SEED = 3


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_distinct_shop(folder, n_users=60, n_items=80, n_train=600, seed=0)
    return Config.model_validate(
        {
            "data": {
                "books_path": folder / "books.csv",
                "interactions_path": folder / "users.csv",
                "cache_dir": folder / "cache",
                "numeric_columns": NUMERIC_COLUMNS,
                "min_user_interactions": 1,
                "min_item_interactions": 1,
            },
            "model": {
                "embedding_dim": 8,
                "id_dropout": 0.0,
                "encoder": {"hidden_dims": [16], "dropout": 0.0},
            },
            "training": {"batch_size": 64, "negatives_per_positive": 3},
        }
    )


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


def batches_of(config, prepared):
    sampler = NegativeSampler(prepared.train, prepared.n_warm_items, kind="uniform")
    training = config.training
    return BatchStream(
        prepared.train,
        sampler,
        batch_size=training.batch_size,
        negatives_per_positive=training.negatives_per_positive,
    )


def product_losses(model, config, prepared):
    """The loss of each step of the product's first epoch."""
    trainer = Trainer(
        model,
        batches_of(config, prepared),
        build_optimizer(model, config.training),
        lambda model: {},
        Plan(num_epochs=1, monitor="ndcg@10", seed=SEED),
    )
    totals = [(0, 0.0)]
    next(trainer.epochs(lambda step: totals.append((step.positives, float(step.loss)))))
    sums = [done * mean for done, mean in totals]
    counts = [done for done, _ in totals]
    return np.diff(sums) / np.diff(counts)


def plain_losses(plain, config, prepared):
    """The loss of each step of the plain loop on the same batches."""
    loop, losses = PlainLoop(plain, config), []
    for batch in batches_of(config, prepared).epoch(np.random.default_rng(SEED)):
        users = batch.users[batch.user_of]
        positives, negatives = batch.items[batch.positive_of], batch.items[batch.negatives_of]
        losses.append(float(loop.step(users, positives, negatives)))
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
    default = Config.model_validate({"data": config.data.model_dump()})
    plain = PlainTwoTower(default, prepared)
    assert plain.users.id_dropout == plain.items.id_dropout == default.model.id_dropout == 0.1
    shares = [m.p for m in plain.modules() if isinstance(m, torch.nn.Dropout)]
    assert shares == [default.model.encoder.dropout] * 2 == [0.1, 0.1]


def test_plain_negatives_are_unknown_to_the_user(prepared):
    train = prepared.train
    negatives = PlainNegatives(train, prepared.n_warm_items)
    drawn = negatives.sample(train.users, 5, np.random.default_rng(0))
    assert drawn.shape == (len(train), 5)
    assert not train.by_user.contains(train.users[:, None], drawn).any()
    assert len(np.unique(drawn)) > 0.9 * prepared.n_warm_items


def test_rows_are_counted_once_for_each_distinct_one(config, prepared):
    batches = batches_of(config, prepared)
    rows = count_rows(batches)
    expected = [
        (
            len(set(b.users[b.user_of])),
            len({*b.items[b.positive_of], *b.items[b.negatives_of.ravel()]}),
        )
        for b in batches.epoch(np.random.default_rng(1))
    ]
    assert rows["user_rows"] == sum(users for users, _ in expected)
    assert rows["item_rows"] == sum(items for _, items in expected)
