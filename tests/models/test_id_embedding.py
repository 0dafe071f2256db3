import torch

from recsys.models.id_embedding import IdEmbedding
from recsys.training.row_adam import RowAdam


def test_warm_indices_have_vectors_of_their_own_and_all_others_are_zero():
    embedding = IdEmbedding(3, 4)
    vectors = embedding(embedding.rows(torch.tensor([0, 1, 2, 3, 7, -1])))
    assert len({tuple(row.tolist()) for row in vectors[:3]}) == 3
    assert (vectors[3:] == 0).all()


def test_the_padding_row_gets_no_gradient_and_stays_zero():
    embedding = IdEmbedding(3, 4)
    optimizer = RowAdam(embedding.parameters(), lr=1.0)
    embedding(embedding.rows(torch.tensor([0, 5, -1]))).sum().backward()
    optimizer.step()
    assert (embedding.embedding.weight[0] == 0).all()
    assert (embedding.embedding.weight[1] != 0).all()


def test_sparse_decides_the_kind_of_gradient():
    for is_sparse in (True, False):
        embedding = IdEmbedding(3, 4, sparse=is_sparse)
        embedding(torch.tensor([1])).sum().backward()
        assert embedding.embedding.weight.grad.is_sparse is is_sparse


def test_max_norm_bounds_the_vectors_that_are_used():
    torch.manual_seed(0)
    embedding = IdEmbedding(50, 96, sparse=False, max_norm=0.5)
    torch.nn.init.normal_(embedding.embedding.weight, std=0.1)  # norms of about 1
    norms = embedding(torch.arange(1, 51)).norm(dim=1)
    assert (norms <= 0.5 + 1e-6).all() and (norms > 0.49).any()


def test_the_sparse_gradient_is_torchs_own_with_each_row_once():
    torch.manual_seed(0)
    embedding, weights = IdEmbedding(6, 4), torch.randn(5, 4)
    rows = torch.tensor([3, 0, 1, 0, 6])
    gradients = []
    for look_up in (embedding, embedding.embedding):
        embedding.zero_grad()
        (look_up(rows) * weights).sum().backward()
        gradients.append(embedding.embedding.weight.grad)
    assert sorted(gradients[0]._indices()[0].tolist()) == [1, 3, 6]
    assert torch.equal(gradients[0].to_dense(), gradients[1].to_dense())
