import copy

import pytest
import torch
from torch import nn
from torch.optim import SparseAdam

from recsys.training.row_adam import RowAdam


def train(embedding, optimizer, batches, targets):
    for rows in batches:
        optimizer.zero_grad()
        (embedding(rows) - targets[rows]).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("scale", [1.0, 1e-7])  # at the second, eps weighs as much as gradients
def test_the_steps_are_those_of_sparse_adam(scale):
    torch.manual_seed(0)
    embedding = nn.Embedding(50, 4, sparse=True)
    embedding.weight.data *= scale  # else float32 would round such steps away
    twin = copy.deepcopy(embedding)
    targets = embedding.weight.detach() + scale * torch.randn(50, 4)
    batches = [torch.randperm(50)[:20] for _ in range(30)]
    train(embedding, RowAdam(embedding.parameters(), lr=0.01 * scale), batches, targets)
    train(twin, SparseAdam(list(twin.parameters()), lr=0.01 * scale), batches, targets)
    torch.testing.assert_close(embedding.weight, twin.weight, rtol=1e-5, atol=1e-6 * scale)


def test_a_batch_without_rows_counts_as_a_step_and_moves_nothing():
    embedding = nn.Embedding(5, 2, sparse=True)
    before, optimizer = embedding.weight.detach().clone(), RowAdam(embedding.parameters())
    embedding(torch.tensor([], dtype=torch.int64)).sum().backward()
    optimizer.step()
    assert torch.equal(embedding.weight, before)
    assert optimizer.state[embedding.weight]["step"] == 1
