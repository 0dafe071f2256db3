"""The pass that threads share, held against one graph over the whole batch."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from recsys.models.draws import Draws
from recsys.models.two_tower import build_two_tower
from recsys.training import tower_pass
from recsys.training.tower_pass import TowerPass
from recsys.workers import Workers

MIMIC_WEIGHT = 0.3


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(tower_pass, "ROWS_A_PART", 2)


def build(board_config, board_prepared, fusion):
    tower = {"fusion": fusion}
    model = {"user_tower": tower, "item_tower": tower, "id_dropout": 0.2}
    if fusion != "identity":
        model["encoder"] = {"hidden_dims": [8, 6], "dropout": 0.3}
    config = board_config({"model": model})
    torch.manual_seed(3)
    return build_two_tower(config.model, board_prepared).train()


def batch_of(prepared):
    users = torch.arange(0, prepared.n_warm_users, 2)
    items = torch.arange(0, prepared.n_warm_items, 3)
    return users, items


def by_one_graph(model, users, items, mimic_weight):
    """Vectors, loss and gradients by autograd over the whole batch."""
    draws = Draws.fresh(), Draws.fresh()
    parts = model.user_tower.parts(users, draws[0]), model.item_tower.parts(items, draws[1])
    vectors = model.match_users(parts[0].vectors), model.match_items(parts[1].vectors)
    loss = (vectors[0] @ vectors[1].T).sigmoid().sum()
    mimic = torch.zeros(())
    for part in parts if mimic_weight else ():
        distances = (part.metadata - part.ids.detach()).square().mean(dim=1)[part.is_known]
        mimic = mimic + mimic_weight * distances.mean()
    model.zero_grad()
    (loss + mimic).backward()
    return [each.detach() for each in (*vectors, mimic)], gradients(model)


def by_parts(model, users, items, mimic_weight, workers):
    towers = TowerPass(model, workers, mimic_weight=mimic_weight)
    model.zero_grad()
    *vectors, mimic = towers.forward(users, items)
    loss = (vectors[0] @ vectors[1].T).sigmoid().sum()
    towers.backward(*torch.autograd.grad(loss, vectors))
    given = [each.detach() for each in vectors]
    return [*given, torch.zeros(()) if mimic is None else mimic], gradients(model)


def gradients(model):
    return {
        name: parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize(
    ("fusion", "mimic_weight"),
    [
        ("identity", 0.0),
        ("sum", 0.0),
        ("concat", 0.0),
        ("adaptive_mimic", 0.0),
        ("adaptive_mimic", MIMIC_WEIGHT),
    ],
)
def test_parts_give_what_one_graph_over_the_batch_gives(
    board_config, board_prepared, small_parts, fusion, mimic_weight, n_threads
):
    model = build(board_config, board_prepared, fusion)
    users, items = batch_of(board_prepared)
    torch.manual_seed(0)
    expected, expected_gradients = by_one_graph(model, users, items, mimic_weight)
    torch.manual_seed(0)
    with ThreadPoolExecutor(n_threads) as pool:
        workers = Workers(pool, n_threads)
        given, given_gradients = by_parts(model, users, items, mimic_weight, workers)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert given_gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(given_gradients[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_same_threads_give_the_same_bits(board_config, board_prepared, small_parts):
    model = build(board_config, board_prepared, "adaptive_mimic")
    users, items = batch_of(board_prepared)
    results = []
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            torch.manual_seed(0)
            results.append(by_parts(model, users, items, MIMIC_WEIGHT, Workers(pool, 3)))
    for given, given_gradients in results[1:]:
        assert all(map(torch.equal, given, results[0][0]))
        for name, gradient in given_gradients.items():
            assert torch.equal(gradient, results[0][1][name])
