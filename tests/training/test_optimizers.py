import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from recsys.models.build import build_two_tower
from recsys.models.id_embedding import IdEmbedding
from recsys.training.optimizers import (
    HybridOptimizer,
    build_dense,
    build_optimizer,
    parameter_size,
)
from recsys.training.row_adam import RowAdam


def train(embedding, linear, optimizer, batches):
    for rows in batches:
        optimizer.zero_grad()
        linear(embedding(rows)).square().sum().backward()
        optimizer.step()


def twins():
    torch.manual_seed(0)
    sparse, linear = nn.Embedding(5, 3, sparse=True), nn.Linear(3, 1)
    dense = nn.Embedding(5, 3)
    dense.load_state_dict(sparse.state_dict())
    dense_linear = copy.deepcopy(linear)
    hybrid = HybridOptimizer(Adam(linear.parameters()), RowAdam(sparse.parameters()))
    plain = Adam([*dense.parameters(), *dense_linear.parameters()])
    return (sparse, linear, hybrid), (dense, dense_linear, plain)


def test_hybrid_agrees_with_plain_adam_where_every_row_is_touched():
    hybrid, plain = twins()
    batches = [torch.randperm(5) for _ in range(20)]
    train(*hybrid, batches)
    train(*plain, batches)
    torch.testing.assert_close(hybrid[0].weight, plain[0].weight)
    torch.testing.assert_close(hybrid[1].weight, plain[1].weight)


def test_hybrid_leaves_untouched_rows_alone_where_plain_adam_moves_them_by_momentum():
    hybrid, plain = twins()
    batches = [torch.arange(5), torch.tensor([0, 1])]
    for twin in (hybrid, plain):
        train(*twin, batches[:1])
    before = [twin[0].weight[4].clone() for twin in (hybrid, plain)]
    for twin in (hybrid, plain):
        train(*twin, batches[1:])
    assert torch.equal(hybrid[0].weight[4], before[0])
    assert not torch.equal(plain[0].weight[4], before[1])


def test_a_loaded_state_goes_on_exactly():
    (embedding, linear, optimizer), _ = twins()
    train(embedding, linear, optimizer, [torch.arange(5)])
    other = (copy.deepcopy(embedding), copy.deepcopy(linear))
    dense = Adam(other[1].parameters())
    resumed = HybridOptimizer(dense, RowAdam(other[0].parameters()))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    batches = [torch.tensor([1, 2, 3])] * 3
    train(embedding, linear, optimizer, batches)
    train(*other, resumed, batches)
    assert torch.equal(embedding.weight, other[0].weight)
    assert torch.equal(linear.weight, other[1].weight)


def test_a_forgotten_gradient_is_none_so_that_momentum_does_not_move_the_weight():
    (embedding, linear, optimizer), _ = twins()
    linear(embedding(torch.arange(5))).sum().backward()
    optimizer.zero_grad()
    assert embedding.weight.grad is None and linear.weight.grad is None


def test_a_scaled_step_is_that_of_a_smaller_learning_rate_and_is_not_remembered():
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    twin = copy.deepcopy(layer)
    hybrid = HybridOptimizer(SGD(layer.parameters(), lr=0.4), None)
    plain = [SGD(twin.parameters(), lr=rate) for rate in (0.1, 0.4)]
    for scale, other in zip((0.25, 1.0), plain, strict=True):
        rows = torch.randn(5, 3)
        for each in (layer, twin):
            each.zero_grad()
            each(rows).square().mean().backward()
        hybrid.step(scale)
        other.step()
    assert torch.equal(layer.weight, twin.weight)


def test_ids_have_a_step_size_of_their_own_and_no_weight_decay(board_config, board_prepared):
    tables = {
        "user_encoder": {"id_embedding": {"type": "embedding", "params": {"sparse": True}}},
        "item_encoder": {"id_embedding": {"params": {"sparse": False}}},
    }
    training = {
        "learning_rate": 0.3,
        "embedding_learning_rate": 0.7,
        "weight_decay": 0.2,
        "betas": [0.5, 0.6],
    }
    config = board_config({"model": tables, "training": training})
    model = build_two_tower(config.model, board_prepared)
    state = build_optimizer(model, config.training).state_dict()
    groups = {name: state[name]["param_groups"] for name in state}
    told = [(g["lr"], g["weight_decay"], g["betas"]) for g in groups["dense"]]
    assert told == [(0.7, 0.0, (0.5, 0.6)), (0.3, 0.2, (0.5, 0.6))]
    assert [(g["lr"], g["betas"]) for g in groups["sparse"]] == [(0.7, (0.5, 0.6))]
    counts = [len(g["params"]) for name in ("dense", "sparse") for g in groups[name]]
    assert counts == [1, len(list(model.parameters())) - 2, 1]


@pytest.mark.parametrize(
    ("sparse", "with_linear", "groups"),
    [
        ([True, True], False, {"sparse": [2]}),
        ([False, False], False, {"dense": [2]}),
        ([False, True], True, {"dense": [1, 2], "sparse": [1]}),
        ([], True, {"dense": [2]}),
    ],
)
def test_there_are_only_the_optimizers_that_have_something_to_move(
    board_config, sparse, with_linear, groups
):
    model = nn.ModuleList(IdEmbedding(5, 2, sparse=each) for each in sparse)
    if with_linear:
        model.append(nn.Linear(2, 2))
    state = build_optimizer(model, board_config().training).state_dict()
    found = {name: [len(g["params"]) for g in each["param_groups"]] for name, each in state.items()}
    assert found == groups


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("adam", Adam, {"lr": 0.3, "betas": (0.5, 0.6), "weight_decay": 0.2}),
        ("adamw", AdamW, {"lr": 0.3, "betas": (0.5, 0.6), "weight_decay": 0.2}),
        ("sgd", SGD, {"lr": 0.3, "weight_decay": 0.2, "momentum": 0}),
    ],
)
def test_a_dense_optimizer_is_made_of_its_settings(board_config, name, kind, told):
    training = {"optimizer": name, "learning_rate": 0.3, "weight_decay": 0.2}
    training |= {} if name == "sgd" else {"betas": [0.5, 0.6]}
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [{"params": [weights[0]], "lr": 0.7}, {"params": [weights[1]]}]
    optimizer = build_dense(groups, board_config({"training": training}).training)
    assert type(optimizer) is kind
    assert [g["params"] for g in optimizer.param_groups] == [[weights[0]], [weights[1]]]
    found = [{key: group[key] for key in told} for group in optimizer.param_groups]
    assert found == [told | {"lr": 0.7}, told]


def test_the_size_of_a_model_counts_each_parameter_in_its_own_precision():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1).bfloat16())
    assert parameter_size(model) == (8 + 3, 8 * 4 + 3 * 2)
