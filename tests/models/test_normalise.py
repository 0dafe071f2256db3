import pytest
import torch
from torch.nn import functional as F

from recsys.models.normalise import normalise


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3)])
def test_vectors_and_gradients_are_torchs_own(shape):
    torch.manual_seed(0)
    vectors, slopes = torch.randn(shape, requires_grad=True), torch.randn(shape)
    found, expected = normalise(vectors), F.normalize(vectors, dim=-1)
    torch.testing.assert_close(found, expected)
    (of_found,) = torch.autograd.grad(found, vectors, slopes)
    (of_expected,) = torch.autograd.grad(expected, vectors, slopes)
    torch.testing.assert_close(of_found, of_expected)


def test_zero_stays_zero_and_has_no_direction_to_learn():
    """A gradient of 1 over next to nothing would spoil the moments of the optimizer for good."""
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    unit = normalise(vectors)
    assert torch.equal(unit[0], torch.zeros(2))
    unit.sum().backward()
    assert torch.equal(vectors.grad[0], torch.zeros(2))
    torch.testing.assert_close(vectors.grad[1], torch.tensor([0.2 - 0.168, 0.2 - 0.224]))
