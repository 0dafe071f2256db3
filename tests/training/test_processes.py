"""Two processes train what one does, to rounding."""

import pytest
import torch

from recsys.config.section import nest
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.training.device import resolve_device
from recsys.training.processes import Processes
from tests.pair import train, train_pair

pytestmark = pytest.mark.slow  # what all of them share
USER, ITEM = "model.user_encoder", "model.item_encoder"
ITEMS = {
    f"{ITEM}.feature_encoder.type": "mlp",
    f"{ITEM}.feature_encoder.hidden_dims": [16, 12],
    f"{ITEM}.feature_encoder.dropout": 0.3,
}
TOWERS = {  # the item tower follows
    f"{USER}.id_embedding.type": "embedding",
    f"{USER}.id_embedding.params.dropout": 0.2,
    f"{USER}.feature_encoder.type": "mlp",
    f"{USER}.feature_encoder.hidden_dims": [16, 12],
    f"{USER}.feature_encoder.dropout": 0.3,
    f"{USER}.fusion": "sum",
}
SPARSE = {f"{USER}.id_embedding.params.sparse": True}
HISTORIES = {"training.examples": "histories"}
PAIRS = {"training.examples": "pairs", "training.batch_size": 1000}
BARE = PAIRS | {f"{USER}.history.pooling": "none"}  # a row of the user tower is a distinct user


def objective(name, **settings):
    named = {f"training.{key}": value for key, value in settings.items()}
    return {"training.objective": name} | named


IN_BATCH = objective("sampled_softmax", negative_sampling="in_batch")
SHARED_BCE = objective("sampled_bce", shared_negatives=20)
FORMS = {
    "softmax, histories": ITEMS,
    "softmax, pairs": TOWERS | SPARSE | PAIRS,
    "softmax, no histories": TOWERS | BARE,
    "sampled_softmax, histories": TOWERS | HISTORIES | objective("sampled_softmax"),
    "sampled_softmax, in batch": TOWERS | SPARSE | BARE | IN_BATCH,
    "sampled_bce, histories": TOWERS | SPARSE | HISTORIES | objective("sampled_bce"),
    "sampled_bce, shared": TOWERS | SPARSE | BARE | SHARED_BCE,
    "bpr, histories": TOWERS | HISTORIES | objective("bpr"),
    "bpr, pairs": TOWERS | SPARSE | PAIRS | objective("bpr"),
    "ccl, histories": ITEMS | HISTORIES | objective("ccl"),
    "ccl, pairs": TOWERS | BARE | objective("ccl", shared_negatives=20),
    "bsl, histories": ITEMS | SPARSE | HISTORIES | objective("bsl", shared_negatives=20),
    "bsl, pairs": TOWERS | PAIRS | objective("bsl"),
    "self-attention": {
        f"{USER}.history.pooling": "sequence",
        "training.history_split.targets": "next",
    },
    "several vectors": {f"{USER}.queries": 3, f"{USER}.history.table": "own"},
    "ids alone": {f"{ITEM}.feature_encoder.type": "none", f"{ITEM}.fusion": "identity"},
    "max_norm": TOWERS | PAIRS | {f"{USER}.id_embedding.params.max_norm": 0.1},
    "adaptive mimic": TOWERS
    | SPARSE
    | BARE
    | {f"{USER}.fusion": "adaptive_mimic", "training.mimic_weight": 0.5},
    "dual augmented": TOWERS
    | PAIRS
    | {f"{USER}.fusion": "dual_augmented", "training.mimic_weight": 0.5},
    "alignment": ITEMS | {"training.alignment_weight": 0.5},
    "a batch of one row": ITEMS,
    "bfloat16": ITEMS | {"training.precision": "bfloat16"},
    "sgd": TOWERS | PAIRS | {"training.optimizer": "sgd", "training.learning_rate": 0.1},
    "early stopping": ITEMS
    | {
        "training.num_epochs": 9,
        "training.early_stopping.patience": 1,
        "training.early_stopping.min_delta": 0.05,
    },
}
"""Settings beside those of ``shop_config`` and two epochs."""


