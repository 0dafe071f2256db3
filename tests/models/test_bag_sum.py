import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.models.bag_sum import entries, sum_bags
from recsys.narrow import numbers
from recsys.training import tower_kernels as kernels


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
    st.lists(st.lists(st.integers(0, 6), max_size=9), min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.data(),
)
def test_sums_and_gradients_are_those_of_a_dense_matrix(bags, weighted, kind, data):
    rng = np.random.default_rng(0)
    bag, matrix = bag_of(bags, rng, weighted)
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(bags) - 1))), dtype=torch.int64)
    weight = torch.from_numpy(rng.normal(size=(7, 3)).astype(np.float32)).to(kind)
    start = torch.from_numpy(rng.normal(size=(len(rows), 3)).astype(np.float32))
    slopes = torch.from_numpy(rng.normal(size=(len(rows), 3)).astype(np.float32))
    wanted = start + matrix[rows] @ weight.float()

    torch.testing.assert_close(start + sum_bags(weight.float(), bag, rows), wanted)
    shares = np.empty(0, dtype=np.float32) if bag[2] is None else bag[2].numpy()
    arrays = (bag[0].numpy(), bag[1].numpy(), shares, rows.numpy())
    kernels.gather(*arrays, numbers(weight), start.numpy())
    torch.testing.assert_close(start, wanted)
    to_weight = torch.zeros(7, 3)
    kernels.scatter(*arrays, slopes.numpy(), to_weight.numpy())
    torch.testing.assert_close(to_weight, matrix[rows].T @ slopes)


def test_entries_of_chosen_rows_stand_one_after_the_other():
    bag, _ = bag_of([[1, 2], [], [3], [4, 5, 6]], np.random.default_rng(0), weighted=True)
    offsets, columns, shares = entries(bag, torch.tensor([3, 1, 0]))
    assert offsets.tolist() == [0, 3, 3, 5]
    assert columns.tolist() == [4, 5, 6, 1, 2]
    assert torch.equal(shares, bag[2][[3, 4, 5, 0, 1]])
