from dataclasses import fields

import numpy as np
import pytest
import torch

from recsys.data.features import Features
from recsys.models import tower as tower_module
from recsys.models.feature_encoder import FeatureEncoder
from recsys.models.feature_table import FeatureTable
from recsys.models.fusion import AdaptiveMimicFusion, SumFusion
from recsys.models.history import HistoryRows, HistoryWeights, PooledHistory
from recsys.models.id_embedding import IdEmbedding
from recsys.models.tower import Tower

DIM = 3
# User 0 has an id and items, user 1 an id alone, user 2 items alone, and user 3 neither.
USERS = torch.tensor([0, 1, 2, 7])  # of ids, the first two are known
HISTORY = HistoryRows(torch.tensor([0, 2, 2, 3, 3]), torch.tensor([0, 1, 1]))
TABLE = torch.tensor([[1.0, 0, 2], [0, 3, 0]])


def encoder():
    dense = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    return FeatureEncoder(FeatureTable(Features(dense, ("a", "b"), {}, {})), DIM)


def tower(*, ids=True, queries=1, fusion=None):
    torch.manual_seed(0)
    return Tower(
        DIM,
        id_embedding=IdEmbedding(2, DIM) if ids else None,
        history=PooledHistory("sum", DIM, HistoryWeights("none", None), queries=queries),
        encoder=None if fusion is None else encoder(),
        fusion=fusion,
    )


def test_id_and_history_add_up_and_what_is_not_known_adds_nothing():
    made = tower()
    vectors = made(USERS, HISTORY, TABLE)
    ids = made.id_embedding.embedding.weight[1:]
    pooled = torch.tensor([[1.0, 3, 2], [0, 0, 0], [0, 3, 0], [0, 0, 0]])
    expected = pooled + torch.stack([ids[0], ids[1], torch.zeros(DIM), torch.zeros(DIM)])
    torch.testing.assert_close(vectors, expected)


def test_with_several_queries_each_vector_has_the_id():
    made = tower(queries=2)
    vectors = made(USERS, HISTORY, TABLE)
    assert vectors.shape == (4, 2, DIM)
    weight = made.id_embedding.embedding.weight
    torch.testing.assert_close(vectors[1], weight[2].expand(2, DIM))
    twice = torch.stack([2 * weight[1], 2 * weight[2], weight[0], weight[0]])
    pooled = torch.tensor([[1.0, 3, 2], [0, 0, 0], [0, 3, 0], [0, 0, 0]])
    torch.testing.assert_close(vectors.sum(dim=1), pooled + twice)


@pytest.mark.parametrize("queries", [1, 3])
def test_the_gate_is_open_where_there_is_an_id_or_a_history(queries):
    made = tower(queries=queries, fusion=AdaptiveMimicFusion(DIM))
    parts = made.parts(USERS, HISTORY, TABLE)
    assert parts.is_known.tolist() == [True, True, False, False]
    assert parts.is_there.tolist() == [True, True, True, False]
    gates = made.gates(parts)
    assert gates.shape == parts.vectors.shape
    assert (gates[:3] > 0).all() and (gates[3] == 0).all()
    torch.testing.assert_close(parts.vectors[3], parts.metadata[3].expand_as(parts.vectors[3]))


def test_metadata_is_added_to_each_vector_of_a_user():
    plain, fused = tower(queries=2), tower(queries=2, fusion=SumFusion())
    without = plain(torch.tensor([0, 1, 2, 3]), HISTORY, TABLE)
    parts = fused.parts(torch.tensor([0, 1, 2, 3]), HISTORY, TABLE)
    torch.testing.assert_close(parts.vectors, without + parts.metadata.unsqueeze(1))
    assert not fused.has_gates


def test_a_tower_of_metadata_alone_is_its_metadata():
    made = Tower(DIM, encoder=encoder(), fusion=SumFusion())
    parts = made.parts(torch.tensor([5, 0]))
    assert torch.equal(parts.vectors, parts.metadata)
    assert not parts.is_there.any()


def test_a_number_stands_for_the_first_so_many():
    made = tower(fusion=SumFusion())
    torch.testing.assert_close(made(4, HISTORY, TABLE), made(torch.arange(4), HISTORY, TABLE))


def test_rows_that_fill_up_a_batch_leave_no_trace(monkeypatch):
    torch.manual_seed(0)
    made = Tower(
        DIM,
        id_embedding=IdEmbedding(2, DIM, sparse=True),
        encoder=encoder(),
        fusion=AdaptiveMimicFusion(DIM),
    )
    outcomes = []
    for padding in (1, 128):
        monkeypatch.setattr(tower_module, "PADDING", padding)
        made.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            parts = made.parts(torch.tensor([0, 1, 7]))
        (parts.vectors.square().sum() + parts.metadata.sum()).backward()
        gradients = [weight.grad.to_dense() for weight in made.parameters()]
        outcomes.append([*(getattr(parts, each.name) for each in fields(parts)), *gradients])
    for alone, filled_up in zip(*outcomes, strict=True):
        torch.testing.assert_close(filled_up, alone, rtol=2**-6, atol=2**-6)
