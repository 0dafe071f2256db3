import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import TrainingConfig
from recsys.data.arrays import Interactions
from recsys.models.id_embedding import IdEmbedding
from recsys.models.tower import Tower
from recsys.models.two_tower import TwoTower, build_two_tower
from recsys.pipeline import build_trainer
from recsys.training import id_step
from recsys.training.batches import BatchStream, Draw
from recsys.training.checkpoint import load_checkpoint, save_checkpoint
from recsys.training.compilation import MAX_THREADS
from recsys.training.id_step import IdStep
from recsys.training.optimizers import build_optimizer
from recsys.training.tower_pass import TowerPass
from recsys.training.trainer import Plan, Trainer
from recsys.workers import Workers

CPU = torch.device("cpu")


class World:
    """Random readers and books, and batches of them in which both come up again and again."""

    def __init__(self, seed, *, n_users=9, n_items=12, dim=5, size=16, k=3, std=0.5):
        self.rng = np.random.default_rng(seed)
        self.seed, self.n_users, self.n_items = seed, n_users, n_items
        self.dim, self.size, self.k, self.std = dim, size, k, std

    def model(self, **similarity):
        torch.manual_seed(self.seed)
        towers = [Tower(IdEmbedding(n, self.dim)) for n in (self.n_users, self.n_items)]
        with torch.no_grad():
            for tower in towers:
                tower.id_embedding.embedding.weight[1:] *= self.std / 0.01
        return TwoTower(*towers, **similarity)

    def batches(self, n):
        return [self.batch() for _ in range(n)]

    def batch(self):
        return Draw(
            self.rng.integers(self.n_users, size=self.size).astype(np.int32),
            self.rng.integers(self.n_items, size=self.size).astype(np.int32),
            self.rng.integers(self.n_items, size=(self.size, self.k)),
        )


class Through:
    """A model and its optimizer, moved by one of the two steps."""

    def __init__(self, model, config=None):
        self.model = copy.deepcopy(model)
        self.optimizer = build_optimizer(self.model, config or TrainingConfig(learning_rate=0.01))
        trainer = Trainer(self.model, None, self.optimizer, None, Plan(1, "ndcg@10"))
        n_users, n_items = (
            tower.id_embedding.n_warm for tower in (self.model.user_tower, self.model.item_tower)
        )
        nobody = np.zeros(0, dtype=np.int32)
        batches = BatchStream(
            Interactions(nobody, nobody, None, n_users, n_items),
            None,
            batch_size=1,
            negatives_per_positive=1,
        )
        team = Workers()
        towers = TowerPass(self.model, team)

        def by_autograd(draw):
            parts = trainer._differentiate(batches.name_distinct(draw), towers, team)
            self.optimizer.step()
            return parts

        self.by_autograd = by_autograd
        self.by_ids = IdStep(self.model, self.optimizer).step

    def damp(self):
        """Let noise move nothing: Adam goes as far by the sign of what rounding left of zero."""
        for part in self.optimizer._optimizers.values():
            for group in part.param_groups:
                group["eps"] = 1e-3

    def state(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}


def assert_close(given, wanted, floor=1e-12):
    """The same tree, each tensor but for rounding against its own largest entry.

    ``floor`` is what rounding may leave where terms of a gradient cancel.
    """
    if isinstance(wanted, dict):
        assert given.keys() == wanted.keys()
        for key in wanted:
            assert_close(given[key], wanted[key], floor)
    elif isinstance(wanted, torch.Tensor):
        given, wanted = given.detach(), wanted.detach()
        assert given.dtype == wanted.dtype
        most = float(wanted.abs().max())
        torch.testing.assert_close(given, wanted, rtol=0, atol=1e-4 * most + floor)
    else:
        assert given == wanted


def assert_same_bits(given, wanted):
    if isinstance(wanted, dict):
        assert given.keys() == wanted.keys()
        for key in wanted:
            assert_same_bits(given[key], wanted[key])
    elif isinstance(wanted, torch.Tensor):
        assert torch.equal(given, wanted)
    else:
        assert given == wanted


similarities = st.one_of(
    st.just({"similarity": "dot"}),
    st.fixed_dictionaries(
        {"temperature": st.sampled_from([0.1, 0.5, 2.0]), "learn_temperature": st.booleans()}
    ),
)


