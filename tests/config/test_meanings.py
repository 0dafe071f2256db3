"""Settings that follow from others: what is filled in, what follows, and what is refused.

In the tables ``user`` and ``item`` are the towers, and a name without its part is of ``training``.
"""

import pytest
import yaml

from experiments.settings import load_config
from recsys.config import Config, flatten
from recsys.errors import ConfigError

TOWERS = {"user": "model.user_encoder", "item": "model.item_encoder"}
FILLED = """
num_epochs=20
    betas=[0.9,0.99] warmup_steps=20 model.temperature=null user.history.temperature_power=0.4
model.learn_temperature=true
    model.temperature=0.12
negatives_per_positive=3
    objective=sampled_bce
objective=sampled_bce
    negatives_per_positive=5 negative_sampling=uniform examples=pairs batch_size=1024
objective=sampled_bce
    calibration=0.0 model.learn_temperature=true
objective=bpr
    model.learn_temperature=true
objective=sampled_softmax
    log_q=true model.temperature=0.12
objective=ccl
    margin=0.4 negative_weight=20.0 model.temperature=1.0 model.learn_temperature=false
objective=bsl
    positive_temperature=2.0
objective=sampled_bce shared_negatives=9
    negatives_per_positive=null
objective=sampled_softmax negative_sampling=in_batch
    negatives_per_positive=null
objective=bpr negative_sampling=popularity
    popularity_alpha=0.75
objective=bpr examples=histories
    history_split.targets=random batch_size=256
history_split.targets=next
    history_split.window=2 history_split.after=true
history_split.targets=next user.history.pooling=sequence
    history_split.after=false user.history.layers=2 user.history.heads=2 user.history.dropout=0.1
user.queries=2
    user.query_score=logsumexp user.query_prior=0.5
optimizer=sgd
    betas=null
learning_rate=0.3
    embedding_learning_rate=0.3
data.split.strategy=cold_items
    early_stopping.monitor=new_ndcg@10 model.popularity=false
data.split.strategy=leave_latest_out
    early_stopping.monitor=ndcg@10 model.popularity=true
item.id_embedding.params.sparse=true
    sparse_optimizer=sparse_adam
item.id_embedding.params.sparse=true item.id_embedding.type=none
    sparse_optimizer=null
item.id_embedding.params.sparse=true item.id_embedding.type=none user.history.table=own
    sparse_optimizer=sparse_adam
user.history.temperature_power=0
    user.history.temperature_power=0.0
model.similarity=dot
    model.temperature=null model.learn_temperature=null
"""
REFUSED = """
negative_sampling=uniform
    'training.negative_sampling' has a meaning only
log_q=true
    only with objective sampled_softmax, got 'softmax'
calibration=0.5
    only with objective sampled_bce, got 'softmax'
margin=0.5
    'training.margin' has a meaning only with objective ccl, got 'softmax'
negative_weight=2
    'training.negative_weight' has a meaning only with
positive_temperature=2
    only with objective bsl, got 'softmax'
objective=softmax negatives_per_positive=5
    only where negatives are drawn for each positive, got 'softmax'
objective=sampled_bce shared_negatives=9 negatives_per_positive=5
    only where negatives are drawn for each positive, got 'training.shared_negatives'
objective=sampled_softmax negative_sampling=in_batch negatives_per_positive=5
    only where negatives are drawn for each positive, got in_batch
objective=bpr negative_sampling=in_batch
    'training.negative_sampling: in_batch' needs objective 'sampled_softmax', got 'bpr'
objective=bpr shared_negatives=9
    sampled_softmax or ccl or bsl and negatives that are drawn, got 'bpr'
objective=sampled_softmax negative_sampling=in_batch shared_negatives=9
    and negatives that are drawn, got 'sampled_softmax' in_batch
objective=bpr popularity_alpha=0.5
    only with negative_sampling 'popularity', got 'uniform'
popularity_alpha=0.5
    only with negative_sampling 'popularity', got 'none'
objective=ccl model.similarity=dot
    'training.objective: ccl' needs similarity 'cosine', got 'dot'
objective=ccl model.temperature=0.2
    'model.temperature' has no meaning with objective 'ccl', got 0.2
objective=ccl model.learn_temperature=true
    'model.learn_temperature' has no meaning with objective 'ccl', got True
user.history.pooling=none user.id_embedding.type=embedding examples=histories
    'training.examples: histories' needs 'model.user_encoder.history.pooling' other than
examples=pairs history_split.targets=next
    'training.history_split' has a meaning only with examples 'histories', got 'pairs'
history_split.window=3
    'window' has a meaning only with targets 'next', got 'random'
history_split.after=true
    'after' has a meaning only with targets 'next', got 'random'
history_split.targets=next history_split.input_share=[0.1,0.2]
    'input_share' has a meaning only with targets 'random', got 'next'
history_split.input_share=[0.6,0.5]
    'input_share' must not fall, got [0.6, 0.5]
history_split.targets=next history_split.after=true user.history.pooling=sequence
    'training.history_split.after' must be false with
sparse_optimizer=sparse_adam
    'training.sparse_optimizer: sparse_adam' needs 'sparse: true' in an id embedding
optimizer=sgd betas=[0.9,0.99]
    'training.betas' has a meaning only with optimizer 'adam' or 'adamw', got 'sgd'
schedule=constant warmup_steps=3
    'training.warmup_steps' has a meaning only with schedule 'linear', got 'constant'
mimic_weight=0.5
    'training.mimic_weight' has a meaning only with a fusion 'dual_augmented', or 'ada
item.fusion=dual_augmented user.queries=2
    'model.user_encoder.queries' must be 1 with a fusion 'dual_augmented'
alignment_weight=1 data.feature_params.category_top_k=0
    'training.alignment_weight' needs categories
user.fusion=sum
    'fusion' must be 'identity' where 'feature_encoder.type' is 'none': 'sum' has no meta
user.feature_encoder.type=linear
    'user_encoder.fusion' must be given with its 'feature_encoder.type', got 'linear' alone
item.feature_encoder.type=none
    'fusion' must be 'identity' where 'feature_encoder.type' is 'none': 'sum' has no metadata
item.feature_encoder.output_dim=7
    'feature_encoder.output_dim' must be 'embedding_dim' (128) with fusion 'sum', got 7
item.feature_encoder.hidden_dims=[8]
    'hidden_dims' has a meaning only with type 'mlp', got 'linear'
item.feature_encoder.dropout=0.5
    'dropout' has a meaning only with type 'mlp', got 'linear'
item.feature_encoder.type=mlp item.feature_encoder.hidden_dims=[]
    'hidden_dims' must name a layer; type 'linear' has none
item.id_embedding.params.sparse=true item.id_embedding.params.max_norm=1
    'max_norm' needs 'sparse: false', got max_norm 1.0 with sparse: true
item.id_embedding.type=none item.fusion=identity
    'item_encoder' must know ids or metadata
user.history.pooling=none user.id_embedding.type=none
    'user_encoder' must know ids, a history or metadata
item.id_embedding.params.embedding_dim=64
    one length: 'embedding_dim' is 128 in 'user_encoder' and 64 in 'item_encoder'
user.history.layers=2
    'layers' has a meaning only with pooling 'sequence', got 'sum'
user.history.heads=2
    'heads' has a meaning only with pooling 'seq
user.history.dropout=0.5
    'dropout' has a meaning only with pooling
user.history.pooling=sequence user.history.recency=position
    'recency' must be 'none' with pooling 'sequence', which knows the order, got 'posi
user.history.pooling=sequence user.history.heads=3
    'heads' must divide 'embedding_dim', got 3 heads and 128 dimensions
user.history.recency=time data.split.order=rows
    needs 'data.split.order: timestamp', got 'rows', which says nothing of days
user.queries=2 user.history.pooling=attention
    'queries' above 1 need 'history.pooling' sum, mean or sqrt, got 'attention'
user.query_score=max
    'query_score' has a meaning only with queries >
user.query_prior=1
    'user_encoder.query_prior' has a meaning only with similarity 'cosine' and queries > 1
user.queries=2 model.similarity=dot user.query_prior=1
    'user_encoder.query_prior' has a meaning only with similarity 'cosine' and queries > 1
model.similarity=dot model.temperature=1
    'temperature' has a meaning only with
model.similarity=dot model.learn_temperature=false
    'learn_temperature' has a meaning only with similarity 'cosine', got 'dot'
model.similarity=dot user.history.temperature_power=0.5
    'user_encoder.history.temperature_power' has a meaning only with similarity 'cosine'
num_epochs=abc
    'training.num_epochs': input should be a valid int
num_epochs=0
    greater than or equal to 1, got '0'
user.fusion=product
    'identity', 'sum', 'concat', 'adaptive_mim
data.feature_params.half_life_days=3
    only with user_aggregation 'time_decayed_mean'
data.split.test_fraction=0.1
    only with strategy 'global_time', 'random'
data.split.n_test_items=9
    only with strategy 'cold_items', got 'leave_latest
data.split.strategy=cold_items data.split.n_test_items=9 data.split.test_fraction=0.2
    only one of 'n_test_items' and 'test_fraction' can be given
early_stopping.monitor=new_ndcg@10
    must be one of the evaluated metrics
early_stopping.monitor=ndcg@7
    must be one of the evaluated metrics
data.split.order=rows data.feature_params.user_aggregation=time_decayed_mean
    got 'rows', which says nothing of days
experiment.run_name=../x
    'run_name' must be 1 to 100 letters
experiment.tracking_uri=postgresql://me:pw@host/db
    must hold no password
experiment.tracking_uri=postgresql://me:p/w@host/db
    must hold no password
experiment.tracking_uri=mysql://host/db?password=pw
    must hold no password
evaluation.metrics_k=[10,5]
    'metrics_k' must rise and not repeat, got [10, 5]
mimic_weight=1 item.fusion=concat
    'adaptive_mimic' of a tower with ids, got concat, identity
"""
TAKEN = """
user.history.layers=2 user.history.pooling=sequence
objective=ccl model.temperature=1.0 model.learn_temperature=false
negative_sampling=popularity negatives_per_positive=2
user.history.pooling=none user.id_embedding.type=embedding
item.id_embedding.type=none
item.fusion=concat item.feature_encoder.output_dim=7
"""


