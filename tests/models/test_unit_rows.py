import torch
from torch.nn import functional as F

from recsys.models.unit_rows import unit_rows


def test_rows_and_gradients_are_those_of_torchs_normalize():
    torch.manual_seed(0)
    vectors, towards = torch.randn(20, 5) * 3, torch.randn(20, 5)
    results = []
    for function in (unit_rows, F.normalize):
        leaf = vectors.clone().requires_grad_()
        units = function(leaf)
        (units * towards).sum().backward()
        results.append((units.detach(), leaf.grad))
    for given, expected in zip(*results, strict=True):
        torch.testing.assert_close(given, expected)


def test_a_row_of_zeros_stays_one():
    assert unit_rows(torch.zeros(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_no_gradient_goes_along_the_row():
    vectors = torch.tensor([[3.0, 4.0]], requires_grad=True)
    unit_rows(vectors)[0].dot(torch.tensor([6.0, 8.0])).backward()
    torch.testing.assert_close(vectors.grad, torch.zeros(1, 2), atol=1e-6, rtol=0)
