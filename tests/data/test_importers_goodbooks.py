import csv
from pathlib import Path

import pytest

from recsys.config import DataConfig
from recsys.data.dataset import prepare
from recsys.data.importers import import_dataset
from recsys.data.importers.goodbooks import TAGS_PER_BOOK
from recsys.errors import DataError

BOOKS = """\
book_id,goodreads_book_id,best_book_id,work_id,books_count,isbn,isbn13,authors,\
original_publication_year,original_title,title,language_code,average_rating,ratings_count,\
work_ratings_count,work_text_reviews_count,ratings_1,ratings_2,ratings_3,ratings_4,ratings_5,\
image_url,small_image_url
1,2767052,2767052,2792775,272,439023483,9.78043902348e+12,Suzanne Collins,2008.0,The Hunger Games,\
"The Hunger Games (The Hunger Games, #1)",eng,4.34,4780653,4942365,155254,66715,127936,560092,\
1481305,2706317,https://images.gr-assets.com/m/2767052.jpg,https://images.gr-assets.com/s/2767052.jpg
2,3,3,4640799,491,439554934,9.78043955493e+12,"J.K. Rowling, Mary  GrandPré",-750.0,,\
 Angels & Demons ,,4.44,4602479,4800065,75867,75504,101676,455024,1156318,3011543,,
"""
RATINGS = "user_id,book_id,rating\n7,2,5\n1,1,4\n7,1,3\n"
BOOK_TAGS = """\
goodreads_book_id,tag_id,count
2767052,30574,11314
2767052,11305,10836
2767052,11557,50755
3,11557,-1
3,8717,17
3,8718,17
"""
TAGS = "tag_id,tag_name\n8717,ya\n8718,magic\n11305,fantasy\n11557,young-adult\n30574,to-read\n"


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    source = tmp_path / "dump"
    source.mkdir()
    contents = {
        "books": BOOKS,
        "ratings": RATINGS,
        "book_tags": BOOK_TAGS,
        "tags": TAGS,
    }
    for name, content in contents.items():
        (source / f"{name}.csv").write_text(content, encoding="utf-8")
    return source


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_books_get_authors_numbers_and_year_and_no_price(dump, tmp_path):
    rows = rows_of(import_dataset("goodbooks", dump, tmp_path / "out").books.path)
    assert rows[0] == {
        "item_id": "1",
        "title": "The Hunger Games (The Hunger Games, #1)",
        "author": "Suzanne Collins",
        "categories": "young-adult|fantasy",
        "average_rating": "4.34",
        "rating_number": "4780653",
        "price": "",
        "publication_year": "2008",
    }
    assert rows[1]["title"] == "Angels & Demons"
    assert rows[1]["author"] == "J.K. Rowling, Mary GrandPré"
    assert rows[1]["publication_year"] == "-750"


def test_categories_are_tags_by_use_without_personal_shelves_and_negative_counts(dump, tmp_path):
    rows = rows_of(import_dataset("goodbooks", dump, tmp_path / "out").books.path)
    assert [row["categories"] for row in rows] == ["young-adult|fantasy", "magic|ya"]


def test_of_many_tags_the_most_used_are_kept_in_whatever_order_they_come(dump, tmp_path):
    counts = [(7 * n) % 101 + 1 for n in range(100)]  # 1 to 101, each at most once
    tags = "".join(f"{n},tag{n}\n" for n in range(100))
    book_tags = "".join(f"3,{n},{count}\n" for n, count in enumerate(counts))
    (dump / "tags.csv").write_text(f"tag_id,tag_name\n{tags}", encoding="utf-8")
    (dump / "book_tags.csv").write_text(f"goodreads_book_id,tag_id,count\n{book_tags}")
    rows = rows_of(import_dataset("goodbooks", dump, tmp_path / "out").books.path)
    best = sorted(range(100), key=lambda n: -counts[n])[:TAGS_PER_BOOK]
    assert rows[1]["categories"].split("|") == [f"tag{n}" for n in best]


def test_ratings_keep_their_order_and_have_no_timestamp(dump, tmp_path):
    summary = import_dataset("goodbooks", dump, tmp_path / "out")
    assert summary.interactions.path.read_text() == "user_id,item_id,rating\n7,2,5\n1,1,4\n7,1,3\n"


def test_the_first_release_names_its_ids_otherwise(dump, tmp_path):
    first = BOOKS.replace("book_id,goodreads_book_id,best", "id,book_id,best", 1)
    (dump / "books.csv").write_text(first, encoding="utf-8")
    (dump / "ratings.csv").write_text("book_id,user_id,rating\n1,314,5\n")
    summary = import_dataset("goodbooks", dump, tmp_path / "out")
    assert [row["item_id"] for row in rows_of(summary.books.path)] == ["1", "2"]
    assert rows_of(summary.books.path)[0]["categories"] == "young-adult|fantasy"
    assert rows_of(summary.interactions.path) == [{"user_id": "314", "item_id": "1", "rating": "5"}]


def test_without_book_tags_books_have_no_categories(dump, tmp_path):
    (dump / "book_tags.csv").unlink()
    rows = rows_of(import_dataset("goodbooks", dump, tmp_path / "out").books.path)
    assert [row["categories"] for row in rows] == ["", ""]


def test_a_missing_column_is_named(dump, tmp_path):
    (dump / "ratings.csv").write_text("user,book_id,rating\n1,1,4\n")
    with pytest.raises(DataError, match=r"ratings\.csv: column 'user_id' is missing; the file has"):
        import_dataset("goodbooks", dump, tmp_path / "out")


def test_a_refused_import_leaves_the_files_of_an_earlier_one(dump, tmp_path):
    before = import_dataset("goodbooks", dump, tmp_path / "out")
    content = before.books.path.read_bytes()
    (dump / "books.csv").write_text(BOOKS.replace("Suzanne", "Susan"), encoding="utf-8")
    (dump / "ratings.csv").write_text("user_id,book_id,rating\n1,1,good\n")
    with pytest.raises(DataError, match=r"got 1 of 1, the first at line 2: bad 'rating'"):
        import_dataset("goodbooks", dump, tmp_path / "out")
    assert before.books.path.read_bytes() == content
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["books.csv", "users.csv"]


def test_the_dump_itself_is_never_overwritten(dump):
    with pytest.raises(DataError, match="must not be the folder that the data set lies in"):
        import_dataset("goodbooks", dump, dump)
    assert (dump / "books.csv").read_text(encoding="utf-8") == BOOKS


def test_an_imported_dump_can_be_prepared(dump, tmp_path):
    ratings = "".join(f"{user},{book},5\n" for user in range(3) for book in (1, 2))
    (dump / "ratings.csv").write_text(f"user_id,book_id,rating\n{ratings}")
    summary = import_dataset("goodbooks", dump, tmp_path / "out")
    config = DataConfig(
        books_path=summary.books.path,
        interactions_path=summary.interactions.path,
        min_user_interactions=1,
        min_item_interactions=1,
        split={"strategy": "random"},
    )
    prepared = prepare(config, seed=0)
    assert prepared.items.ids.to_pylist() == ["1", "2"]
    assert sum(map(len, (prepared.train, prepared.validation, prepared.test))) == 6
