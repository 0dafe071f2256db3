"""Settings of the model and of training: what is filled in, what follows, and what is refused."""

import pytest

from experiments.settings import load_config
from recsys.config import Config
from recsys.errors import ConfigError

OUR_USERS = """
data: {books_limit: null, interactions_limit: null,
  min_user_interactions: 5, min_item_interactions: 10,
  feature_params: {numeric_columns: [average_rating, price, rating_number],
    category_top_k: 300, author_top_k: 300, user_aggregation: mean}}
model:
  user_encoder:
    id_embedding: {params: {embedding_dim: 96, sparse: true}}
    feature_encoder: {type: mlp, hidden_dims: [192], output_dim: 96, dropout: 0.1}
    fusion: adaptive_mimic
  item_encoder: {}          # what is not said is as in the user tower
  similarity: cosine
  device: cpu
training: {batch_size: 512, num_epochs: 10, negatives_per_positive: 5}
evaluation: {metrics_k: [5, 10, 20], candidate_samples: 500}
diagnostics: {item_sample_size: 50, user_sample_size: 500, neighbor_k: 5,
  feature_corr_sample_size: 20000, feature_corr_top_k: 20,
  report_path: artifacts/reports/recommendation_report.md}
"""


def refusal(*words, path=None):
    with pytest.raises(ConfigError) as caught:
        load_config(path, [f"--{word}" for word in words])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def given(*words):
    return load_config(None, [f"--{word}" for word in words])


