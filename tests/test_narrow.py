import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.compiled import compiled
from recsys.narrow import narrow, numbers, widen

KINDS = [torch.float32, torch.bfloat16]


@compiled
def copy(source, target):
    for row in range(len(source)):
        for column in range(source.shape[1]):
            target[row, column] = narrow(widen(source[row, column]), target)


def copied(tensor, kind):
    target = torch.empty(tensor.shape, dtype=kind)
    copy(numbers(tensor), numbers(target))
    return target


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_numbers_become_what_torch_makes_of_them(kind, to, values):
    tensor = torch.tensor([values]).to(kind)
    assert torch.equal(copied(tensor, to).isnan(), tensor.isnan())
    torch.testing.assert_close(copied(tensor, to), tensor.to(to), rtol=0, atol=0, equal_nan=True)


def test_a_number_halfway_goes_to_the_even_one_and_any_nan_stays_one():
    halfway = torch.tensor([[1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8]])
    assert copied(halfway, torch.bfloat16).tolist() == [[1, 1 + 2**-6, -1]]
    bits = np.array([[0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF]], dtype=np.uint32)
    assert copied(torch.from_numpy(bits.view(np.float32)), torch.bfloat16).isnan().all()


def test_a_tensor_in_another_order_is_read_in_its_own():
    tensor = torch.arange(6.0).view(2, 3).t()
    assert numbers(tensor).tolist() == [[0, 3], [1, 4], [2, 5]]
