import numpy as np
import pytest
import torch

from recsys.models.bags import (
    BagTensors,
    as_tensor,
    entry_products,
    repeated,
    softmax_entries,
    sum_bags,
    sum_entries,
    transposed,
)

LENGTHS = (2, 0, 3, 1, 0)  # of the five bags
COLUMNS = (0, 2, 2, 1, 3, 2)


def bags(*, weights=None, dtype=torch.int64):
    offsets = torch.tensor([0, *np.cumsum(LENGTHS)])
    return BagTensors(offsets, torch.tensor(COLUMNS, dtype=dtype), weights)


def dense(weights, n_columns=4):
    """The bags as a matrix, (5, n_columns)."""
    cells = torch.arange(5).repeat_interleave(torch.tensor(LENGTHS)), torch.tensor(COLUMNS)
    return torch.zeros(5, n_columns).index_put(cells, weights, accumulate=True)


@pytest.fixture
def table():
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.fixture
def weights():
    return torch.rand(6, generator=torch.Generator().manual_seed(1), requires_grad=True)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_sums_and_both_gradients_are_those_of_a_dense_matrix(table, weights, dtype):
    slopes = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    found = sum_bags(table, bags(weights=weights, dtype=dtype))
    expected = dense(weights) @ table
    torch.testing.assert_close(found, expected)
    of_found = torch.autograd.grad(found, (table, weights), slopes)
    of_expected = torch.autograd.grad(expected, (table, weights), slopes)
    torch.testing.assert_close(of_found, of_expected)


def test_a_bag_is_repeated_with_other_weights_each_time(table):
    weights = torch.rand(6, 2, generator=torch.Generator().manual_seed(1), requires_grad=True)
    found = sum_bags(table, repeated(bags(), weights)).view(5, 2, 3)
    expected = torch.stack([dense(each) @ table for each in weights.unbind(dim=1)], dim=1)
    torch.testing.assert_close(found, expected)
    slopes = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        torch.autograd.grad(found, (table, weights), slopes),
        torch.autograd.grad(expected, (table, weights), slopes),
    )


@pytest.mark.parametrize("n_rows", [1, 5])  # of one row there are more entries than cells
def test_each_entry_has_the_product_of_its_row_and_its_column(table, n_rows):
    rows = torch.randn(n_rows, 3, generator=torch.Generator().manual_seed(3))
    own = bags() if n_rows == 5 else BagTensors(torch.tensor([0, 6]), torch.tensor(COLUMNS))
    expected = (rows[own.owners()] * table[own.columns]).sum(dim=1)
    torch.testing.assert_close(entry_products(rows, table.detach(), own), expected.detach())


def test_without_weights_each_entry_counts_once(table):
    found = sum_bags(table, bags())
    expected = dense(torch.ones(6)) @ table
    torch.testing.assert_close(found, expected)
    (of_found,) = torch.autograd.grad(found.square().sum(), table)
    (of_expected,) = torch.autograd.grad(expected.square().sum(), table)
    torch.testing.assert_close(of_found, of_expected)


def test_a_table_of_nothing_but_empty_bags_gives_zeros_and_no_gradient(table):
    empty = BagTensors(torch.zeros(4, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    found = sum_bags(table, empty)
    assert torch.equal(found, torch.zeros(3, 3))
    found.sum().backward()
    assert torch.equal(table.grad, torch.zeros(4, 3))


def test_the_transpose_is_that_of_the_matrix(weights):
    turned = transposed(bags(weights=weights), 6)  # two columns that no bag names
    found = torch.zeros(6, 5).index_put(
        (turned.owners(), turned.columns), turned.weights, accumulate=True
    )
    torch.testing.assert_close(found, dense(weights.detach(), 6).T)


def test_softmax_and_its_gradient_are_those_of_each_bag_alone():
    logits = torch.tensor([300.0, 299.0, -1.0, 2.0, 0.5, 7.0], requires_grad=True)
    slopes = torch.arange(6.0)
    found = softmax_entries(logits, bags())
    expected = torch.cat([part.softmax(0) for part in logits.split(LENGTHS)])
    torch.testing.assert_close(found, expected)
    (of_found,) = torch.autograd.grad(found, logits, slopes)
    (of_expected,) = torch.autograd.grad(expected, logits, slopes)
    torch.testing.assert_close(of_found, of_expected)


def test_entries_are_summed_by_bag():
    values = torch.arange(12.0).view(6, 2)
    expected = torch.stack([part.sum(0) for part in values.split(LENGTHS)])
    assert torch.equal(sum_entries(values, bags()), expected)


def test_rows_are_taken_in_the_given_order_and_may_repeat(weights):
    rows = torch.tensor([2, 0, 1, 2])
    taken = bags(weights=weights.detach()).take(rows)
    matrix = torch.eye(4)
    torch.testing.assert_close(sum_bags(matrix, taken), dense(weights.detach())[rows])
    assert taken.owners().tolist() == [0, 0, 0, 1, 1, 3, 3, 3]


@pytest.mark.parametrize("n", range(6))
def test_a_number_takes_the_first_so_many_rows(weights, n):
    taken = bags(weights=weights.detach()).take(n)
    assert len(taken) == n
    torch.testing.assert_close(sum_bags(torch.eye(4), taken), dense(weights.detach())[:n])


def test_arrays_become_tensors_over_the_same_memory_also_where_they_are_read_only():
    array = np.arange(3.0)
    array.setflags(write=False)
    assert as_tensor(array).data_ptr() == array.ctypes.data
