"""The nearest neighbours by content: what cold items are held against."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recsys.data.arrays import Bags
from recsys.data.dataset import Prepared
from recsys.data.histories import Histories
from recsys.evaluation.ranking import ItemWeights


def content_neighbours(prepared: Prepared) -> ItemWeights:
    """A user's score of an item is the sum of its cosines with the user's items, by metadata.

    The cosine is of all text fields of both items, as prepared (values weighted by rarity).
    """
    bags = [bag.to_scipy() for bag in prepared.item_features.bags.values()]
    content = sparse.hstack(bags).tocsr().astype(np.float32)
    lengths = np.sqrt(np.asarray(content.multiply(content).sum(axis=1))).ravel()
    content = sparse.diags(1 / np.maximum(lengths, 1e-9)) @ content
    known = Histories.of(prepared.train, prepared.validation)
    history = Bags(known.offsets, known.items, known.n_items)
    return ItemWeights(history, (content @ content.T).toarray())
