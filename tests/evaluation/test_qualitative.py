"""Examples and hit ratios of six items."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.config import DiagnosticsConfig
from recsys.data.arrays import Interactions
from recsys.evaluation.qualitative import ItemTexts, example_tables, hit_ratio_table
from tests.small_arrays import interactions_of, ranking_of

BOOKS = pa.table(
    {
        "item_id": list("abcdef"),
        "title": ["Ash", "Birch | Bark", "Cedar", "Date", None, "Fir"],
        "author": ["Ann", "Bob, Ann", "Cy", "Dee", "Cy", None],
        "categories": ["tree|wood", " tree |bark", "wood", "fruit", "", None],
    }
)


@pytest.fixture
def texts():
    return ItemTexts.of(BOOKS)


def interactions(pairs, n_users=3, times=True):
    return interactions_of(pairs, n_users, 6, np.arange(len(pairs)) if times else None)


def examples(texts, lists, train, held_out, n=5, k=10, seed=0):
    config = DiagnosticsConfig(qualitative_users=n, qualitative_k=k)
    return example_tables(
        ranking_of(lists),
        train=train,
        held_out=held_out,
        texts=texts,
        user_ids=["u0", "u1", "u2"],
        config=config,
        rng=np.random.default_rng(seed),
    )


def column(table, name, part):
    return [row[name] for row in table.records() if row["part"] == part]


def test_several_authors_and_categories_are_split_and_trimmed(texts):
    assert texts.author_bags.lengths.tolist() == [1, 2, 1, 1, 1, 0]
    assert texts.category_bags.lengths.tolist() == [2, 2, 1, 1, 0, 0]
    assert np.intersect1d(texts.category_bags.row(0), texts.category_bags.row(1)).size == 1


def test_hit_ratios_are_shares_of_the_listed_items(texts):
    train = interactions([(0, 0), (1, 3)])  # Ash: tree, wood, by Ann; Date: fruit, by Dee
    lists = ranking_of([[1, 2, 3, 4], [0, 1, 2, -1]])
    table = hit_ratio_table({"model": lists}, train=train, texts=texts, k=4)
    (found,) = table.records()
    assert found["category_hits"] == pytest.approx((2 / 4 + 0 / 3) / 2)
    assert found["author_hits"] == pytest.approx((1 / 4 + 0 / 3) / 2)


def test_hit_ratios_look_at_the_first_k_only(texts):
    lists = ranking_of([[3, 2, 1, 0]])
    table = hit_ratio_table({"model": lists}, train=interactions([(0, 0)]), texts=texts, k=1)
    assert table.column("category_hits") == [0]


def test_users_without_history_or_list_do_not_count(texts):
    lists = ranking_of([[1, 2], [0, 1], [-1, -1]])
    train = interactions([(0, 0), (2, 0)])
    table = hit_ratio_table({"model": lists, "popularity": lists}, train=train, texts=texts, k=2)
    assert table.column("users") == [1, 1]


def test_hit_ratios_equal_a_slow_count_over_many_blocks(monkeypatch):
    monkeypatch.setattr("recsys.evaluation.qualitative._BLOCK", 7)
    rng = np.random.default_rng(2)
    texts = ["|".join(f"c{c}" for c in rng.integers(6, size=rng.integers(3))) for _ in range(30)]
    books = pa.table({"title": texts, "author": texts, "categories": texts})
    train = Interactions(rng.integers(20, size=60), rng.integers(30, size=60), None, 20, 30)
    lists = ranking_of(rng.integers(30, size=(20, 5)))
    expected = []
    for user, items in enumerate(lists.items):
        read = {c for b in train.items[train.users == user] for c in texts[b].split("|") if c}
        if (train.users == user).any():
            expected.append(np.mean([bool(read & set(texts[b].split("|"))) for b in items]))
    table = hit_ratio_table({"model": lists}, train=train, texts=ItemTexts.of(books), k=5)
    assert table.column("category_hits") == pytest.approx([np.mean(expected)])


def test_an_example_shows_the_latest_items_first_and_the_list_in_order(texts):
    train = interactions([(0, 2), (0, 0), (1, 1)])
    (table,) = examples(texts, [[1, 4, 3]], train, interactions([(0, 3)]))
    assert column(table, "title", "history") == ["Ash", "Cedar"]
    assert column(table, "title", "recommended") == ["Birch | Bark", "", "Date"]
    assert column(table, "category_hit", "recommended") == ["yes", "", ""]
    assert column(table, "author_hit", "recommended") == ["yes", "yes", ""]
    assert column(table, "held_out", "recommended") == ["", "", "yes"]
    assert "Held out: Date, at rank 3." in table.note
    assert "author hit ratio 0.67" in table.note


def test_a_held_out_item_beyond_the_list_is_said_to_be(texts):
    (table,) = examples(texts, [[1, 4, 3]], interactions([(0, 0)]), interactions([(0, 3)]), k=2)
    assert "Held out: Date, not among the first 2." in table.note


def test_an_unfilled_list_shows_only_items(texts):
    (table,) = examples(texts, [[1, -1, -1]], interactions([(0, 0)]), interactions([]))
    assert column(table, "rank", "recommended") == [1]


def test_without_order_the_history_claims_none(texts):
    train = interactions([(0, 0), (0, 2)], times=False)
    (table,) = examples(texts, [[1, 3]], train, interactions([]))
    assert "in no order" in table.note


def test_users_without_history_are_not_drawn(texts):
    tables = examples(texts, [[1], [1], [1]], interactions([(1, 0)]), interactions([]))
    assert [table.title for table in tables] == ["Example 1: user u1"]


def test_the_seed_chooses_the_users(texts):
    train = interactions([(0, 0), (1, 0), (2, 0)])
    drawn = {
        examples(texts, [[1], [1], [1]], train, interactions([]), n=1, seed=seed)[0].title
        for seed in range(20)
    }
    once = examples(texts, [[1], [1], [1]], train, interactions([]), n=1, seed=4)
    assert len(drawn) == 3
    assert once == examples(texts, [[1], [1], [1]], train, interactions([]), n=1, seed=4)


def test_no_examples_where_none_are_asked_for(texts):
    assert examples(texts, [[1]], interactions([(0, 0)]), interactions([]), n=0) == ()
