"""The plain softmax that the product is measured against must compute what the product computes."""

import pytest
import torch

from benchmarks.bars.training_softmax import plain_nll
from recsys.training.ops import Catalogue, Scoring, catalogue_nll


@pytest.mark.parametrize("n_vectors", [1, 3])
def test_the_plain_softmax_has_the_same_loss_and_gradients(n_vectors):
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(4, n_vectors, 5, generator=generator)
    items = torch.randn(9, 5, generator=generator)
    positives = torch.tensor([0, 0, 2, 3]), torch.tensor([1, 4, 8, 0])
    masked = torch.tensor([0, 1, 3, 3]), torch.tensor([2, 5, 6, 7])
    pairs = Catalogue(*positives, *masked, Scoring("logsumexp"))
    found = []
    for nll in (catalogue_nll, plain_nll):
        leaves = [users.clone().requires_grad_(), items.clone().requires_grad_()]
        loss = nll(*leaves, pairs)
        loss.backward()
        found.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    torch.testing.assert_close(found[0], found[1])
