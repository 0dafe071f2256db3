import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from recsys.data.importers import import_dataset
from recsys.errors import DataError

REVIEW = {
    "rating": 5.0,
    "title": 'Lovely, "really"',
    "text": "Read it twice.<br />Would again.",
    "images": [],
    "asin": "0062315005",
    "parent_asin": "0061122416",
    "user_id": "AFKZENTNBQ7A7V7UXW5JJI6UGRYQ",
    "timestamp": 1588687728923,
    "helpful_vote": 0,
    "verified_purchase": True,
}
BOOK = {
    "main_category": "Books",
    "title": "The Alchemist, 25th Anniversary",
    "subtitle": "Paperback – April 15, 2014",
    "author": {
        "avatar": "https://m.media-amazon.com/images/I/81.jpg",
        "name": "Paulo Coelho",
        "about": ["Paulo Coelho was born in Rio de Janeiro."],
    },
    "average_rating": 4.6,
    "rating_number": 101234,
    "features": ["A special edition"],
    "description": [],
    "price": 9.99,
    "images": [],
    "videos": [],
    "store": "Paulo Coelho (Author), Alan R. Clarke (Translator)",
    "categories": ["Books", "Literature & Fiction", "Genre | Fiction"],
    "details": {"Publisher": "HarperOne (April 15, 2014)", "Language": "English"},
    "parent_asin": "0061122416",
    "bought_together": None,
}


def write_jsonl(path: Path, records: list[dict | str]) -> None:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in records]
    content = "".join(f"{line}\n" for line in lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def rows_of(path: Path) -> list[dict[str, str]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def import_book(tmp_path: Path, **changes: object) -> dict[str, str]:
    write_jsonl(tmp_path / "dump" / "meta_Books.jsonl", [BOOK | changes])
    write_jsonl(tmp_path / "dump" / "Books.jsonl", [REVIEW])
    summary = import_dataset("amazon-2023", tmp_path / "dump", tmp_path / "out")
    return rows_of(summary.books.path)[0]


def test_a_book_keeps_its_parent_asin_title_author_categories_and_numbers(tmp_path):
    assert import_book(tmp_path) == {
        "item_id": "0061122416",
        "title": "The Alchemist, 25th Anniversary",
        "author": "Paulo Coelho",
        "categories": "Literature & Fiction|Genre / Fiction",
        "average_rating": "4.6",
        "rating_number": "101234",
        "price": "9.99",
        "publication_year": "2014",
    }


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (12, "12"),
        (9.99, "9.99"),
        ("9.99", "9.99"),
        ("$1,234.50", "1234.50"),
        ("from 4.62", "4.62"),
        ("14,99 €", "14.99"),
        ("EUR 1.234,5", "1234.5"),
        ("€1.234.567", "1234567"),
        ("1 234,50 €", "1234.50"),
        ("1,234", "1234"),
        ("9.99 - 12.99", "9.99"),
        ("£3.", "3"),
        ("None", ""),
        ("—", ""),
        (None, ""),
    ],
)
def test_a_price_is_a_number_or_empty(tmp_path, price, expected):
    assert import_book(tmp_path, price=price)["price"] == expected


def test_without_an_author_those_named_as_the_store_are_the_authors(tmp_path):
    assert import_book(tmp_path, author=None)["author"] == "Paulo Coelho, Alan R. Clarke"


def test_a_book_with_nothing_but_an_id_is_kept(tmp_path):
    empty = dict.fromkeys(BOOK) | {"categories": [], "details": {}, "parent_asin": "B1"}
    row = import_book(tmp_path, **empty)
    assert row == dict.fromkeys(row, "") | {"item_id": "B1"}


def test_reviews_become_interactions_with_times_in_milliseconds(tmp_path):
    write_jsonl(tmp_path / "raw/meta_categories/meta_Books.jsonl.gz", [BOOK])
    write_jsonl(tmp_path / "raw/review_categories/Books.jsonl.gz", [REVIEW, REVIEW | {"rating": 2}])
    summary = import_dataset("amazon-2023", tmp_path, tmp_path / "out")
    assert rows_of(summary.interactions.path) == [
        {
            "user_id": "AFKZENTNBQ7A7V7UXW5JJI6UGRYQ",
            "item_id": "0061122416",
            "rating": rating,
            "timestamp": "1588687728923",
        }
        for rating in ("5", "2")
    ]


@pytest.mark.parametrize("name", ["Books.csv", "0core/rating_only/Books.csv.gz"])
def test_the_rating_only_csv_is_read_rather_than_the_reviews(tmp_path, name):
    write_jsonl(tmp_path / "meta_Books.jsonl", [BOOK])
    write_jsonl(tmp_path / "Books.jsonl", [REVIEW])
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"user_id,parent_asin,rating,timestamp\nAG1,0061122416,4.0,1446304000000\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    summary = import_dataset("amazon-2023", tmp_path, tmp_path / "out", compress=True)
    assert summary.interactions.source == path
    assert summary.interactions.path.name == "users.csv.gz"
    assert list(rows_of(summary.interactions.path)[0].values()) == [
        "AG1",
        "0061122416",
        "4",
        "1446304000000",
    ]


def test_one_broken_line_in_a_hundred_is_counted_and_named(tmp_path):
    write_jsonl(tmp_path / "meta_Books.jsonl", [BOOK])
    write_jsonl(tmp_path / "Books.jsonl", [*[REVIEW] * 49, '{"rating": 5.0, "ti', *[REVIEW] * 50])
    summary = import_dataset("amazon-2023", tmp_path, tmp_path / "out").interactions
    assert (summary.read, summary.written, summary.dropped) == (100, 99, {"not JSON": 1})
    assert summary.first_fault == "line 50: not JSON"


def test_more_than_one_broken_line_in_a_hundred_ends_the_import_and_leaves_no_file(tmp_path):
    write_jsonl(tmp_path / "meta_Books.jsonl", [BOOK])
    write_jsonl(
        tmp_path / "Books.jsonl", [REVIEW, "[]", REVIEW | {"user_id": None}, *[REVIEW] * 97]
    )
    with pytest.raises(
        DataError, match=r"Books\.jsonl: at most 1% .* got 2 of 100, .* line 2: not a JSON"
    ):
        import_dataset("amazon-2023", tmp_path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_without_the_files_is_refused_with_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"must hold the books' metadata.*meta_Books\.jsonl.*\.gz"):
        import_dataset("amazon-2023", tmp_path, tmp_path / "out")


def test_a_gzip_that_breaks_off_is_refused(tmp_path):
    write_jsonl(tmp_path / "meta_Books.jsonl", [BOOK])
    whole = gzip.compress("".join(f"{json.dumps(REVIEW)}\n" for _ in range(2000)).encode())
    (tmp_path / "Books.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="must be a whole, readable file"):
        import_dataset("amazon-2023", tmp_path, tmp_path / "out")


def test_memory_does_not_grow_with_the_reviews(tmp_path):
    """16 MB of reviews, in at most 2 MB: it cannot be in memory at once."""
    write_jsonl(tmp_path / "meta_Books.jsonl", [BOOK])
    line = json.dumps(REVIEW | {"text": "x" * 3700}) + "\n"
    (tmp_path / "Books.jsonl").write_text(line * 4000, encoding="utf-8")
    tracemalloc.start()
    try:
        summary = import_dataset("amazon-2023", tmp_path, tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert summary.interactions.written == 4000
    assert peak < 2 * 2**20 < (tmp_path / "Books.jsonl").stat().st_size / 7