@pytest.fixture(scope="module")
def trained(shop_config, shop_prepared, tmp_path_factory):
    """By form what one process gives, and what each of two."""
    directory = tmp_path_factory.mktemp("pair")
    base = {"training.num_epochs": 2, "training.precision": "float32", "training.batch_size": 64}
    n_users = int((Histories.of(shop_prepared.train).lengths >= 2).sum())
    one_left = {"a batch of one row": {"training.batch_size": n_users - 1}}
    configs = {
        name: shop_config(nest(base | form | one_left.get(name, {})))
        for name, form in FORMS.items()
    }
    alone = {name: train(config) for name, config in configs.items()}
    jobs = {name: (config.model_dump(mode="json"), {}) for name, config in configs.items()}
    plain = "softmax, pairs"
    of_one, of_two = directory / "one.pt", directory / "two.pt"
    train(configs[plain], most=1, checkpoint_to=of_one)
    jobs["resumed"] = (jobs[plain][0], {"checkpoint": of_one})
    jobs["saved"] = (jobs[plain][0], {0: {"checkpoint_to": of_two}, "most": 1})
    for rank in range(2):
        jobs[f"{rank} leaves"] = (jobs[plain][0], {rank: {"most": 1}})
    first, second = train_pair(jobs, directory)
    alone |= {"resumed": alone[plain], "saved": train(configs[plain], checkpoint=of_two)}
    return {name: (alone.get(name), first[name], second[name]) for name in jobs}


@pytest.mark.parametrize("form", [*FORMS, "resumed"])
def test_two_processes_train_what_one_does(trained, form):
    """Losses to a millionth, under bfloat16 to a thousandth, with dropout and all else."""
    alone, first, _ = trained[form]
    tolerance = 1e-3 if form == "bfloat16" else 1e-6
    for one, two in zip(alone["history"], first["history"], strict=True):
        # 1 - cosine near 0 has the rounding of a cosine near 1
        assert two["parts"] == pytest.approx(one["parts"], rel=tolerance, abs=1e-7)
        assert two["validation"] == pytest.approx(one["validation"], abs=0.01)
        assert two["is_best"] == one["is_best"]
    assert first["stop_reason"] == alone["stop_reason"]
    assert first["random"] == alone["random"]


@pytest.mark.parametrize("form", [*FORMS, "resumed"])
def test_both_processes_hold_the_same_model_bit_for_bit(trained, form):
    _, first, second = trained[form]
    assert all(
        torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"]
    )
    assert first["history"] != [] and first["random"] == second["random"]


def test_gradients_are_those_of_one_process(trained):
    """Under plain gradient descent a weight tells its gradients' sum; Adam scales them away."""
    alone, first, _ = trained["sgd"]
    for name, weight in alone["weights"].items():
        assert torch.allclose(first["weights"][name], weight, rtol=1e-4, atol=1e-6), name


def test_early_stopping_stops_both_before_the_last_epoch(trained):
    alone, first, second = trained["early stopping"]
    assert 1 < len(first["history"]) < 9
    assert len(first["history"]) == len(second["history"]) == len(alone["history"])


def test_one_process_goes_on_where_two_were(trained):
    resumed, whole = trained["saved"][0], trained["softmax, pairs"][0]
    assert len(trained["saved"][1]["history"]) == 1
    losses = [[epoch["train_loss"] for epoch in each["history"]] for each in (resumed, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_process_leaves_the_stream_it_ends_for_both(trained, rank):
    _, first, second = trained[f"{rank} leaves"]
    assert len(first["history"]) == len(second["history"]) == 1
    assert first["stop_reason"] is second["stop_reason"] is None


@pytest.mark.parametrize(("n", "size"), [(0, 2), (1, 2), (5, 2), (5, 3), (4, 3), (2, 5)])
def test_shares_are_all_rows_once(n, size):
    shares = [range(n)[Processes(rank, size).share(n)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(n))


def test_processes_of_a_machine_have_a_gpu_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert resolve_device("auto") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="must have a CUDA device, but process 2"):
        resolve_device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "two")
    with pytest.raises(ConfigError, match="must be a whole number, as torchrun sets it, got 'two'"):
        resolve_device("cuda")
    assert resolve_device("cpu") == torch.device("cpu")


def test_the_threads_of_processes_that_wait_are_taken_and_given_back():
    before = torch.get_num_threads()
    with Processes(local_size=3).waiting():
        assert torch.get_num_threads() == 3 * before
    assert torch.get_num_threads() == before
