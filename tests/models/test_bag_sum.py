import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.models.bag_sum import _sum_bags, add_bags, entries


def bag_of(bags, rng, weighted):
    """Lists of columns as a bag, and as a dense matrix."""
    columns = torch.tensor([column for bag in bags for column in bag], dtype=torch.int32)
    lengths = torch.tensor([len(bag) for bag in bags], dtype=torch.int64)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    shares = torch.from_numpy(rng.random(len(columns), dtype=np.float32)) if weighted else None
    matrix = torch.zeros(len(bags), 7)
    owners = torch.repeat_interleave(torch.arange(len(bags)), lengths)
    for entry, (owner, column) in enumerate(zip(owners, columns, strict=True)):
        matrix[owner, column] += 1.0 if shares is None else shares[entry]
    return (offsets, columns, shares), matrix


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=1, max_size=8),
    st.booleans(),
    st.data(),
)
def test_sums_and_gradients_are_those_of_a_dense_matrix(bags, weighted, data):
    rng = np.random.default_rng(0)
    bag, matrix = bag_of(bags, rng, weighted)
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(bags) - 1))), dtype=torch.int64)
    weight = torch.from_numpy(rng.normal(size=(7, 3)).astype(np.float32)).requires_grad_()
    start = torch.from_numpy(rng.normal(size=(len(rows), 3)).astype(np.float32)).requires_grad_()
    towards = torch.from_numpy(rng.normal(size=(len(rows), 3)).astype(np.float32))

    total = add_bags(start.clone(), weight, bag, rows)
    (total * towards).sum().backward()

    torch.testing.assert_close(total, start + matrix[rows] @ weight)
    torch.testing.assert_close(weight.grad, matrix[rows].T @ towards)
    torch.testing.assert_close(start.grad, towards)
    torch.testing.assert_close(_sum_bags(weight, bag, rows), matrix[rows] @ weight)


def test_entries_of_chosen_rows_stand_one_after_the_other():
    bag, _ = bag_of([[1, 2], [], [3], [4, 5, 6]], np.random.default_rng(0), weighted=True)
    offsets, columns, shares = entries(bag, torch.tensor([3, 1, 0]))
    assert offsets.tolist() == [0, 3, 3, 5]
    assert columns.tolist() == [4, 5, 6, 1, 2]
    assert torch.equal(shares, bag[2][[3, 4, 5, 0, 1]])
