"""The pass that threads share, held against one graph over the whole batch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from recsys.models.draws import Draws, threshold
from recsys.models.dropout import ReluDropout
from recsys.models.two_tower import build_two_tower
from recsys.training import tower_kernels as kernels
from recsys.training import tower_pass
from recsys.training.compiled_tower import CompiledTower
from recsys.training.tower_pass import TowerPass
from recsys.workers import Workers

MIMIC_WEIGHT = 0.3


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(tower_pass, "ROWS_A_PART", 2)


def build(board_config, board_prepared, fusion, encoder=None, **settings):
    tower = {"fusion": fusion}
    model = {"user_tower": tower, "item_tower": tower, "id_dropout": 0.2} | settings
    if fusion != "identity":
        model["encoder"] = {"hidden_dims": [8, 6], "dropout": 0.3} | (encoder or {})
    config = board_config({"model": model})
    torch.manual_seed(3)
    return build_two_tower(config.model, board_prepared).train()


def batch_of(prepared):
    users = torch.arange(0, prepared.n_warm_users, 2)
    items = torch.arange(0, prepared.n_warm_items, 3)
    return users, items


def by_one_graph(model, users, items, mimic_weight, *, bfloat16=False):
    """Vectors, loss and gradients by the modules and autograd, over the whole batch."""
    draws = Draws.fresh(), Draws.fresh()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
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


def by_parts(model, users, items, mimic_weight, workers, *, bfloat16=False):
    towers = TowerPass(model, workers, mimic_weight=mimic_weight, bfloat16=bfloat16)
    model.zero_grad()
    *vectors, mimic = towers.forward(users, items)
    vectors = [each.requires_grad_() for each in vectors]
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
        rounding = 1e-5 * gradient.abs().sum().clamp(max=1).item()
        torch.testing.assert_close(given_gradients[name], gradient, rtol=1e-4, atol=rounding)


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


def assert_gradients(given, expected, rounding):
    """Each but for rounding against its own largest entry."""
    assert given.keys() == expected.keys()
    for name, gradient in expected.items():
        if gradient.numel():
            apart = (given[name] - gradient).abs().max().item()
            assert apart <= rounding * gradient.abs().max().item() + 1e-7, name


def both_ways(model, prepared, mimic_weight=MIMIC_WEIGHT, **options):
    users, items = batch_of(prepared)
    results = []
    for way, more in ((by_parts, (Workers(),)), (by_one_graph, ())):
        torch.manual_seed(0)
        results.append(way(model, users, items, mimic_weight, *more, **options))
    return results


@pytest.mark.parametrize(
    ("encoder", "settings"),
    [
        ({"categories": {"encoding": "embedding", "dim": 4}}, {}),
        ({"kind": "linear", "hidden_dims": None, "dropout": None}, {}),
        ({"dropout": 0.0}, {"id_dropout": 0.0}),
        ({}, {"similarity": "dot"}),
        ({}, {"temperature": 0.05, "learn_temperature": False}),
    ],
)
def test_every_kind_of_tower_is_compiled_to_what_its_modules_say(
    board_config, board_prepared, encoder, settings
):
    model = build(board_config, board_prepared, "adaptive_mimic", encoder, **settings)
    (given, gradients_given), (expected, gradients_wanted) = both_ways(model, board_prepared)
    assert all(map(CompiledTower.supports, (model.user_tower, model.item_tower)))
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert_gradients(gradients_given, gradients_wanted, 1e-4)


@pytest.mark.parametrize("fusion", ["sum", "concat", "adaptive_mimic"])
def test_in_bfloat16_the_products_are_those_of_autocast(board_config, board_prepared, fusion):
    model = build(board_config, board_prepared, fusion)
    with torch.no_grad():  # bags are summed in bfloat16 by the one, in float32 by the other
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    weight = MIMIC_WEIGHT if fusion == "adaptive_mimic" else 0.0
    (given, gradients_given), (expected, gradients_wanted) = both_ways(
        model, board_prepared, weight, bfloat16=True
    )
    exact, _ = both_ways(model, board_prepared, weight)[1]
    for one, other, unrounded in zip(given, expected, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0.01, atol=0.01 * other.abs().max().item())
        assert not torch.equal(one, unrounded) or not one.any()
    assert all(each.dtype is torch.float32 for each in gradients_given.values())
    assert_gradients(gradients_given, gradients_wanted, 0.05)


def test_a_temperature_at_its_bound_gets_no_gradient(board_config, board_prepared):
    model = build(board_config, board_prepared, "adaptive_mimic")
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    (given, gradients_given), (expected, _) = both_ways(model, board_prepared)
    torch.testing.assert_close(given[0], expected[0])
    torch.testing.assert_close(given[0].norm(dim=1), torch.full((len(given[0]),), 100.0))
    assert gradients_given["log_scale"] == 0


def test_dense_gradients_and_ids_alone_go_by_autograd(board_config, board_prepared):
    for settings in ({"fusion": "identity"}, {"fusion": "sum", "sparse": False}):
        model = build(board_config, board_prepared, **settings)
        assert not CompiledTower.supports(model.user_tower)


def test_a_tower_of_ids_alone_meets_a_compiled_one(board_config, board_prepared):
    towers = {"user_tower": {"fusion": "identity"}, "item_tower": {"fusion": "sum"}}
    model = build(board_config, board_prepared, "sum", **towers)
    assert [CompiledTower.supports(each) for each in (model.user_tower, model.item_tower)] == [
        False,
        True,
    ]
    (given, gradients_given), (expected, gradients_wanted) = both_ways(model, board_prepared, 0.0)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert_gradients(gradients_given, gradients_wanted, 1e-4)


def test_a_compiled_activation_keeps_the_units_that_the_module_keeps():
    keys = Draws(5).rows(1, 40)
    units, active = torch.randn(40, 9), torch.empty(40, 9)
    units[3, 4] = units[5, :] = torch.nan  # a broken model is not to look like one that learns
    limit, scale = np.uint32(threshold(0.3)), np.float32(1 / 0.7)
    kernels.keep_active(units.numpy(), keys, limit, scale, active.numpy())
    module = ReluDropout(0.3, 1)
    torch.testing.assert_close(active, module(units, Draws(5)), equal_nan=True)
    assert active.isnan().any()
    assert 0 < (active > 0).sum() < (units > 0).sum()
