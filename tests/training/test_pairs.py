from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn import functional as F

from recsys.training.losses import sampled_bce
from recsys.training.pairs import _by_autograd, pair_loss
from recsys.workers import Workers


def values(loss):
    return [loss.positive, loss.negative, loss.to_users, loss.to_items]


def plain(users, items, user_of, items_of):
    """The vectors of all pairs written out, and autograd."""
    leaves = [each.clone().requires_grad_() for each in (users, items)]
    of_users, of_items = F.embedding(user_of, leaves[0]), F.embedding(items_of, leaves[1])
    logits = (of_users.unsqueeze(1) * of_items).sum(2)
    positive, negative = sampled_bce(logits[:, 0], logits[:, 1:])
    (positive + negative).backward()
    return [positive.detach(), negative.detach(), *(leaf.grad for leaf in leaves)]


def pairs(n_users, n_items, n_positives, k=5, scale=1.0):
    torch.manual_seed(0)
    users, items = scale * torch.randn(n_users, 4), torch.randn(n_items, 4)
    user_of = torch.randint(n_users, (n_positives,))
    return users, items, user_of, torch.randint(n_items, (n_positives, 1 + k))


@pytest.mark.parametrize("way", [pair_loss, _by_autograd])
@pytest.mark.parametrize("scale", [1.0, 200.0])  # at the second some lose all, and others nothing
@pytest.mark.parametrize(
    ("n_users", "n_items", "n_positives", "k"), [(1, 1, 1, 1), (3, 5, 40, 5), (50, 9, 4, 30)]
)
def test_loss_and_gradients_are_those_of_autograd(n_users, n_items, n_positives, k, scale, way):
    given = pairs(n_users, n_items, n_positives, k, scale)
    for mine, wanted in zip(values(way(*given)), plain(*given), strict=True):
        assert mine.dtype is torch.float32 and not mine.requires_grad
        torch.testing.assert_close(mine, wanted)


def test_threads_share_the_pairs_without_a_difference():
    given = pairs(7, 9, 31)
    with ThreadPoolExecutor(2) as pool:
        shared = values(pair_loss(*given, Workers(pool, 3)))
    alone = values(pair_loss(*given))
    assert all(map(torch.equal, shared[2:], alone[2:]))
    torch.testing.assert_close(shared[:2], alone[:2])  # sums in another order


def test_rows_that_no_pair_uses_get_no_gradient():
    users, items = torch.ones(3, 2), torch.ones(4, 2)
    loss = pair_loss(users, items, torch.tensor([1]), torch.tensor([[2, 2]]))
    assert (loss.to_users != 0).any(dim=1).tolist() == [False, True, False]
    assert (loss.to_items != 0).any(dim=1).tolist() == [False, False, True, False]
