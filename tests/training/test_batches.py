"""Examples against slow obvious versions: what each batch says, item by item."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import HistorySplitConfig
from recsys.data.arrays import Bags, Interactions
from recsys.data.histories import Histories
from recsys.errors import DataError
from recsys.training.batches import Negatives, drawn_ahead
from recsys.training.examples import HistoryExamples, PairExamples
from recsys.training.sampling import NegativeSampler

N_USERS, N_ITEMS = 25, 30


def make_histories(seed=0, *, most=12, times="distinct"):
    """Users with 0 to ``most`` items; times and ratings are told by user and item."""
    rng = np.random.default_rng(seed)
    pairs = [
        (user, item)
        for user in range(N_USERS)
        for item in rng.permutation(N_ITEMS)[: rng.integers(0, most + 1)]
    ]
    users, items = (np.array(side, dtype=np.int32) for side in zip(*pairs, strict=True))
    ratings = (items % 5 + 1).astype(np.float32)
    stamps = {"distinct": rng.permutation(len(pairs)) * 10, "tied": np.zeros(len(pairs)), "": None}
    told = stamps[times]
    told = None if told is None else told.astype(np.int64)
    return Histories.of(Interactions(users, items, told, N_USERS, N_ITEMS, ratings))


def sampler(histories, kind="uniform"):
    known = Bags(histories.offsets, histories.items, histories.n_items)
    return NegativeSampler(known, N_ITEMS, kind=kind, alpha=0.5)


def pair_examples(histories, negatives=None, **changes):
    held = {"batch_size": 16, "max_history": 200} | changes
    plan = negatives or Negatives(sampler(histories), per_positive=3)
    return PairExamples(histories, N_ITEMS, plan, **held)


def history_examples(histories, negatives=None, *, max_history=200, batch_size=4, **split):
    return HistoryExamples(
        histories,
        N_ITEMS,
        negatives or Negatives(),
        split=HistorySplitConfig(**split),
        batch_size=batch_size,
        max_history=max_history,
    )


def batches_of(examples, seed=1):
    return list(examples.epoch(np.random.default_rng(seed)))


def names(batch, places):
    """Items of the catalogue for places in ``batch.items``."""
    catalogue = np.arange(batch.items) if isinstance(batch.items, int) else batch.items.numpy()
    return catalogue[places.numpy()]


def positives(batch):
    users = batch.users[batch.rows].tolist()
    return list(zip(users, names(batch, batch.targets).tolist(), strict=True))


def masked(batch, row):
    return set(names(batch, batch.masked_items[batch.masked_rows == row]).tolist())


def input_of(batch, row):
    """(item, position, age, rating) of each item of a row's history."""
    history = batch.history
    cut = slice(int(history.offsets[row]), int(history.offsets[row + 1]))
    columns = [names(batch, history.items[cut]).tolist()]
    for part in (history.positions, history.ages, history.ratings):
        columns.append([None] * len(columns[0]) if part is None else part[cut].tolist())
    return list(zip(*columns, strict=True))


def row_of(histories, user):
    """(item, time, rating) of each item of a user, oldest first."""
    cut = slice(histories.offsets[user], histories.offsets[user + 1])
    times = histories.times
    stamps = [None] * len(histories.items[cut]) if times is None else times[cut].tolist()
    return list(
        zip(histories.items[cut].tolist(), stamps, histories.ratings[cut].tolist(), strict=True)
    )


def all_pairs(histories):
    return sorted((u, item) for u in range(N_USERS) for item, _, _ in row_of(histories, u))


HISTORY_LENGTHS = [None, 1, 3, 200]


