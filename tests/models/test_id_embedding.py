import pytest
import torch

from recsys.models.id_embedding import IdEmbedding
from recsys.training.row_adam import RowAdam


def test_warm_indices_have_vectors_of_their_own_and_all_others_are_zero():
    embedding = IdEmbedding(3, 4)
    vectors = embedding(embedding.rows(torch.tensor([0, 1, 2, 3, 7, -1])))
    assert len({tuple(row.tolist()) for row in vectors[:3]}) == 3
    assert (vectors[3:] == 0).all()


def test_the_padding_row_gets_no_gradient_and_stays_zero():
    embedding = IdEmbedding(3, 4, sparse=True)
    before = embedding.embedding.weight.detach().clone()
    optimizer = RowAdam(embedding.parameters(), lr=1.0)
    embedding(embedding.rows(torch.tensor([0, 5, -1]))).sum().backward()
    optimizer.step()
    assert (embedding.embedding.weight[0] == 0).all()
    assert (embedding.embedding.weight[1] != before[1]).all()
    assert torch.equal(embedding.embedding.weight[2:], before[2:])


def test_max_norm_bounds_the_vectors_that_are_used():
    torch.manual_seed(0)
    embedding = IdEmbedding(50, 96, sparse=False, max_norm=0.5)
    torch.nn.init.normal_(embedding.embedding.weight, std=0.1)  # norms of about 1
    norms = embedding(torch.arange(1, 51)).norm(dim=1)
    assert (norms <= 0.5 + 1e-6).all() and (norms > 0.49).any()


@pytest.mark.parametrize(
    "rows",
    [[1, 3, 6], [3, 0, 1, 0, 6], [3, 1, 3, 0, 6, 3], [0, 0], []],
    ids=["rising", "mixed", "repeated", "padding", "none"],
)
def test_the_sparse_gradient_is_torchs_own_with_each_row_once(rows):
    torch.manual_seed(0)
    rows = torch.tensor(rows, dtype=torch.int64)
    sparse, dense = IdEmbedding(6, 4, sparse=True), IdEmbedding(6, 4)
    dense.load_state_dict(sparse.state_dict())
    weights, gradients = torch.randn(len(rows), 4), []
    for embedding in (sparse, dense):
        assert torch.equal(embedding(rows), embedding.embedding.weight[rows])
        (embedding(rows) * weights).sum().backward()
        gradients.append(embedding.embedding.weight.grad)
    named = gradients[0]._indices()[0].tolist()
    assert sorted(named) == sorted(set(rows.tolist()) - {0})
    torch.testing.assert_close(gradients[0].to_dense(), gradients[1])


def test_a_dropped_id_is_unknown_in_training_only():
    torch.manual_seed(0)
    embedding = IdEmbedding(1000, 2, dropout=0.3)
    indices = torch.arange(1000)
    rows = embedding.rows(indices)
    assert torch.equal(rows[rows > 0], (indices + 1)[rows > 0])
    # The standard error of the share of 1000 is 0.0145.
    assert (rows == 0).double().mean().item() == pytest.approx(0.3, abs=0.06)
    assert torch.equal(embedding.eval().rows(indices), indices + 1)


def test_initial_vectors_have_the_given_spread():
    weight = IdEmbedding(1000, 50, std=0.3).embedding.weight
    assert weight[1:].std().item() == pytest.approx(0.3, rel=0.02)