def table(text):
    """Lines in pairs: settings, and what comes of them."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return list(zip(lines[::2], lines[1::2], strict=True))


def whole(word):
    """A setting with its part."""
    part, _, rest = word.partition(".")
    if part in TOWERS:
        return f"{TOWERS[part]}.{rest}"
    return word if part in Config.model_fields else f"training.{word}"


def given(words):
    return load_config(None, [f"--{whole(word)}" for word in words.split()])


@pytest.mark.parametrize(("words", "filled"), table(FILLED))
def test_what_is_not_given_is_filled_in_where_it_has_a_meaning(words, filled):
    resolved = flatten(given(words).model_dump(mode="json"))
    for name, value in (whole(word).split("=") for word in filled.split()):
        assert resolved[name] == yaml.safe_load(value), name


@pytest.mark.parametrize(("words", "message"), table(REFUSED))
def test_a_setting_without_a_meaning_is_refused_in_one_line(words, message):
    with pytest.raises(ConfigError) as caught:
        given(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", TAKEN.strip().splitlines())
def test_the_same_settings_are_taken_where_they_have_a_meaning(words):
    given(words)


def test_a_fusion_needs_some_metadata():
    fields = ("category", "author", "series", "title_word")
    words = ["numeric_columns=[]", "title=false", *(f"{field}_top_k=0" for field in fields)]
    with pytest.raises(ConfigError, match="a fusion other than 'identity' needs metadata, but"):
        given(" ".join(f"data.feature_params.{word}" for word in words))


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
    config = given("user.id_embedding.params.embedding_dim=16 objective=bpr")
    assert Config.model_validate(config.model_dump()) == config
    assert Config.model_validate(config) == config
