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
    """The same as a dense matrix, cell by cell."""
    matrix = np.zeros((bags.n_rows, bags.n_columns), dtype=np.float32)
    for row in range(bags.n_rows):
        for entry in range(bags.offsets[row], bags.offsets[row + 1]):
            weight = 1.0 if bags.weights is None else bags.weights[entry]
            matrix[row, bags.indices[entry]] += weight
    return torch.from_numpy(matrix)


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


@pytest.mark.parametrize("as_matrix", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bag_dim", [None, 4])
def test_bags_give_what_a_dense_one_hot_matrix_would(monkeypatch, weighted, bag_dim, as_matrix):
    monkeypatch.setattr(feature_table, "WELL_FILLED", 1e9 if as_matrix else 0)
    torch.manual_seed(0)
    table = features(weighted=weighted)
    encoder = FeatureEncoder(FeatureTable(table), 6, hidden_dims=(8,), bag_dim=bag_dim).eval()
    rows = torch.tensor([3, 0, 1, 2, 0])
    expected = encoder.hidden(dense_input(encoder, table))[rows]
    torch.testing.assert_close(encoder(rows), expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bag_dim", [None, 4])
def test_bags_give_the_gradient_that_a_dense_one_hot_matrix_would(monkeypatch, weighted, bag_dim):
    gradients = []
    for limit in (0, 1e9):
        monkeypatch.setattr(feature_table, "WELL_FILLED", limit)
        torch.manual_seed(0)
        table = FeatureTable(features(weighted=weighted))
        encoder = FeatureEncoder(table, 6, bag_dim=bag_dim).eval()
        encoder(torch.tensor([0, 2, 2, 1])).square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    for by_row, by_matrix in zip(*gradients, strict=True):
        torch.testing.assert_close(by_row, by_matrix)


def test_only_a_well_filled_small_table_is_held_as_a_matrix(monkeypatch):
    offsets = np.arange(0, 11, 2)
    filled = Bags(offsets, np.tile(np.arange(2, dtype=np.int32), 5), 8)  # 2 of 8 columns
    sparse = Bags(offsets, np.tile(np.arange(2, dtype=np.int32), 5), 9)
    assert torch.equal(feature_table.BagTable(filled).matrix, one_hot(filled))
    assert feature_table.BagTable(sparse).matrix is None
    monkeypatch.setattr(feature_table, "MATRIX_LIMIT_BYTES", 4 * 5 * 8 - 1)
    assert feature_table.BagTable(filled).matrix is None


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
