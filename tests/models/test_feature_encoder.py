import numpy as np
import pytest
import torch

from recsys.data.arrays import Bags
from recsys.data.features import Features
from recsys.models import feature_table
from recsys.models.feature_encoder import FeatureEncoder
from recsys.models.feature_table import FeatureTable


def features(*, weighted=False, seed=0):
    rng = np.random.default_rng(seed)
    lengths = np.array([2, 0, 3, 1])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    bags = {}
    for name, n_columns in (("categories", 5), ("authors", 7)):
        weights = rng.uniform(0.5, 2, 6).astype(np.float32) if weighted else None
        indices = rng.integers(n_columns, size=6).astype(np.int32)
        bags[name] = Bags(offsets, indices, n_columns, weights)
    dense = rng.normal(size=(4, 3)).astype(np.float32)
    labels = {name: tuple(map(str, range(bag.n_columns))) for name, bag in bags.items()}
    return Features(dense, ("a", "b", "c"), bags, labels)


def one_hot(bags):
    return torch.from_numpy(bags.to_scipy().toarray())


def dense_input(encoder, table):
    """The whole input of the first layer, embedded bags first as their weighted means."""
    parts = [torch.from_numpy(table.dense)]
    for name, embedding in encoder.embeddings.items():
        columns = one_hot(table.bags[name])
        mass = columns.sum(1, keepdim=True).clamp(min=1e-12)
        parts.append(columns @ embedding.weight / mass)
    first = torch.cat(parts, 1) @ encoder.dense_weight + encoder.bias
    for name, projection in encoder.projections.items():
        first = first + one_hot(table.bags[name]) @ projection.weight
    return first


def set_most_columns(monkeypatch, limit):
    monkeypatch.setitem(feature_table.MOST_COLUMNS, torch.float32, limit)


@pytest.mark.parametrize("as_matrix", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bag_dim", [None, 4])
def test_bags_give_what_a_dense_one_hot_matrix_would(monkeypatch, weighted, bag_dim, as_matrix):
    set_most_columns(monkeypatch, 1e9 if as_matrix else 0)
    torch.manual_seed(0)
    table = features(weighted=weighted)
    encoder = FeatureEncoder(FeatureTable(table), 6, hidden_dims=(8,), bag_dim=bag_dim).eval()
    rows = torch.tensor([3, 0, 1, 2, 0])
    expected = encoder.hidden(dense_input(encoder, table))[rows]
    found, slopes, weights = encoder(rows), torch.randn(5, 6), list(encoder.parameters())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, weights, slopes), torch.autograd.grad(expected, weights, slopes)
    )


def filled_bags(n_columns):
    """Five rows of two entries each."""
    return Bags(np.arange(0, 11, 2), np.tile(np.arange(2, dtype=np.int32), 5), n_columns)


def table_of(**bags):
    dense = np.arange(15, dtype=np.float32).reshape(5, 3)
    labels = {name: tuple(map(str, range(bag.n_columns))) for name, bag in bags.items()}
    return FeatureTable(Features(dense, ("a", "b", "c"), bags, labels))


def test_the_fullest_tables_stand_beside_the_dense_features_while_together_they_are_full(
    monkeypatch,
):
    set_most_columns(monkeypatch, 5)
    rare, full, middle = (filled_bags(n_columns) for n_columns in (17, 4, 8))
    table = table_of(rare=rare, middle=middle, full=full)
    beside = table.side_by_side(torch.float32)
    assert beside.names == ("full", "middle")  # 15 columns for 4 entries; then 32 for 6
    assert torch.equal(beside.matrix, torch.cat([table.dense, one_hot(full), one_hot(middle)], 1))
    assert table.side_by_side(torch.float32) is beside


def test_a_matrix_beyond_the_limit_of_memory_is_not_made(monkeypatch):
    bags = filled_bags(4)
    monkeypatch.setattr(feature_table, "MATRIX_LIMIT_BYTES", 4 * 5 * 7)
    assert table_of(bags=bags).side_by_side(torch.float32).names == ("bags",)
    monkeypatch.setattr(feature_table, "MATRIX_LIMIT_BYTES", 4 * 5 * 7 - 1)
    assert table_of(bags=bags).side_by_side(torch.float32).names == ()


def test_in_bfloat16_the_encoder_gives_what_it_gives_in_float32_but_for_rounding():
    torch.manual_seed(0)
    encoder = FeatureEncoder(FeatureTable(features(weighted=True)), 6, hidden_dims=(8,)).eval()
    expected = encoder(torch.arange(4))
    with torch.autocast("cpu", torch.bfloat16):
        encoded = encoder(torch.arange(4))
    assert encoded.dtype == torch.float32
    torch.testing.assert_close(encoded, expected, rtol=2**-6, atol=2**-6)


def test_a_linear_encoder_is_linear():
    torch.manual_seed(0)
    table = features()
    encoder = FeatureEncoder(FeatureTable(table), 6, hidden_dims=())
    torch.testing.assert_close(encoder(torch.arange(4)), dense_input(encoder, table))


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    encoder = FeatureEncoder(FeatureTable(features()), 6, hidden_dims=(8,), dropout=0.5)
    rows = torch.arange(4)
    assert not torch.equal(encoder(rows), encoder(rows))
    encoder.eval()
    assert torch.equal(encoder(rows), encoder(rows))


@pytest.mark.parametrize("bag_dim", [None, 4])
def test_a_number_stands_for_the_first_so_many_rows(bag_dim):
    encoder = FeatureEncoder(FeatureTable(features(weighted=True)), 6, bag_dim=bag_dim)
    for n in (1, 4):
        torch.testing.assert_close(encoder(n), encoder(torch.arange(n)))


def test_features_are_not_part_of_the_weights():
    encoder = FeatureEncoder(FeatureTable(features()), 6)
    assert not [name for name in encoder.state_dict() if name.startswith("features")]


def test_features_share_the_memory_of_the_prepared_arrays():
    table = features()
    assert FeatureTable(table).dense.data_ptr() == table.dense.ctypes.data
