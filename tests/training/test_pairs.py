from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn import functional as F

from recsys.training.pairs import pair_logits
from recsys.workers import Workers


def plain(users, items, user_of, items_of):
    return torch.einsum("bd,bcd->bc", F.embedding(user_of, users), F.embedding(items_of, items))


@pytest.mark.parametrize(("n_users", "n_items", "n_positives"), [(1, 1, 1), (3, 5, 40), (50, 9, 4)])
def test_logits_and_gradients_are_those_of_autograd(n_users, n_items, n_positives):
    torch.manual_seed(0)
    users, items = torch.randn(n_users, 4), torch.randn(n_items, 4)
    user_of = torch.randint(n_users, (n_positives,))
    items_of = torch.randint(n_items, (n_positives, 6))
    weights = torch.randn(n_positives, 6)
    results = []
    for function in (plain, pair_logits):
        leaves = [each.clone().requires_grad_() for each in (users, items)]
        logits = function(*leaves, user_of, items_of)
        (logits * weights).sum().backward()
        results.append([logits.detach(), *(leaf.grad for leaf in leaves)])
    for expected, given in zip(*results, strict=True):
        torch.testing.assert_close(given, expected)


def test_threads_share_the_pairs_without_a_difference():
    torch.manual_seed(0)
    users, items = torch.randn(7, 4), torch.randn(9, 4)
    user_of, items_of = torch.randint(7, (31,)), torch.randint(9, (31, 6))
    results = []
    with ThreadPoolExecutor(3) as pool:
        for workers in (Workers(), Workers(pool, 3)):
            leaves = [each.clone().requires_grad_() for each in (users, items)]
            logits = pair_logits(*leaves, user_of, items_of, workers)
            logits.square().sum().backward()
            results.append([logits.detach(), *(leaf.grad for leaf in leaves)])
    for alone, shared in zip(*results, strict=True):
        assert torch.equal(alone, shared)


def test_rows_that_no_pair_uses_get_no_gradient():
    users, items = torch.ones(3, 2, requires_grad=True), torch.ones(4, 2, requires_grad=True)
    pair_logits(users, items, torch.tensor([1]), torch.tensor([[2, 2]])).sum().backward()
    assert users.grad.tolist() == [[0, 0], [2, 2], [0, 0]]
    assert items.grad.tolist() == [[0, 0], [0, 0], [2, 2], [0, 0]]