@settings(max_examples=40, deadline=None)
@given(
    similarity=similarities,
    seed=st.integers(0, 2**16),
    n_users=st.integers(1, 20),
    n_items=st.integers(2, 20),
    dim=st.sampled_from([2, 3, 16, 33]),  # in one dimension a cosine has no gradient but noise
    size=st.integers(1, 40),
    k=st.integers(1, 6),
)
def test_a_step_by_ids_is_the_step_through_autograd(
    similarity, seed, n_users, n_items, dim, size, k
):
    world = World(seed, n_users=n_users, n_items=n_items, dim=dim, size=size, k=k)
    model = world.model(**similarity)
    ids, autograd = Through(model), Through(model)
    ids.damp()
    autograd.damp()
    for batch in world.batches(3):
        assert_close(ids.by_ids(batch), autograd.by_autograd(batch))
    assert_close(ids.state(), autograd.state(), floor=2e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_temperature_is_moved_by_the_configured_optimizer(optimizer):
    world = World(0)
    config = TrainingConfig(
        optimizer=optimizer,
        learning_rate=0.05,
        embedding_learning_rate=0.003,
        weight_decay=0.1,
    )
    model = world.model()
    ids, autograd = Through(model, config), Through(model, config)
    for batch in world.batches(10):
        ids.by_ids(batch)
        autograd.by_autograd(batch)
    assert ids.model.temperature != model.temperature
    assert_close(ids.state(), autograd.state())


@pytest.mark.parametrize("is_learned", [True, False])
def test_a_temperature_below_the_least_stays_there(is_learned):
    world = World(13)
    model = world.model(temperature=0.005, learn_temperature=is_learned)
    ids, autograd = Through(model), Through(model)
    for batch in world.batches(3):
        assert_close(ids.by_ids(batch), autograd.by_autograd(batch))
    assert_close(ids.state(), autograd.state())
    assert torch.equal(ids.model.log_scale, model.log_scale)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_gradient_as_small_as_epsilon_moves_a_row_by_as_much(similarity):
    world = World(1, std=1e-6)
    model = world.model(similarity=similarity)
    config = TrainingConfig(learning_rate=1e-8)
    ids, autograd = Through(model, config), Through(model, config)
    for batch in world.batches(5):
        ids.by_ids(batch)
        autograd.by_autograd(batch)
    assert_close(ids.state(), autograd.state())


def test_the_loss_of_many_certain_negatives_is_their_mean():
    world = World(2, size=3, k=1500)  # 2 ** 1500 is no float
    model = world.model(similarity="dot")
    with torch.no_grad():
        model.user_tower.id_embedding.embedding.weight.zero_()
    assert Through(model).by_ids(world.batch())["bce_negative"].item() == pytest.approx(
        math.log(2) / 2
    )


def test_a_row_of_zeros_learns_as_through_autograd():
    world = World(3)
    model = world.model()
    with torch.no_grad():
        model.user_tower.id_embedding.embedding.weight[1:3].zero_()
        model.item_tower.id_embedding.embedding.weight[1:3].zero_()
    ids, autograd = Through(model), Through(model)
    batch = world.batch()
    assert_close(ids.by_ids(batch), autograd.by_autograd(batch))
    assert_close(ids.state(), autograd.state())


def test_the_padding_row_stays_zero():
    world = World(4)
    moved = Through(world.model())
    for batch in world.batches(5):
        moved.by_ids(batch)
    for tower in (moved.model.user_tower, moved.model.item_tower):
        assert not tower.id_embedding.embedding.weight[0].any()


@pytest.mark.parametrize("name", ["users", "items", "negatives"])
@pytest.mark.parametrize("index", [-1, 50])
def test_an_index_without_a_row_is_refused(name, index):
    world = World(14)
    draw = world.batch()
    getattr(draw, name).flat[-1] = index
    with pytest.raises(AssertionError, match="warm"):
        Through(world.model()).by_ids(draw)


def test_rows_outside_the_batch_stay_as_they_are():
    world = World(5, n_users=100, n_items=100)
    model, batch = world.model(), world.batch()
    moved = Through(model)
    moved.by_ids(batch)
    before, after = (m.item_tower.id_embedding.embedding.weight for m in (model, moved.model))
    changed = (before != after).any(dim=1).nonzero()[:, 0]
    assert changed.tolist() == np.union1d(batch.items + 1, batch.negatives + 1).tolist()


def test_a_logit_that_is_not_a_number_does_not_stay_hidden():
    world = World(6)
    model = world.model(similarity="dot")
    with torch.no_grad():
        model.user_tower.id_embedding.embedding.weight[1:] = math.nan
    parts = Through(model).by_ids(world.batch())
    assert all(math.isnan(part) for part in parts.values())


def always(choice):
    while True:
        yield choice


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_the_number_of_threads_changes_no_bit(similarity, monkeypatch):
    states = []
    for n_threads in range(1, MAX_THREADS + 1):
        monkeypatch.setattr(id_step, "choose_threads", lambda: always(True))
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        world = World(7, n_users=300, n_items=200, dim=24, size=700)
        moved = Through(world.model(similarity=similarity))
        losses = [moved.by_ids(batch) for batch in world.batches(5)]
        states.append({"losses": dict(enumerate(losses)), **moved.state()})
    for state in states[1:]:
        assert_same_bits(state, states[0])


def test_one_step_can_go_on_where_the_other_stopped():
    world = World(9)
    model, batches = world.model(), world.batches(6)
    mixed, autograd = Through(model), Through(model)
    for i, batch in enumerate(batches):
        (mixed.by_ids if i % 2 else mixed.by_autograd)(batch)
        autograd.by_autograd(batch)
    assert_close(mixed.state(), autograd.state())


def test_training_resumed_from_its_state_goes_on_bit_for_bit():
    world = World(10)
    model, batches = world.model(), world.batches(6)
    whole, stopped, resumed = Through(model), Through(model), Through(World(11).model())
    for batch in batches:
        whole.by_ids(batch)
    for batch in batches[:3]:
        stopped.by_ids(batch)
    resumed.model.load_state_dict(stopped.model.state_dict())
    resumed.optimizer.load_state_dict(copy.deepcopy(stopped.optimizer.state_dict()))
    for batch in batches[3:]:
        resumed.by_ids(batch)
    assert_same_bits(resumed.state(), whole.state())


@pytest.mark.parametrize(
    ("changes", "is_supported"),
    [
        ({}, True),
        ({"similarity": "dot"}, True),
        ({"learn_temperature": False}, True),
        ({"sparse": False}, False),
        ({"sparse": False, "max_norm": 1.0}, False),
        ({"item_tower": {"fusion": "sum"}}, False),
        ({"user_tower": {"fusion": "adaptive_mimic"}}, False),
    ],
)
def test_what_is_supported(board_config, board_prepared, changes, is_supported):
    towers = {"user_tower": {"fusion": "identity"}, "item_tower": {"fusion": "identity"}}
    config = board_config({"model": towers | changes})
    model = build_two_tower(config.model, board_prepared)
    optimizer = build_optimizer(model, config.training)
    assert IdStep.supports(model, optimizer, CPU) == is_supported
    assert not IdStep.supports(model, optimizer, torch.device("cuda"))


def choices_of(n_steps, seconds):
    """Which steps run on all threads, where one alone and one on all take so long."""
    choices = id_step.choose_threads()
    chosen = [next(choices)]
    while len(chosen) < n_steps:
        chosen.append(choices.send(seconds[chosen[-1]]))
    return chosen


def test_steps_run_on_all_threads_where_that_is_faster():
    assert sum(choices_of(5000, {False: 2.0, True: 1.0})) > 0.95 * 5000


def test_steps_run_on_one_thread_where_others_are_kept_waiting():
    assert sum(choices_of(20_000, {False: 1.0, True: 20.0})) < 0.005 * 20_000


def test_threads_that_are_free_again_are_found():
    choices = id_step.choose_threads()
    on_all = next(choices)
    for step in range(20_000):
        on_all = choices.send((9.0 if step < 10_000 else 0.5) if on_all else 1.0)
    assert on_all


IDENTITY = {"user_tower": {"fusion": "identity"}, "item_tower": {"fusion": "identity"}}


@pytest.fixture
def trainer(board_config, board_prepared):
    """Gives a fresh trainer by ids alone on the checkerboard, with changes to its training."""
    return lambda training=None: build_trainer(
        board_config({"model": IDENTITY, "training": training or {}}), board_prepared
    )


@pytest.fixture
def counted(monkeypatch):
    """The sizes of the batches that went through steps by ids."""
    sizes, real = [], IdStep.step
    monkeypatch.setattr(
        IdStep, "step", lambda self, draw: sizes.append(len(draw)) or real(self, draw)
    )
    return sizes


def test_training_by_ids_alone_takes_steps_by_ids(trainer, counted):
    by_ids = trainer()
    next(by_ids.epochs())
    assert sum(counted) == by_ids.n_positives


def test_the_step_by_ids_is_left_the_threads_that_torch_has(trainer, monkeypatch):
    step, threads = IdStep.step, set()

    def counted_step(by_ids, draw):
        threads.add(torch.get_num_threads())
        return step(by_ids, draw)

    monkeypatch.setattr(IdStep, "step", counted_step)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        next(trainer().epochs())
    finally:
        torch.set_num_threads(before)
    assert threads == {2}


def test_training_through_autograd_differs_by_rounding(trainer, monkeypatch):
    by_ids = trainer()
    monkeypatch.setattr(IdStep, "supports", lambda *_: False)
    by_autograd = trainer()
    for ours, theirs in zip(by_ids.epochs(), by_autograd.epochs(), strict=True):
        assert ours.parts == pytest.approx(theirs.parts, rel=1e-4)
    assert_close(by_ids.model.state_dict(), by_autograd.model.state_dict(), floor=1e-4)


def test_an_epoch_after_a_checkpoint_is_the_epoch_without_one(trainer, tmp_path):
    whole = trainer()
    history = list(whole.epochs())
    stopped = trainer()
    next(stopped.epochs())
    save_checkpoint(tmp_path / "checkpoint.pt", stopped.state_dict())
    resumed = trainer()
    resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    list(resumed.epochs())
    assert resumed.history == history
    assert_same_bits(resumed.state_dict()["model"], whole.state_dict()["model"])