@pytest.mark.parametrize("max_history", HISTORY_LENGTHS)
def test_an_epoch_holds_every_interaction_once(max_history):
    histories = make_histories()
    examples = pair_examples(histories, max_history=max_history)
    batches = batches_of(examples)
    assert sorted(pair for b in batches for pair in positives(b)) == all_pairs(histories)
    assert examples.n_positives == sum(len(batch) for batch in batches) == len(histories.items)
    assert len(examples) == len(batches) == -(-len(histories.items) // 16)


def test_epochs_come_in_different_orders_and_the_same_seed_in_the_same():
    examples = pair_examples(make_histories())
    rng = np.random.default_rng(1)
    first, second = ([positives(b) for b in examples.epoch(rng)] for _ in range(2))
    assert first != second
    assert first == [positives(batch) for batch in batches_of(examples, seed=1)]


def slow_without(histories, user, target, most):
    """The history of a user as if the target had never been there."""
    left = [entry for entry in row_of(histories, user) if entry[0] != target]
    return slow_input(left[-most:], histories.has_order)


def slow_input(kept, has_order):
    """Each item with its distance from the end of the input."""
    if not has_order:
        return [(item, None, None, rating) for item, _, rating in kept]
    return [
        (item, len(kept) - 1 - place, kept[-1][1] - time, rating)
        for place, (item, time, rating) in enumerate(kept)
    ]


@pytest.mark.parametrize("targets", ["random", "next"])
def test_each_repeat_splits_every_user_once_more_and_anew(targets):
    histories = make_histories()
    once = history_examples(histories, batch_size=N_USERS, targets=targets)
    thrice = history_examples(histories, batch_size=N_USERS, targets=targets, repeats=3)
    (first,), batches = batches_of(once), batches_of(thrice)
    n_users = len(first.users)
    users = [user for batch in batches for user in batch.users.tolist()]
    assert Counter(users) == dict.fromkeys(first.users.tolist(), 3)
    assert len(thrice) == len(batches) == -(-3 * n_users // N_USERS)
    assert thrice.n_positives == 3 * once.n_positives
    longest = int(np.argmax(histories.lengths))
    splits = {
        tuple(sorted(item for user, item in positives(batch) if user == longest))
        for batch in batches
    }
    assert len(splits) > 1


@settings(max_examples=40)
@given(
    st.integers(0, 100),
    st.integers(1, 14),
    st.sampled_from(["distinct", "tied", ""]),
    st.sampled_from(["own", "shared", "all"]),
)
def test_a_positive_never_sees_itself_and_the_gap_closes(seed, most, times, kind):
    histories = make_histories(seed, times=times)
    plans = {
        "own": Negatives(sampler(histories), per_positive=2),
        "shared": Negatives(sampler(histories), shared=5),
        "all": Negatives(),
    }
    for batch in batches_of(pair_examples(histories, plans[kind], max_history=most)):
        for row, (user, target) in enumerate(positives(batch)):
            assert batch.rows[row] == row
            assert input_of(batch, row) == slow_without(histories, user, target, most)


def test_without_a_history_each_user_of_a_batch_is_encoded_once():
    for batch in batches_of(pair_examples(make_histories(), max_history=None)):
        assert batch.history is None
        assert (batch.users.diff() > 0).all() and (batch.rows.diff() >= 0).all()
        assert set(batch.rows.tolist()) == set(range(len(batch.users)))


def test_each_item_of_a_batch_is_encoded_once_and_is_used():
    for max_history in (None, 200):
        for batch in batches_of(pair_examples(make_histories(), max_history=max_history)):
            used = [batch.targets, batch.negatives.ravel()]
            used += [] if batch.history is None else [batch.history.items]
            assert (batch.items.diff() > 0).all()
            assert {place for part in used for place in part.tolist()} == set(
                range(len(batch.items))
            )


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
@pytest.mark.parametrize("form", ["pairs", "histories"])
def test_negatives_of_a_positive_are_not_known_to_its_user(form, kind):
    histories = make_histories()
    plan = Negatives(sampler(histories, kind), per_positive=3)
    make = pair_examples if form == "pairs" else history_examples
    known = set(all_pairs(histories))
    for batch in batches_of(make(histories, plan)):
        assert batch.negatives.shape == batch.log_chance.shape == (len(batch), 3)
        users = batch.users[batch.rows].tolist()
        drawn = {
            (user, item)
            for user, row in zip(users, names(batch, batch.negatives).tolist(), strict=True)
            for item in row
        }
        assert drawn and not drawn & known
        assert batch.shared is None


@pytest.mark.parametrize("form", ["pairs", "no history", "histories"])
def test_of_shared_negatives_a_users_known_items_are_masked(form):
    histories = make_histories()
    plan = Negatives(sampler(histories), shared=9)
    changes = {"max_history": None} if form == "no history" else {}
    make = history_examples if form == "histories" else pair_examples
    for batch in batches_of(make(histories, plan, **changes)):
        shared = names(batch, batch.shared).tolist()
        assert 1 <= len(shared) == len(set(shared)) <= 9
        encoded = set(batch.items.tolist())
        for row, user in enumerate(batch.users.tolist()):
            known = {item for item, _, _ in row_of(histories, user)}
            assert masked(batch, row) == known & encoded
        assert batch.negatives is None


def test_in_batch_the_negatives_are_the_batchs_positives():
    histories = make_histories()
    plan = Negatives(sampler(histories, "in_batch"))
    counts = np.bincount(histories.items, minlength=N_ITEMS)
    for batch in batches_of(pair_examples(histories, plan)):
        targets = names(batch, batch.targets)
        shared = names(batch, batch.shared)
        assert shared.tolist() == sorted(set(targets.tolist()))
        absent = (1 - counts[shared] / counts.sum()) ** len(targets)
        np.testing.assert_allclose(batch.log_chance, np.log(1 - absent), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("max_history", [None, 200])
def test_over_the_whole_catalogue_a_users_other_items_are_masked_and_targets_are_not(max_history):
    histories = make_histories()
    for batch in batches_of(pair_examples(histories, Negatives(), max_history=max_history)):
        assert batch.items == N_ITEMS
        assert batch.shared is batch.negatives is batch.log_chance is None
        for row, user in enumerate(batch.users.tolist()):
            own = {item for u, item in positives(batch) if u == user} if not max_history else None
            targets = own or {positives(batch)[row][1]}
            known = {item for item, _, _ in row_of(histories, user)}
            assert masked(batch, row) == known - targets


def split_rows(histories, examples, seed=1):
    """(user, whole history, input, targets, masked) of each user of an epoch."""
    for batch in batches_of(examples, seed):
        pairs = positives(batch)
        for row, user in enumerate(batch.users.tolist()):
            targets = [item for u, item in pairs if u == user]
            yield (
                row_of(histories, user),
                input_of(batch, row),
                targets,
                masked(batch, row),
            )


def test_users_with_two_items_or_more_come_once_an_epoch():
    histories = make_histories()
    for targets in ("random", "next"):
        examples = history_examples(histories, targets=targets)
        users = [user for batch in batches_of(examples) for user in batch.users.tolist()]
        wanted = [user for user in range(N_USERS) if len(row_of(histories, user)) >= 2]
        assert sorted(users) == wanted
        assert len(examples) == -(-len(wanted) // 4)


@settings(max_examples=40)
@given(
    st.integers(0, 100),
    st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)).map(sorted),
    st.sampled_from(["distinct", "tied", ""]),
)
def test_at_random_input_and_targets_are_the_history_and_the_share_is_kept(seed, share, times):
    histories = make_histories(seed, times=times)
    examples = history_examples(histories, targets="random", input_share=share)
    for whole, given_items, targets, left_out in split_rows(histories, examples, seed):
        known = [entry[0] for entry in given_items]
        assert sorted(known + targets) == sorted(item for item, _, _ in whole)
        low, high = (min(max(round(s * len(whole)), 1), len(whole) - 1) for s in share)
        assert low <= len(known) <= high
        assert left_out == set(known)
        kept = [entry for entry in whole if entry[0] in known]
        assert given_items == slow_input(kept, histories.has_order)


def test_users_of_one_item_cannot_be_split():
    ones = make_histories().take(np.arange(0))
    single = Histories(np.arange(4), np.array([3, 1, 2], dtype=np.int32), None, None, N_ITEMS)
    for histories in (ones, single):
        with pytest.raises(DataError, match="users with at least 2 train items"):
            history_examples(histories)


def test_every_epoch_splits_anew():
    histories, rng = make_histories(), np.random.default_rng(0)
    examples = history_examples(histories)
    first, second = ({p for b in examples.epoch(rng) for p in positives(b)} for _ in range(2))
    assert first != second


@settings(max_examples=40)
@given(st.integers(0, 100), st.integers(1, 5), st.booleans())
def test_next_targets_follow_one_another_and_the_input_is_beside_them(seed, window, after):
    histories = make_histories(seed)
    examples = history_examples(histories, targets="next", window=window, after=after)
    total = 0
    for whole, given_items, targets, left_out in split_rows(histories, examples, seed):
        items = [item for item, _, _ in whole]
        first = items.index(targets[0])
        last = first + min(window, len(items) - 1) - 1
        assert targets == items[first : last + 1] and first >= 1
        expected = []
        for place, (item, time, rating) in enumerate(whole):
            if place < first:
                expected.append((item, first - 1 - place, whole[first - 1][1] - time, rating))
            elif place > last and after:
                expected.append((item, place - last - 1, time - whole[last + 1][1], rating))
        assert given_items == expected
        assert left_out == set(items) - set(targets)
        total += len(targets)
    assert total == examples.n_positives


def test_windows_begin_everywhere_after_the_first_item():
    histories = make_histories()
    user = int(np.argmax(histories.lengths))
    items, rng = histories.row(user).tolist(), np.random.default_rng(0)
    examples = history_examples(histories, targets="next", window=2)
    starts = [
        items.index(next(item for u, item in positives(batch) if u == user))
        for _ in range(200)
        for batch in examples.epoch(rng)
        if user in batch.users.tolist()
    ]
    assert set(starts) == set(range(1, len(items) - 1))


@pytest.mark.parametrize("split", [{"targets": "random"}, {"targets": "next", "after": False}])
def test_of_a_long_input_the_most_recent_items_are_kept(split):
    histories = make_histories()
    long = history_examples(histories, **split)
    short = history_examples(histories, max_history=3, **split)
    n_cut = 0
    for whole, cut in zip(split_rows(histories, long), split_rows(histories, short), strict=True):
        assert cut[1] == whole[1][-3:]
        assert cut[2:] == whole[2:]  # what is cut off stays no negative
        n_cut += len(whole[1]) > 3
    assert n_cut > 0


def test_of_an_input_on_both_sides_the_nearest_items_of_each_are_kept():
    histories = make_histories()
    long = history_examples(histories, targets="next")
    short = history_examples(histories, targets="next", max_history=2)
    for whole, cut in zip(split_rows(histories, long), split_rows(histories, short), strict=True):
        assert cut[1] == [entry for entry in whole[1] if entry[1] < 2]


def test_the_mean_number_of_random_targets_is_told():
    histories, rng = make_histories(), np.random.default_rng(0)
    examples = history_examples(histories, input_share=(0.2, 0.6))
    counts = [sum(len(batch) for batch in examples.epoch(rng)) for _ in range(50)]
    assert np.mean(counts) == pytest.approx(examples.n_positives, rel=0.03)


def test_batches_drawn_ahead_are_the_same_and_an_error_arrives():
    examples = pair_examples(make_histories())
    ahead = list(drawn_ahead(examples.epoch(np.random.default_rng(1))))
    assert [positives(b) for b in ahead] == [positives(b) for b in batches_of(examples, seed=1)]

    def failing():
        yield 1
        raise ValueError("no more")

    stream = drawn_ahead(failing())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="no more"):
        next(stream)
