"""A model on the test of a run that knows other users, items or interactions than it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys.data.arrays import Bags, BoolArray, IntArray, offsets_of
from recsys.data.histories import Histories
from recsys.evaluation.held_out import KNOWN, NEW_ITEMS, NEW_USERS, HeldOut
from recsys.evaluation.metrics import Places
from recsys.recommender.questions import lists_among
from recsys.recommender.recommender import Recommender


@dataclass(frozen=True, eq=False)
class OtherData:
    """A model's lists for the test users of another run.

    It answers as it would be served: a user that it knows by id gets their own list, another one is
    placed by the items of the run's train and validation data, and one of whom it knows none of
    these gets the most popular items. What the run knows of a user is left out, and so are items
    that are no longer in the run's catalogue. Items that the model does not know it cannot
    recommend.

    Attributes:
        places: of all test items of the run in those lists.
        knows_user: whether the model knows the user of each test item, (P,).
        knows_item: whether it knows the test item, (P,).
        trained_on: whether the test interaction is one of the model's own train or validation
            data, (P,).
    """

    places: Places
    knows_user: BoolArray
    knows_item: BoolArray
    trained_on: BoolArray

    @classmethod
    def of(cls, model: Recommender, test: HeldOut) -> OtherData:
        """The lists of a model for the test users of a run."""
        of_item = model.items.index_of(test.items.ids)  # (I,), -1 where the model has none
        of_user = model.users.index_of(test.users.ids)
        users = test.test_users
        known = _translated(test.known.take(users), of_item, len(model.items))
        allowed = np.zeros(len(model.items), dtype=bool)
        allowed[of_item[of_item >= 0]] = True
        k = min(test.k, len(model.items))
        names = test.users.id_of(users)
        found = lists_among(model, names, known, k, allowed).items
        lists = np.full((len(users), test.k), -1, dtype=np.int32)
        back = np.full(len(model.items) + 1, -1, dtype=np.int32)  # the last for no item
        back[of_item[of_item >= 0]] = np.flatnonzero(of_item >= 0)
        lists[:, :k] = back[found]
        places = test.places(lists)
        theirs, items = of_user[users[places.rows]], of_item[places.items]
        knows_user, knows_item = theirs >= 0, items >= 0
        held = model.seen.contains(np.maximum(theirs, 0), items) & knows_user
        return cls(places, knows_user, knows_item, held)


def _translated(known: Bags, of_item: IntArray, n_items: int) -> Histories:
    """Items of a run as histories in the model's own, those that it does not know left out."""
    items = of_item[known.indices]
    kept = np.flatnonzero(items >= 0)
    lengths = np.bincount(known.owners[kept], minlength=known.n_rows)
    return Histories(offsets_of(lengths), items[kept].astype(np.int32), kept, None, n_items)


def paired_values(
    test: HeldOut, ours: Places, theirs: OtherData
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics per user of a run's own model and of a model of other data, on the run's test.

    Users with a test interaction that the other model was trained on are left out.

    Args:
        test: of the run.
        ours: where the run's own lists have its test items.
        theirs: the same of the other model.

    Returns:
        Two frames of the same users, in the order of the test: ``user_id`` and every metric, the
        same of items outside the head, and of what the other model knows and does not
        (:data:`recsys.evaluation.held_out.KNOWN` and the others).
    """
    groups = {
        "": None,
        KNOWN: theirs.knows_user & theirs.knows_item,
        NEW_USERS: ~theirs.knows_user,
        NEW_ITEMS: ~theirs.knows_item,
    }
    leaked = np.bincount(ours.rows[theirs.trained_on], minlength=ours.n_rows) > 0
    names = pd.Series(test.users.id_of(test.test_users), name="user_id")
    frames = []
    for places in (ours, theirs.places):
        columns = {
            prefix + name: values
            for prefix, chosen in groups.items()
            for name, values in test.per_user(places, chosen).items()
        }
        frames.append(pd.DataFrame({"user_id": names, **columns})[~leaked].reset_index(drop=True))
    return frames[0], frames[1]
