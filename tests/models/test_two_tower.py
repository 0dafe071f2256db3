import numpy as np
import pytest
import torch

from recsys.config import Config
from recsys.models import build, two_tower
from recsys.models.build import build_two_tower, rating_edges, usual_temperature
from recsys.models.two_tower import MIN_TEMPERATURE, PopularityTerm
from recsys.pipeline import model_vectors


def test_few_distinct_ratings_have_a_border_between_any_two():
    assert rating_edges(np.array([1, 5, 4, 4, np.nan])).tolist() == [2.5, 4.5]
    assert rating_edges(None) is None
    assert rating_edges(np.array([np.nan])) is None
    assert rating_edges(np.array([4.0, 4.0, np.nan])) is None


def test_many_distinct_ratings_share_buckets():
    edges = rating_edges(np.arange(1000, dtype=np.float32))
    assert len(edges) == build.MOST_RATINGS - 1
    filled = np.bincount(np.digitize(np.arange(1000), edges))
    assert filled.tolist() == pytest.approx([50] * build.MOST_RATINGS, abs=1)


def test_popularity_adds_a_weight_times_the_centred_logarithm():
    term = PopularityTerm(np.array([0, 2, 8]))
    logs = np.log([1, 3, 9])
    wanted = [*(logs - logs.mean()), 0, 0]  # of unknown items as of the average
    assert term.of_items(torch.tensor([0, 1, 2, 3, -1]))[:, 0].tolist() == pytest.approx(wanted)
    assert torch.equal(term.of_items(5), term.of_items(torch.arange(5)))
    term.weight.data.fill_(0.3)
    users = term.of_users(torch.zeros(4, 2, 3))
    assert users.shape == (4, 2, 1)
    assert users.unique().tolist() == pytest.approx([0.3 * two_tower.POPULARITY_PACE])


@pytest.fixture
def model(board_settings, board_prepared):
    """Gives a fresh model of the checkerboard with changes to its settings, without popularity."""

    def build(changes):
        settings = {**board_settings, "model": {"popularity": False, **changes}}
        config = Config.model_validate(settings)
        torch.manual_seed(0)
        return build_two_tower(config.model, board_prepared)

    return build


def test_a_cosine_is_divided_by_the_temperature(model, board_prepared):
    changes = {"temperature": 0.25, "user_encoder": {"history": {"temperature_power": 0}}}
    vectors = model_vectors(model(changes), board_prepared)
    assert np.linalg.norm(vectors.users, axis=1) == pytest.approx(np.full(40, 4.0), rel=1e-5)
    assert np.linalg.norm(vectors.items, axis=1) == pytest.approx(np.ones(60), rel=1e-5)


def test_the_usual_temperature_lets_a_good_item_stand_out_among_few_and_many(model):
    assert model({}).temperature == pytest.approx(0.82 / np.log(60), abs=1e-4)
    for n in (3, 100, 10_000, 1_000_000):
        chance = 1 / (1 + n * np.exp(-1 / usual_temperature(n)))
        assert 0.5 < chance < 0.97
    assert usual_temperature(1) == usual_temperature(3)


def test_a_learned_temperature_stops_at_the_least(model):
    learned = model({"learn_temperature": True})
    learned.log_scale.data.fill_(20.0)
    assert learned.temperature == MIN_TEMPERATURE
    matched = learned.match_users(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(matched, torch.tensor([[60.0, 80.0]]))


def test_dot_takes_vectors_as_they_are(model):
    plain, vectors = model({"similarity": "dot"}), torch.randn(3, 4)
    assert plain.temperature is None
    assert plain.match_users(vectors) is vectors
    assert plain.match_items(vectors, 3) is vectors


def test_longer_histories_give_surer_scores(model):
    changes = {"temperature": 1.0, "user_encoder": {"history": {"temperature_power": 0.5}}}
    matched = model(changes).match_users(torch.ones(3, 2, 2), torch.tensor([0, 10, 40]))
    # No item counts as one item: (1/10) ** .5, then 1 and 2.
    lengths = matched.norm(dim=-1)
    torch.testing.assert_close(lengths[:, 0], torch.tensor([0.1**0.5, 1.0, 2.0]))
    assert torch.equal(lengths[:, 0], lengths[:, 1])


def test_a_query_of_more_of_the_history_scores_higher_by_the_logarithm_of_its_share(model):
    changes = {"temperature": 0.5, "user_encoder": {"queries": 2, "query_prior": 0.5}}
    queries = model(changes)
    users = torch.tensor([[[3.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]]])
    items = torch.tensor([[5.0, 0.0], [0.0, 0.1]])  # of any length: their cosine counts
    scores = queries.match_users(users) @ queries.match_items(items, 2).T  # (user, query, item)
    prior = [[0.5 * np.log(0.75), 0.5 * np.log(0.25)], [0, 0.5 * np.log(two_tower.LEAST_SHARE)]]
    cosines = [[[1, 0], [0, 1]], [[1, 0], [0, 0]]]
    expected = np.array(cosines) / 0.5 + np.array(prior)[:, :, None]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-6)
    alone = queries.match_users(users[:, 0])  # a single vector has the whole of a user
    assert torch.equal(alone[:, -1], torch.zeros(2))


@pytest.mark.parametrize("user", [{"queries": 2, "query_prior": 0}, {"queries": 1}])
def test_without_a_prior_vectors_have_no_coordinate_for_it(model, user):
    plain = model({"user_encoder": user})
    assert plain.match_items(torch.ones(3, 4), 3).shape == (3, 4)
    assert plain.match_users(torch.ones(3, 2, 4), torch.ones(3)).shape == (3, 2, 4)


@pytest.mark.parametrize("table", ["item_tower", "own"])
def test_vectors_are_the_same_in_one_chunk_and_in_several(
    model, board_prepared, monkeypatch, table
):
    fresh = model({"user_encoder": {"history": {"table": table}}})
    whole = model_vectors(fresh, board_prepared)
    monkeypatch.setattr(two_tower, "CHUNK", 7)
    parts = model_vectors(fresh, board_prepared)
    np.testing.assert_allclose(parts.users, whole.users, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts.items, whole.items, rtol=1e-5, atol=1e-6)
    assert len(parts.users) == 40 and len(parts.items) == 60


def test_a_table_of_the_histories_own_is_not_that_of_the_items(model):
    ids = {"id_embedding": {"params": {"dropout": 0.5}}}  # in training alone
    own = model({"user_encoder": {"history": {"table": "own"}}, "item_encoder": ids})
    assert own.user_tower.history_table is not own.item_tower.id_embedding
    rows = own.user_tower.history_table.embedding.weight[1:]
    np.testing.assert_array_equal(own.item_table(len(rows)), rows.detach().numpy())


def test_a_model_without_histories_has_no_table_of_items(model):
    ids = {"id_embedding": {"type": "embedding"}, "history": {"pooling": "none"}}
    assert model({"user_encoder": ids}).item_table(60) is None