def test_the_configuration_that_our_users_have_from_before_reads_as_it_did(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(OUR_USERS)
    config = load_config(path)
    training = config.training
    assert (training.objective, training.negatives_per_positive) == ("sampled_bce", 5)
    assert (training.examples, training.batch_size) == ("pairs", 512)
    assert training.sparse_optimizer == "sparse_adam"
    for tower in (config.model.user_encoder, config.model.item_encoder):
        assert tower.fusion == "adaptive_mimic"
        assert tower.id_embedding.type == "embedding"
        assert (tower.dim, tower.id_embedding.params.sparse) == (96, True)
        encoder = tower.feature_encoder
        assert (encoder.type, encoder.hidden_dims, encoder.dropout) == ("mlp", (192,), 0.1)
        assert encoder.output_dim == 96
    assert (config.model.similarity, config.model.temperature) == ("cosine", 0.12)
    assert config.model.learn_temperature is True
    assert str(config.diagnostics.report_path) == "artifacts/reports/recommendation_report.md"


def test_the_default_is_a_softmax_over_histories():
    config = Config()
    training, user = config.training, config.model.user_encoder
    assert (training.objective, training.examples) == ("softmax", "histories")
    assert (training.batch_size, training.negatives_per_positive) == (256, None)
    assert (training.history_split.targets, training.history_split.input_share) == (
        "random",
        (0.3, 0.9),
    )
    assert (user.id_embedding.type, user.history.pooling, user.fusion) == (
        "none",
        "sum",
        "identity",
    )
    assert config.model.item_encoder.fusion == "sum"
    assert config.model.learn_temperature is False


# What the item tower takes over ------------------------------------------------------------


def item_of(user=None, item=None):
    model = {} if user is None else {"user_encoder": user}
    model |= {} if item is None else {"item_encoder": item}
    return Config.model_validate({"model": model}).model.item_encoder


@pytest.mark.parametrize("item", [None, {}])
def test_what_only_the_user_tower_says_the_item_tower_takes_over(item):
    user = {
        "id_embedding": {"params": {"embedding_dim": 16, "dropout": 0.3, "initial_std": 0.2}},
        "feature_encoder": {"type": "mlp", "hidden_dims": [8], "dropout": 0.4, "bag_dim": 4},
        "fusion": "adaptive_mimic",
    }
    tower = item_of(user, item)
    params, encoder = tower.id_embedding.params, tower.feature_encoder
    assert (params.embedding_dim, params.dropout, params.initial_std) == (16, 0.3, 0.2)
    assert (encoder.type, encoder.hidden_dims) == ("mlp", (8,))
    assert (encoder.dropout, encoder.bag_dim, encoder.output_dim) == (0.4, 4, 16)
    assert tower.fusion == "adaptive_mimic"


def test_what_the_item_tower_says_itself_stays():
    user = {
        "id_embedding": {"params": {"embedding_dim": 16, "dropout": 0.3}},
        "feature_encoder": {"type": "mlp", "hidden_dims": [8]},
        "fusion": "concat",
    }
    item = {
        "id_embedding": {"params": {"dropout": 0.1}},
        "feature_encoder": {"hidden_dims": [4]},
        "fusion": "sum",
    }
    tower = item_of(user, item)
    assert (tower.dim, tower.id_embedding.params.dropout) == (16, 0.1)
    assert (tower.feature_encoder.hidden_dims, tower.fusion) == ((4,), "sum")


def test_a_part_that_the_user_tower_leaves_out_is_not_left_out_of_the_item_tower():
    user = {
        "id_embedding": {"type": "none", "params": {"embedding_dim": 16}},
        "feature_encoder": {"type": "none"},
        "fusion": "identity",
    }
    tower = item_of(user)
    assert (tower.id_embedding.type, tower.dim) == ("embedding", 16)
    assert (tower.feature_encoder.type, tower.fusion) == ("linear", "sum")


def test_histories_and_queries_are_the_user_towers_alone():
    assert item_of({"history": {"pooling": "mean"}, "queries": 3}) == item_of()
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        item_of(None, {"history": {"pooling": "mean"}})


def test_a_resolved_model_reads_back_as_itself():
    config = given(
        "model.user_encoder.id_embedding.params.embedding_dim=16", "training.objective=bpr"
    )
    assert Config.model_validate(config.model_dump()) == config
    assert Config.model_validate(config) == config


# What is filled in ---------------------------------------------------------------------------


def settings_of(config, names):
    tree = config.model_dump()
    found = {}
    for name in names:
        value = tree
        for part in name.split("."):
            value = value[part]
        found[name] = value
    return found


@pytest.mark.parametrize(
    ("words", "filled"),
    [
        (["training.negatives_per_positive=3"], {"training.objective": "sampled_bce"}),
        (
            ["training.objective=sampled_bce"],
            {
                "training.negatives_per_positive": 5,
                "training.negative_sampling": "uniform",
                "training.calibration": 0.0,
                "training.examples": "pairs",
                "training.batch_size": 1024,
                "model.learn_temperature": True,
            },
        ),
        (["training.objective=bpr"], {"model.learn_temperature": True}),
        (["training.objective=sampled_softmax"], {"training.log_q": True}),
        (
            ["training.objective=ccl"],
            {
                "training.margin": 0.4,
                "training.negative_weight": 20.0,
                "model.temperature": 1.0,
                "model.learn_temperature": False,
            },
        ),
        (["training.objective=bsl"], {"training.positive_temperature": 2.0}),
        (
            ["training.objective=sampled_bce", "training.shared_negatives=9"],
            {"training.negatives_per_positive": None},
        ),
        (
            ["training.objective=sampled_softmax", "training.negative_sampling=in_batch"],
            {"training.negatives_per_positive": None},
        ),
        (
            ["training.objective=bpr", "training.negative_sampling=popularity"],
            {"training.popularity_alpha": 0.75},
        ),
        (
            ["training.objective=bpr", "training.examples=histories"],
            {"training.history_split.targets": "random", "training.batch_size": 256},
        ),
        (
            ["training.history_split.targets=next"],
            {"training.history_split.window": 2, "training.history_split.after": True},
        ),
        (
            ["training.history_split.targets=next", "model.user_encoder.history.pooling=sequence"],
            {
                "training.history_split.after": False,
                "model.user_encoder.history.layers": 2,
                "model.user_encoder.history.heads": 2,
                "model.user_encoder.history.dropout": 0.1,
            },
        ),
        (["model.user_encoder.queries=2"], {"model.user_encoder.query_score": "logsumexp"}),
        ([], {"training.betas": (0.9, 0.99), "training.warmup_steps": 20}),
        (["training.optimizer=sgd"], {"training.betas": None}),
        (["training.learning_rate=0.3"], {"training.embedding_learning_rate": 0.3}),
        (
            ["model.item_encoder.id_embedding.params.sparse=true"],
            {"training.sparse_optimizer": "sparse_adam"},
        ),
        (
            [
                "model.item_encoder.id_embedding.params.sparse=true",
                "model.item_encoder.id_embedding.type=none",
            ],
            {"training.sparse_optimizer": None},
        ),
        (
            [
                "model.item_encoder.id_embedding.params.sparse=true",
                "model.item_encoder.id_embedding.type=none",
                "model.user_encoder.history.table=own",
            ],
            {"training.sparse_optimizer": "sparse_adam"},
        ),
        (
            [],
            {"model.temperature": 0.12, "model.user_encoder.history.temperature_power": 0.5},
        ),
        (
            ["model.user_encoder.history.temperature_power=0"],
            {"model.user_encoder.history.temperature_power": 0.0},
        ),
        (["model.similarity=dot"], {"model.temperature": None, "model.learn_temperature": None}),
    ],
)
def test_what_is_not_given_is_filled_in_where_it_has_a_meaning(words, filled):
    assert settings_of(given(*words), filled) == filled


# What is refused -----------------------------------------------------------------------------

NO_HISTORY = "model.user_encoder.history.pooling=none"
USER_IDS = "model.user_encoder.id_embedding.type=embedding"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # objectives
        (["training.negative_sampling=uniform"], "'training.negative_sampling' has a meaning only"),
        (["training.log_q=true"], "only with objective sampled_softmax, got 'softmax'"),
        (["training.calibration=0.5"], "only with objective sampled_bce, got 'softmax'"),
        (["training.margin=0.5"], "'training.margin' has a meaning only with objective ccl"),
        (["training.negative_weight=2"], "'training.negative_weight' has a meaning only with"),
        (["training.positive_temperature=2"], "only with objective bsl, got 'softmax'"),
        (
            ["training.objective=softmax", "training.negatives_per_positive=5"],
            "only where negatives are drawn for each positive, got 'softmax'",
        ),
        (
            [
                "training.objective=sampled_bce",
                "training.shared_negatives=9",
                "training.negatives_per_positive=5",
            ],
            "only where negatives are drawn for each positive, got 'training.shared_negatives'",
        ),
        (
            [
                "training.objective=sampled_softmax",
                "training.negative_sampling=in_batch",
                "training.negatives_per_positive=5",
            ],
            "only where negatives are drawn for each positive, got in_batch",
        ),
        (
            ["training.objective=bpr", "training.negative_sampling=in_batch"],
            "'training.negative_sampling: in_batch' needs objective 'sampled_softmax', got 'bpr'",
        ),
        (
            ["training.objective=bpr", "training.shared_negatives=9"],
            "'training.shared_negatives' has a meaning only with objective sampled_bce or",
        ),
        (
            [
                "training.objective=sampled_softmax",
                "training.negative_sampling=in_batch",
                "training.shared_negatives=9",
            ],
            "and negatives that are drawn, got 'sampled_softmax' in_batch",
        ),
        (
            ["training.objective=bpr", "training.popularity_alpha=0.5"],
            "only with negative_sampling 'popularity', got 'uniform'",
        ),
        (["training.popularity_alpha=0.5"], "only with negative_sampling 'popularity', got 'none'"),
        (
            ["training.objective=ccl", "model.similarity=dot"],
            "'training.objective: ccl' needs similarity 'cosine', got 'dot'",
        ),
        (
            ["training.objective=ccl", "model.temperature=0.2"],
            "'model.temperature' has no meaning with objective 'ccl', got 0.2",
        ),
        (
            ["training.objective=ccl", "model.learn_temperature=true"],
            "'model.learn_temperature' has no meaning with objective 'ccl', got True",
        ),
        # examples
        (
            [NO_HISTORY, USER_IDS, "training.examples=histories"],
            "'training.examples: histories' needs 'model.user_encoder.history.pooling' other than",
        ),
        (
            ["training.examples=pairs", "training.history_split.targets=next"],
            "'training.history_split' has a meaning only with examples 'histories', got 'pairs'",
        ),
        (
            ["training.history_split.window=3"],
            "'window' has a meaning only with targets 'next', got 'random'",
        ),
        (
            ["training.history_split.after=true"],
            "'after' has a meaning only with targets 'next', got 'random'",
        ),
        (
            ["training.history_split.targets=next", "training.history_split.input_share=[0.1,0.2]"],
            "'input_share' has a meaning only with targets 'random', got 'next'",
        ),
        (
            ["training.history_split.input_share=[0.6,0.5]"],
            "'input_share' must not fall, got [0.6, 0.5]",
        ),
        (
            [
                "training.history_split.targets=next",
                "training.history_split.after=true",
                "model.user_encoder.history.pooling=sequence",
            ],
            "'training.history_split.after' must be false with",
        ),
        # optimizers
        (
            ["training.sparse_optimizer=sparse_adam"],
            "'training.sparse_optimizer: sparse_adam' needs 'sparse: true'",
        ),
        (
            ["training.optimizer=sgd", "training.betas=[0.9,0.99]"],
            "'training.betas' has a meaning only with optimizer 'adam' or 'adamw', got 'sgd'",
        ),
        (
            ["training.schedule=constant", "training.warmup_steps=3"],
            "'training.warmup_steps' has a meaning only with schedule 'linear', got 'constant'",
        ),
        (
            ["training.mimic_weight=0.5"],
            "'training.mimic_weight' has a meaning only with a fusion 'dual_augmented', or 'ada",
        ),
        (
            ["model.item_encoder.fusion=dual_augmented", "model.user_encoder.queries=2"],
            "'model.user_encoder.queries' must be 1 with a fusion 'dual_augmented'",
        ),
        (
            ["training.alignment_weight=1", "data.feature_params.category_top_k=0"],
            "'training.alignment_weight' needs categories",
        ),
        # towers
        (
            ["model.user_encoder.fusion=sum"],
            "'fusion' must be 'identity' where 'feature_encoder.type' is 'none': 'sum' has no meta",
        ),
        (
            ["model.item_encoder.feature_encoder.type=none"],
            "'fusion' must be 'identity' where 'feature_encoder.type' is 'none'",
        ),
        (
            ["model.item_encoder.feature_encoder.output_dim=7"],
            "'feature_encoder.output_dim' must be 'embedding_dim' (128) with fusion 'sum', got 7",
        ),
        (
            ["model.item_encoder.feature_encoder.hidden_dims=[8]"],
            "'hidden_dims' has a meaning only with type 'mlp', got 'linear'",
        ),
        (
            ["model.item_encoder.feature_encoder.dropout=0.5"],
            "'dropout' has a meaning only with type 'mlp', got 'linear'",
        ),
        (
            [
                "model.item_encoder.feature_encoder.type=mlp",
                "model.item_encoder.feature_encoder.hidden_dims=[]",
            ],
            "'hidden_dims' must name a layer; type 'linear' has none",
        ),
        (
            [
                "model.item_encoder.id_embedding.params.sparse=true",
                "model.item_encoder.id_embedding.params.max_norm=1",
            ],
            "'max_norm' needs 'sparse: false', got max_norm 1.0 with sparse: true",
        ),
        (
            ["model.item_encoder.id_embedding.type=none", "model.item_encoder.fusion=identity"],
            "'item_encoder' must know ids or metadata",
        ),
        (
            [NO_HISTORY, "model.user_encoder.id_embedding.type=none"],
            "'user_encoder' must know ids, a history or metadata",
        ),
        (
            ["model.item_encoder.id_embedding.params.embedding_dim=64"],
            "both towers must give vectors of one length: 'embedding_dim' is 128 in 'user_encoder'",
        ),
        # histories
        (
            ["model.user_encoder.history.layers=2"],
            "'layers' has a meaning only with pooling 'sequence', got 'sum'",
        ),
        (["model.user_encoder.history.heads=2"], "'heads' has a meaning only with pooling 'seq"),
        (["model.user_encoder.history.dropout=0.5"], "'dropout' has a meaning only with pooling"),
        (
            [
                "model.user_encoder.history.pooling=sequence",
                "model.user_encoder.history.recency=position",
            ],
            "'recency' must be 'none' with pooling 'sequence', which knows the order, got 'posi",
        ),
        (
            [
                "model.user_encoder.history.pooling=sequence",
                "model.user_encoder.history.heads=3",
            ],
            "'heads' must divide 'embedding_dim', got 3 heads and 128 dimensions",
        ),
        (
            ["model.user_encoder.history.recency=time", "data.split.order=rows"],
            "'model.user_encoder.history.recency: time' needs 'data.split.order: timestamp'",
        ),
        (
            ["model.user_encoder.queries=2", "model.user_encoder.history.pooling=attention"],
            "'queries' above 1 need 'history.pooling' sum, mean or sqrt, got 'attention'",
        ),
        (["model.user_encoder.query_score=max"], "'query_score' has a meaning only with queries >"),
        # how vectors meet
        (["model.similarity=dot", "model.temperature=1"], "'temperature' has a meaning only with"),
        (
            ["model.similarity=dot", "model.learn_temperature=false"],
            "'learn_temperature' has a meaning only with similarity 'cosine', got 'dot'",
        ),
        (
            ["model.similarity=dot", "model.user_encoder.history.temperature_power=0.5"],
            "'user_encoder.history.temperature_power' has a meaning only with similarity 'cosine'",
        ),
        # data
        (
            [
                "data.feature_params.numeric_columns=[]",
                "data.feature_params.title=false",
                *(f"data.feature_params.{name}_top_k=0" for name in ("category", "author")),
                *(f"data.feature_params.{name}_top_k=0" for name in ("series", "title_word")),
            ],
            "a fusion other than 'identity' needs metadata, but 'data.feature_params' has no",
        ),
    ],
)
def test_a_setting_without_a_meaning_is_refused_in_one_line(words, message):
    assert message in refusal(*words)


@pytest.mark.parametrize(
    "words",
    [
        ["model.user_encoder.history.layers=2", "model.user_encoder.history.pooling=sequence"],
        ["training.objective=ccl", "model.temperature=1.0", "model.learn_temperature=false"],
        ["training.negative_sampling=popularity", "training.negatives_per_positive=2"],
        [NO_HISTORY, USER_IDS],
        ["model.item_encoder.id_embedding.type=none"],
        ["model.item_encoder.fusion=concat", "model.item_encoder.feature_encoder.output_dim=7"],
    ],
)
def test_what_has_a_meaning_is_taken(words):
    assert isinstance(given(*words), Config)
