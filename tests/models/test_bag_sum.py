import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.models.bag_sum import sum_rows
from recsys.models.grouping import group


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), max_size=5), max_size=8), st.booleans())
def test_sums_and_gradients_are_those_of_a_dense_matrix(bags, weighted):
    rng = np.random.default_rng(0)
    columns = torch.tensor([column for bag in bags for column in bag], dtype=torch.int32)
    lengths = torch.tensor([len(bag) for bag in bags], dtype=torch.int64)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    shares = torch.from_numpy(rng.random(len(columns), dtype=np.float32))
    weight = torch.from_numpy(rng.normal(size=(7, 3)).astype(np.float32)).requires_grad_()
    towards = torch.from_numpy(rng.normal(size=(len(bags), 3)).astype(np.float32))

    total = sum_rows(weight, offsets, columns, shares if weighted else None)
    (total * towards).sum().backward()

    matrix = torch.zeros(len(bags), 7)
    owners = torch.repeat_interleave(torch.arange(len(bags)), lengths)
    for owner, column, share in zip(owners, columns, shares, strict=True):
        matrix[owner, column] += share if weighted else 1.0
    torch.testing.assert_close(total, matrix @ weight)
    torch.testing.assert_close(weight.grad, matrix.T @ towards)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=50))
def test_entries_of_a_key_stand_together_in_the_order_they_came(keys):
    order, starts = group(torch.tensor(keys, dtype=torch.int64), 10)
    for key in range(10):
        entries = order[starts[key] : starts[key + 1]].tolist()
        assert entries == [entry for entry, each in enumerate(keys) if each == key]


def test_more_keys_than_16_bits_hold_are_grouped_alike():
    keys = torch.tensor([70_000, 4_464, 70_000, 0])  # 70,000 and 4,464 agree in 16 bits
    order, starts = group(keys, 70_001)
    assert order.tolist() == [3, 1, 0, 2]
    assert starts[-2:].tolist() == [2, 4]
