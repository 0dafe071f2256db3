"""Published data sets become books.csv and users.csv."""

import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from recsys.config import DataConfig
from recsys.data.dataset import prepare
from recsys.data.importers import import_dataset
from recsys.data.importers.goodbooks import TAGS_PER_BOOK
from recsys.data.importers.source import UnreadableError, rating_text
from recsys.errors import DataError


def write_files(folder: Path, files: dict) -> Path:
    """Write texts and bytes as they are, lists as JSON lines, packed where the name says so."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            lines = (each if isinstance(each, str) else json.dumps(each) for each in content)
            content = "".join(f"{line}\n" for line in lines)  # noqa: PLW2901
        raw = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Amazon ------------------------------------------------------------------------------------------

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


def import_amazon(tmp_path: Path, files=None, *, compress=False, **changes):
    folder = {"meta_Books.jsonl": [BOOK | changes], "Books.jsonl": [REVIEW]} | (files or {})
    source = write_files(tmp_path / "in", folder)
    return import_dataset("amazon-2023", source, tmp_path / "out", compress=compress)


def amazon_book(tmp_path: Path, **changes) -> dict[str, str]:
    return rows_of(import_amazon(tmp_path, **changes).books.path)[0]


def test_an_amazon_book_keeps_its_parent_asin_title_author_categories_and_numbers(tmp_path):
    assert amazon_book(tmp_path) == {
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
        ("CHF 1'234.50", "1234.50"),
        ("1e3", ""),
        ("٩٫٩٩", ""),
        ("1,234", "1234"),
        ("9.99 - 12.99", "9.99"),
        ("£3.", "3"),
        ("None", ""),
        ("—", ""),
        (None, ""),
    ],
)
def test_a_price_is_a_number_or_empty(tmp_path, price, expected):
    assert amazon_book(tmp_path, price=price)["price"] == expected


def test_without_an_author_those_named_as_the_store_are_the_authors(tmp_path):
    assert amazon_book(tmp_path, author=None)["author"] == "Paulo Coelho, Alan R. Clarke"


def test_a_book_with_nothing_but_an_id_is_kept(tmp_path):
    row = amazon_book(
        tmp_path, **dict.fromkeys(BOOK) | {"categories": [], "details": {}, "parent_asin": "B1"}
    )
    assert row == dict.fromkeys(row, "") | {"item_id": "B1"}


def test_reviews_become_interactions_with_times_in_milliseconds(tmp_path):
    files = {
        "raw/meta_categories/meta_Books.jsonl.gz": [BOOK],
        "raw/review_categories/Books.jsonl.gz": [REVIEW, REVIEW | {"rating": 2}],
    }
    summary = import_dataset("amazon-2023", write_files(tmp_path / "in", files), tmp_path / "out")
    assert [tuple(row.values()) for row in rows_of(summary.interactions.path)] == [
        ("AFKZENTNBQ7A7V7UXW5JJI6UGRYQ", "0061122416", rating, "1588687728923")
        for rating in ("5", "2")
    ]


@pytest.mark.parametrize("name", ["Books.csv", "0core/rating_only/Books.csv.gz"])
def test_the_rating_only_csv_is_read_rather_than_the_reviews(tmp_path, name):
    content = "user_id,parent_asin,rating,timestamp\nAG1,0061122416,4.0,1446304000000\n"
    interactions = import_amazon(tmp_path, {name: content}, compress=True).interactions
    assert interactions.source == tmp_path / "in" / name
    assert interactions.path.name == "users.csv.gz"
    expected = ["AG1", "0061122416", "4", "1446304000000"]
    assert list(rows_of(interactions.path)[0].values()) == expected


def test_one_broken_line_in_a_hundred_is_counted_and_named(tmp_path):
    reviews = [*[REVIEW] * 49, '{"rating": 5.0, "ti', *[REVIEW] * 50]
    summary = import_amazon(tmp_path, {"Books.jsonl": reviews})
    done = summary.interactions
    assert (done.read, done.written, done.dropped) == (100, 99, {"not JSON": 1})
    assert done.first_fault == "line 50: not JSON"
    assert str(summary).splitlines()[1] == f"{done.path}: 99 of 100 rows of {done.source}"


def test_more_than_one_broken_line_in_a_hundred_ends_the_import_and_leaves_no_file(tmp_path):
    reviews = [REVIEW, "[]", REVIEW | {"user_id": None}, *[REVIEW] * 97]
    expected = r"Books\.jsonl: at most 1% .* got 2 of 100, .* line 2: not a JSON"
    with pytest.raises(DataError, match=expected):
        import_amazon(tmp_path, {"Books.jsonl": reviews})
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_without_the_files_is_refused_with_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"must hold the books' metadata.*meta_Books\.jsonl.*\.gz"):
        import_dataset("amazon-2023", tmp_path, tmp_path / "out")


def test_a_gzip_that_breaks_off_is_refused(tmp_path):
    whole = gzip.compress("".join(f"{json.dumps(REVIEW)}\n" for _ in range(2000)).encode())
    source = write_files(tmp_path, {"meta_Books.jsonl": [BOOK]})
    (source / "Books.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="must be a whole, readable file"):
        import_dataset("amazon-2023", source, tmp_path / "out")


def test_memory_does_not_grow_with_the_reviews(tmp_path):
    """16 MB of reviews, in at most 2 MB: it cannot be in memory at once."""
    reviews = [json.dumps(REVIEW | {"text": "x" * 3700})] * 4000
    write_files(tmp_path / "in", {"meta_Books.jsonl": [BOOK], "Books.jsonl": reviews})
    tracemalloc.start()
    try:
        summary = import_dataset("amazon-2023", tmp_path / "in", tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert summary.interactions.written == 4000
    assert peak < 2 * 2**20 < summary.interactions.source.stat().st_size / 7


# goodbooks ---------------------------------------------------------------------------------------

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
GOODBOOKS = {
    "books.csv": BOOKS,
    "ratings.csv": "user_id,book_id,rating\n7,2,5\n1,1,4\n7,1,3\n",
    "book_tags.csv": BOOK_TAGS,
    "tags.csv": TAGS,
}


def import_goodbooks(tmp_path: Path, **changes):
    """Import the files, some of which have another content or, for None, are not there."""
    files = GOODBOOKS | {f"{name}.csv": content for name, content in changes.items()}
    present = {name: content for name, content in files.items() if content is not None}
    return import_dataset("goodbooks", write_files(tmp_path / "in", present), tmp_path / "out")


def categories_of(summary) -> list[str]:
    return [row["categories"] for row in rows_of(summary.books.path)]


def test_goodbooks_get_authors_numbers_and_year_and_no_price(tmp_path):
    rows = rows_of(import_goodbooks(tmp_path).books.path)
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


def test_categories_are_tags_by_use_without_personal_ones_and_negative_counts(tmp_path):
    assert categories_of(import_goodbooks(tmp_path)) == ["young-adult|fantasy", "magic|ya"]


def test_of_many_tags_the_most_used_are_kept_in_whatever_order_they_come(tmp_path):
    counts = [(7 * n) % 101 + 1 for n in range(100)]  # 1 to 101, each at most once
    tags = "tag_id,tag_name\n" + "".join(f"{n},tag{n}\n" for n in range(100))
    book_tags = "".join(f"3,{n},{count}\n" for n, count in enumerate(counts))
    book_tags = f"goodreads_book_id,tag_id,count\n{book_tags}"
    best = sorted(range(100), key=lambda n: -counts[n])[:TAGS_PER_BOOK]
    found = categories_of(import_goodbooks(tmp_path, tags=tags, book_tags=book_tags))[1]
    assert found.split("|") == [f"tag{n}" for n in best]


def test_goodbooks_ratings_keep_their_order_and_have_no_timestamp(tmp_path):
    summary = import_goodbooks(tmp_path)
    assert summary.interactions.path.read_text() == "user_id,item_id,rating\n7,2,5\n1,1,4\n7,1,3\n"


def test_the_first_release_names_its_ids_otherwise(tmp_path):
    books = BOOKS.replace("book_id,goodreads_book_id,best", "id,book_id,best", 1)
    ratings = "book_id,user_id,rating\n1,314,5\n"
    summary = import_goodbooks(tmp_path, books=books, ratings=ratings)
    assert [row["item_id"] for row in rows_of(summary.books.path)] == ["1", "2"]
    assert categories_of(summary)[0] == "young-adult|fantasy"
    assert rows_of(summary.interactions.path) == [{"user_id": "314", "item_id": "1", "rating": "5"}]


def test_without_book_tags_books_have_no_categories(tmp_path):
    assert categories_of(import_goodbooks(tmp_path, book_tags=None)) == ["", ""]


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(DataError, match=r"ratings\.csv: column 'user_id' is missing; the file has"):
        import_goodbooks(tmp_path, ratings="user,book_id,rating\n1,1,4\n")


def test_a_refused_import_leaves_the_files_of_an_earlier_one(tmp_path):
    before = import_goodbooks(tmp_path).books.path
    content = before.read_bytes()
    ratings = "user_id,book_id,rating\n1,1,good\n"
    with pytest.raises(DataError, match=r"got 1 of 1, the first at line 2: bad 'rating'"):
        import_goodbooks(tmp_path, books=BOOKS.replace("Suzanne", "Susan"), ratings=ratings)
    assert before.read_bytes() == content
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["books.csv", "users.csv"]


def test_the_files_of_the_data_set_are_never_overwritten(tmp_path):
    source = write_files(tmp_path, GOODBOOKS)
    with pytest.raises(DataError, match="must not be the folder that the data set lies in"):
        import_dataset("goodbooks", source, source)
    assert (source / "books.csv").read_text(encoding="utf-8") == BOOKS


def test_an_imported_data_set_can_be_prepared(tmp_path):
    ratings = "".join(f"{user},{book},5\n" for user in range(3) for book in (1, 2))
    summary = import_goodbooks(tmp_path, ratings=f"user_id,book_id,rating\n{ratings}")
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


# MovieLens ---------------------------------------------------------------------------------------

FLAGS = "|".join("1" if number in (3, 5) else "0" for number in range(19))
MOVIE_CSV = (
    "movieId,title,genres\n"
    "1,Toy Story (1995),Adventure|Animation|Children\n"
    '11,"American President, The (1995)",Comedy\n'
    "131172,Closed Curtain (2013),(no genres listed)\n"
    "40697,Babylon 5,Sci-Fi\n"
)
RATING_CSV = "userId,movieId,rating,timestamp\n"


@pytest.mark.parametrize(
    ("files", "movies", "ratings"),
    [
        (
            {
                "movies.csv": MOVIE_CSV,
                "ratings.csv": f"{RATING_CSV}1,1,4.0,964982703\n1,11,0.5,964981247\n",
            },
            [
                ("1", "Toy Story (1995)", "Adventure|Animation|Children", "1995"),
                ("11", "American President, The (1995)", "Comedy", "1995"),
                ("131172", "Closed Curtain (2013)", "", "2013"),
                ("40697", "Babylon 5", "Sci-Fi", ""),
            ],
            ["1,1,4,964982703", "1,11,0.5,964981247"],
        ),
        (
            {
                "movies.dat": "73::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1"),
                "ratings.dat": "1::73::5::978300760\n",
            },
            [("73", "Misérables, Les (1995)", "Drama|Musical", "1995")],
            ["1,73,5,978300760"],
        ),
        (
            {
                "movies.dat": "73::Misérables, Les (1995)::Drama\n",
                "ratings.dat": "1::73::3.5::978300760\n",
            },
            [("73", "Misérables, Les (1995)", "Drama", "1995")],
            ["1,73,3.5,978300760"],
        ),
        (
            {
                "u.item": f"1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/x?Toy|{FLAGS}\n",
                "u.data": "196\t1\t3\t881250949\n",
            },
            [("1", "Toy Story (1995)", "Animation|Comedy", "1995")],
            ["196,1,3,881250949"],
        ),
    ],
    ids=["csv", "dat in Latin-1", "dat in UTF-8", "100k"],
)
def test_the_shapes_of_movielens(tmp_path, files, movies, ratings):
    summary = import_dataset("movielens", write_files(tmp_path / "in", files), tmp_path / "out")
    columns = ("item_id", "title", "categories", "publication_year")
    rows = rows_of(summary.books.path)
    assert [tuple(row[name] for name in columns) for row in rows] == movies
    assert summary.interactions.path.read_text().splitlines() == [
        "user_id,item_id,rating,timestamp",
        *ratings,
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"ratings.csv": f"{RATING_CSV}1,1,4.0,964982703\n"},
            r"must hold the films, looked for movies\.csv",
        ),
        (
            {"movies.csv": MOVIE_CSV, "ratings.csv": RATING_CSV},
            r"ratings\.csv: must hold at least one row, holds none",
        ),
    ],
    ids=["no films", "no ratings"],
)
def test_an_incomplete_movielens_is_refused(tmp_path, files, expected):
    with pytest.raises(DataError, match=expected):
        import_dataset("movielens", write_files(tmp_path / "in", files), tmp_path / "out")


@pytest.mark.parametrize("text", ["1_0", "nan", "inf", "", "4,5"])
def test_a_rating_that_is_no_finite_number_is_unreadable(text):
    with pytest.raises(UnreadableError, match="bad 'rating'"):
        rating_text(text)
