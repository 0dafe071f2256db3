"""Reading the files: what is accepted, what is refused, and in which words."""

import gzip
import io
import logging
import os
import re
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import DataConfig
from recsys.data.csv_file import MAX_FIELD, QuoteCheckedFile
from recsys.data.files import content_sha256
from recsys.data.reading import read_item_lines
from recsys.data.tables import Tables, read_books, read_tables
from recsys.errors import BookendsError, DataError

BOOKS = """item_id,title,author,categories,average_rating,rating_number,price
b1,"Ham, Eggs",Ann Ink,food|fun,4.5,10,9.99
b2,Tea,"Ann Ink, Bo Quill",food,3.5,20,
"""
USERS = """user_id,item_id,rating,timestamp
u1,b1,5,1500000000
u2,b1,4.5,1500000001
u1,b2,1,1500000002
"""
PAIRS = [("u1", "b1"), ("u2", "b1"), ("u1", "b2")]
ABSENT = "item_id,title,author,categories,average_rating\nb1,T,A,c,4.5\n"


def config_of(tmp_path: Path, books=BOOKS, users=USERS, **settings) -> DataConfig:
    """Settings for two CSV files with the given content (text, bytes) or a Parquet table."""
    tmp_path.mkdir(exist_ok=True)
    paths = {}
    for name, content in (("books", books), ("users", users)):
        if isinstance(content, dict):
            paths[name] = tmp_path / f"{name}.parquet"
            pq.write_table(pa.table(content), paths[name])
        else:
            paths[name] = tmp_path / f"{name}.csv"
            paths[name].write_bytes(content if isinstance(content, bytes) else content.encode())
    return DataConfig(books_path=paths["books"], interactions_path=paths["users"], **settings)


def ids_alone(path: Path, **settings) -> DataConfig:
    return DataConfig(books_path=None, interactions_path=path, **settings)


def books_of(config: DataConfig) -> pa.Table:
    return read_books(config.books_path, config)


def raw_ids(tables: Tables) -> list[tuple[str, str]]:
    users, items = (ids.to_pylist() for ids in (tables.user_ids, tables.item_ids))
    log = tables.interactions
    return [(users[user], items[item]) for user, item in zip(log.users, log.items, strict=True)]


def with_row(row: str, text: str = USERS) -> str:
    """The file with one more row: of the interactions the fifth line, of the books the fourth."""
    return text + row + "\n"


def message_of(config: DataConfig) -> str:
    with pytest.raises(BookendsError) as caught:
        read_tables(config)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1000
    return message


# What is accepted --------------------------------------------------------------------------------


def test_both_files_are_read_as_they_are(tmp_path):
    tables = read_tables(config_of(tmp_path))
    assert raw_ids(tables) == PAIRS
    assert tables.interactions.ratings.tolist() == [5, 4.5, 1]
    assert tables.interactions.times.tolist() == [1500000000, 1500000001, 1500000002]
    assert (tables.ticks, tables.rows) == (1, None)
    expected = {
        "item_id": ["b1", "b2"],
        "title": ["Ham, Eggs", "Tea"],
        "author": ["Ann Ink", "Ann Ink, Bo Quill"],
        "categories": ["food|fun", "food"],
        "average_rating": [4.5, 3.5],
        "rating_number": [10, 20],
        "price": [9.99, None],
    }
    assert tables.books.to_pydict() == expected


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_gzip_and_parquet_hold_the_same_as_csv(tmp_path, suffix):
    config = config_of(tmp_path)
    expected = read_tables(config)
    paths = []
    for path in (config.books_path, config.interactions_path):
        paths.append(path.with_suffix(suffix))
        if suffix == ".parquet":
            pq.write_table(pacsv.read_csv(path), paths[-1])
        else:
            paths[-1].write_bytes(gzip.compress(path.read_bytes()))
    tables = read_tables(DataConfig(books_path=paths[0], interactions_path=paths[1]))
    assert raw_ids(tables) == PAIRS
    for name in ("ratings", "times"):
        read, plain = (getattr(t.interactions, name).tolist() for t in (tables, expected))
        assert read == plain
    assert tables.books.equals(expected.books)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.removesuffix("\n"),
        lambda text: text.replace(",", " ,", text.partition("\n")[0].count(",")),
    ],
    ids=["CR LF", "blank lines", "byte order mark", "no newline at the end", "blanks in header"],
)
def test_harmless_differences_change_nothing(tmp_path, change):
    expected = read_tables(config_of(tmp_path / "plain"))
    tables = read_tables(config_of(tmp_path, change(BOOKS), change(USERS)))
    assert raw_ids(tables) == PAIRS
    assert tables.books.equals(expected.books)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "sep={}\n", "\ufeffsep={}\r\n", "\ufeff", "\n"])
@pytest.mark.parametrize("broken", [False, True])
def test_the_separator_is_the_one_of_the_header(tmp_path, separator, first, broken):
    books, users = (
        first.format(separator) + text.replace(", ", "@").replace(",", separator).replace("@", ", ")
        for text in (BOOKS.replace("food|fun", "food"), USERS)
    )
    config = config_of(tmp_path, books, with_row("x", users) if broken else users, bad_rows="drop")
    tables = read_tables(config)
    assert raw_ids(tables) == PAIRS
    assert tables.books["title"].to_pylist() == ["Ham, Eggs", "Tea"]
    if broken:
        strict = config.model_copy(update={"bad_rows": "error"})
        assert f": line {5 + first.count(chr(10))}: must have 4 fields" in message_of(strict)


@pytest.mark.parametrize(
    "title", ['One, "two"\nand three', '5" nails', "long " * 20_000, ""], ids=len
)
def test_titles_may_hold_quotes_commas_line_breaks_and_more_than_a_block(tmp_path, title):
    quoted = title if title == '5" nails' else '"{}"'.format(title.replace('"', '""'))
    table = books_of(config_of(tmp_path, BOOKS + f"b3,{quoted},,,,,\n"))
    assert table.to_pylist()[2] == table.to_pylist()[2] | {"title": title, "price": None}


@given(st.text('a",\n', max_size=16), st.integers(1, 8))
def test_quotes_must_stand_around_whole_fields_whatever_the_blocks(text, size):
    field = r'(?:"(?:[^"]|"")*"|[^",\n]*)'
    file = QuoteCheckedFile(io.BytesIO(text.encode()), ",")
    try:
        while file.read(size):
            pass
        accepted = True
    except pa.ArrowInvalid:
        accepted = False
    assert accepted == bool(re.fullmatch(rf"{field}(?:[,\n]{field})*", text))


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        (
            "user_id,item_id,rating\n007,0439554934,5\n7,+1,5\n",
            [("007", "0439554934"), ("7", "+1")],
        ),
        ({"user_id": [1, 2], "item_id": [10, 10]}, [("1", "10"), ("2", "10")]),
    ],
)
def test_ids_stay_text(tmp_path, users, expected):
    assert raw_ids(read_tables(config_of(tmp_path, users=users))) == expected


def test_columns_can_be_mapped(tmp_path):
    config = config_of(
        tmp_path,
        BOOKS.replace("item_id", "parent_asin", 1).replace("price", "cost", 1),
        USERS.replace("item_id", "parent_asin", 1),
        book_columns={"item_id": "parent_asin", "price": "cost"},
        interaction_columns={"item_id": "parent_asin"},
    )
    tables = read_tables(config)
    assert raw_ids(tables) == PAIRS
    assert tables.books["price"].to_pylist() == [9.99, None]


def test_further_columns_are_ignored_or_named_as_numbers(tmp_path):
    books = "item_id,title,author,categories,pages,junk\nb1,T,A,c,120,x\nb2,T,A,c,,y\n"
    table = books_of(config_of(tmp_path, books, feature_params={"numeric_columns": ["pages"]}))
    assert table.column_names == ["item_id", "title", "author", "categories", "pages"]
    assert table["pages"].to_pylist() == [120, None]


def test_limits_take_the_first_rows_and_do_not_look_at_later_ones(tmp_path):
    users = with_row("broken")
    tables = read_tables(config_of(tmp_path, users=users, books_limit=1, interactions_limit=2))
    assert tables.books["item_id"].to_pylist() == ["b1"]
    assert raw_ids(tables) == PAIRS[:2]
    assert raw_ids(read_tables(config_of(tmp_path, users=users, interactions_limit=3))) == PAIRS


def test_all_columns_of_items_but_the_id_may_be_absent_and_are_named_at_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        table = books_of(config_of(tmp_path, "item_id,title\nb1,T\n"))
    assert table.to_pylist() == [{"item_id": "b1", "title": "T", "author": "", "categories": ""}]
    absent = "has no column author, categories, average_rating, rating_number, price, which is left"
    assert absent in caplog.text


@pytest.mark.parametrize(
    "numeric", [None, ["price", "rating_number", "average_rating"]], ids=["default", "named"]
)
def test_the_default_numeric_columns_may_be_absent(tmp_path, numeric, caplog):
    settings = {} if numeric is None else {"feature_params": {"numeric_columns": numeric}}
    with caplog.at_level(logging.INFO):
        table = books_of(config_of(tmp_path, ABSENT, **settings))
    assert table.column_names == ["item_id", "title", "author", "categories", "average_rating"]
    assert sum("which is left out of the features" in line for line in caplog.messages) == 1


@pytest.mark.parametrize(
    ("change", "times", "ticks"),
    [
        (("150000000", "150000000000"), [1500000000000, 1500000000001, 1500000000002], 1000),
        (("1500000001", "1500000001.0"), [1500000000, 1500000001, 1500000002], 1),
    ],
    ids=["milliseconds", "decimals"],
)
def test_timestamps_may_be_milliseconds_or_decimals(tmp_path, change, times, ticks):
    tables = read_tables(config_of(tmp_path, users=USERS.replace(*change)))
    assert (tables.interactions.times.tolist(), tables.ticks) == (times, ticks)


def config_at(tmp_path, times) -> DataConfig:
    """Interactions of one user with one item at the given times of a Parquet type."""
    pairs = {"user_id": ["u"] * len(times), "item_id": ["b1"] * len(times)}
    return config_of(tmp_path, users=pairs | {"timestamp": times})


DAYS = [0, 500, 1200]  # 1970, May 1971, and April 1973, from when milliseconds exceed 1e11


@pytest.mark.parametrize(
    ("type_", "a_day"),
    [
        (pa.date32(), 1),
        (pa.date64(), 86_400_000),
        (pa.timestamp("s"), 86_400),
        (pa.timestamp("ns"), 86_400 * 10**9),
        (pa.timestamp("us", "Europe/Berlin"), 86_400 * 10**6),
    ],
    ids=str,
)
def test_the_type_of_a_parquet_time_says_its_unit(tmp_path, type_, a_day):
    times = pa.array([a_day * day for day in DAYS], pa.int64())
    times = (times.cast(pa.int32()) if type_ == pa.date32() else times).cast(type_)
    tables = read_tables(config_at(tmp_path, times))
    expected = [86_400 * day for day in DAYS]
    assert (tables.interactions.times // tables.ticks).tolist() == expected


def test_a_parquet_time_beyond_the_year_9999_is_a_bad_row(tmp_path):
    message = message_of(config_at(tmp_path, pa.array([253402300800], pa.timestamp("s"))))
    assert f"row 1: column {TIME}{UNIT}, got '10000-01-01" in message


def test_a_parquet_time_is_read_to_the_millisecond(tmp_path):
    tables = read_tables(config_at(tmp_path, pa.array([1500000000123456], pa.timestamp("us"))))
    assert (tables.interactions.times.tolist(), tables.ticks) == ([1500000000123], 1000)


def test_the_first_of_repeated_items_is_kept_and_the_others_counted(tmp_path, caplog):
    books = BOOKS + "b1,Other,X,y,1,1,1\nb1,Third,X,y,1,1,1\n"
    with caplog.at_level(logging.WARNING):
        table = books_of(config_of(tmp_path, books))
    assert table["title"].to_pylist() == ["Ham, Eggs", "Tea"]
    assert "2 rows repeat an item's id" in caplog.text


@pytest.mark.parametrize("broken", [False, True])
def test_ratings_may_be_empty_where_none_is_needed(tmp_path, broken):
    users = with_row("u3,b1,,1500000003", with_row("u3,b2,nan,1500000004"))
    users = with_row("x", users) if broken else users
    ratings = read_tables(config_of(tmp_path, users=users, bad_rows="drop")).interactions.ratings
    assert ratings.dtype == np.float32
    np.testing.assert_array_equal(ratings, np.float32([5, 4.5, 1, np.nan, np.nan]))


def test_ratings_may_be_null_in_parquet_where_none_is_needed(tmp_path):
    users = {"user_id": ["u", "v"], "item_id": ["b1"] * 2, "rating": [4, None]}
    log = read_tables(config_of(tmp_path, users=users)).interactions
    np.testing.assert_array_equal(log.ratings, [4, np.nan])


def test_reading_line_by_line_gives_what_reading_at_once_gives(tmp_path):
    """One bad row among many sends the whole file down the slow way."""
    rng = np.random.default_rng(1)
    rows = [f"u{u},b{b},{r},{1500000000 + t}" for u, b, r, t in rng.integers(0, 500, (9_000, 4))]
    users = "user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n"
    good = read_tables(config_of(tmp_path / "good", users=users))
    broken = read_tables(config_of(tmp_path, users=with_row("x", users), bad_rows="drop"))
    assert raw_ids(broken) == raw_ids(good)
    for name in ("ratings", "times"):
        one, other = (getattr(tables.interactions, name) for tables in (good, broken))
        assert one.tolist() == other.tolist()


# What is refused ---------------------------------------------------------------------------------

NUMBER = "must be a number between -1e+15 and 1e+15"
TIME = "'timestamp' must be seconds or milliseconds since 1970"
BAD_ROWS = {
    "too few fields": ("u3,b1,3", "must have 4 fields like the header, has 3"),
    "too many fields": ("u3,b1,3,1500000003,x", "must have 4 fields like the header, has 5"),
    "rating is text": ("u3,b1,good,1500000003", f"'rating' {NUMBER}, or empty, got 'good'"),
    "rating is inf": ("u3,b1,inf,1500000003", f"'rating' {NUMBER}, or empty, got 'inf'"),
    "rating is absurd": ("u3,b1,-1e308,1500000003", f"'rating' {NUMBER}, or empty, got '-1e308'"),
    "rating has _": ("u3,b1,1_0,1500000003", f"'rating' {NUMBER}, or empty, got '1_0'"),
    "user is empty": (",b1,3,1500000003", "'user_id' must not be empty, got ''"),
    "item is blank": ("u3, ,3,1500000003", "'item_id' must not be empty, got ' '"),
    "time is a date": ("u3,b1,3,2017-07-14", TIME),
    "time is empty": ("u3,b1,3,", TIME),
    "time is negative": ("u3,b1,3,-1", TIME),
    "time is in another unit": ("u3,b1,3,1500000003000", "all in the same unit"),
    "quote is never closed": ('u3,"b1,3,1500000003', 'that begins with " must end with "'),
    "quote is never closed at the end": ('u3,b1,3,"1500000003', 'must end with "'),
    "CR within the row": ("u3,b1\rx,3,1500000003", "must end in LF or CR LF, this one has a CR"),
}


@pytest.mark.parametrize(("row", "expected"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_is_an_error_that_names_file_line_and_column(tmp_path, row, expected):
    config = config_of(tmp_path, users=with_row(row))
    message = message_of(config)
    assert message.startswith(f"{config.interactions_path}: line 5: ")
    assert expected in message


@pytest.mark.parametrize(("row", "_"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_can_be_left_out_and_is_counted(tmp_path, caplog, row, _):
    users = with_row("u4,b2,2,1500000004", with_row(row))
    with caplog.at_level(logging.WARNING):
        tables = read_tables(config_of(tmp_path, users=users, bad_rows="drop"))
    assert raw_ids(tables) == [*PAIRS, ("u4", "b2")]
    assert tables.rows.tolist() == [1, 2, 3, 5]
    assert "1 rows left out: 1 with " in caplog.text


SWALLOWED = """item_id,title,author,categories
b1,"Ham,Ann,food
b2,Tea,Bo,food
b3,"Eggs",Cy,food
b4,Rum,"Di",drink
"""
LATIN_1 = with_row("b3,Été,A,x,1,1,1", BOOKS).encode("latin-1")
UNIT = ", all in the same unit"
REFUSED = {
    "open quote": ({"books": SWALLOWED}, 'line 2: a field that begins with " must end with "'),
    "open quote, limited": ({"books": SWALLOWED, "books_limit": 3}, "line 2: a field that begins"),
    "line in a quoted field": (
        {"books": BOOKS + 'b3,"two\nlines",A,x,1,1,1\n\nb4,T,A,x,1,1,cheap\n'},
        f"line 7: column 'price' {NUMBER}, or empty, got 'cheap'",
    ),
    "line where only the value is wrong": (
        {"books": BOOKS + 'b3,"two\nlines",A,x,1,1,1\n\nb4,T,A,x,1,1,inf\n'},
        f"line 7: column 'price' {NUMBER}, or empty, got 'inf'",
    ),
    "first of several": (
        {"users": with_row("u3,b1,3,1500000003\n,b1,3,1500000003\nu4,b1,inf,1500000003")},
        "line 6: column 'user_id'",
    ),
    "first is in a later column": (
        {"users": with_row("u3,b1,inf,1500000003\n,b1,3,1500000003")},
        "line 5: column 'rating'",
    ),
    "seconds among milliseconds": (
        {"users": with_row("u3,b1,3,1500000003", USERS.replace("150000000", "150000000000"))},
        f"line 5: column {TIME}{UNIT}, got '1500000003'",
    ),
    "first is a value, then a broken row": (
        {"users": with_row("u3,b1,x,1500000003\nbroken")},
        "line 5: column 'rating'",
    ),
    "quoted text is printable and cut": (
        {"users": with_row(f'u3,b1,"\x1b[31mred\n{"x" * 70_000}",1500000003')},
        f"line 5: column 'rating' {NUMBER}, or empty, got '\\x1b[31mred\\n{'x' * 51}'... (70009 ch",
    ),
    "header is printable and cut": (
        {"users": f'"\x1b[31muser_id{"x" * 70_000}",item_id\nu1,b1\n'},
        "column 'user_id' is missing",
    ),
    "missing column": (
        {"users": USERS.replace("user_id", "User_Id", 1)},
        "column 'user_id' is missing (closest: 'User_Id'); needed: user_id, item_id; the file has: "
        "User_Id, item_id, rating, timestamp; if it is there under another name, set "
        "'data.interaction_columns: {user_id: User_Id}'",
    ),
    "mapped column": ({"interaction_columns": {"rating": "stars"}}, "column 'stars' is missing"),
    "mapped text": ({"book_columns": {"title": "Book-Title"}}, "column 'Book-Title' is missing"),
    "needed number": (
        {"books": ABSENT, "feature_params": {"numeric_columns": ["average_rating", "price"]}},
        "column 'price' is missing",
    ),
    "empty rating": (
        {"users": with_row("u3,b1,,1500000003"), "min_rating": 1},
        f"line 5: column 'rating' {NUMBER}, got ''",
    ),
    "nan rating": (
        {"users": with_row("u3,b1,nan,1500000003"), "min_rating": 1},
        f"line 5: column 'rating' {NUMBER}, got 'nan'",
    ),
    "no rating": ({"users": "user_id,item_id\nu1,b1\n", "min_rating": 3}, "column 'rating' is"),
    "column twice": (
        {"users": "user_id,item_id,item_id\nu1,b1,b1\n"},
        "column 'item_id' must be there once, is there twice",
    ),
    "empty file": ({"users": ""}, "the first line must name the columns, the file is empty"),
    "blank lines": ({"users": "\n\n"}, "the first line must name the columns, the file is empty"),
    "all rows dropped": (
        {"users": "user_id,item_id,rating\nu1,b1,x\nu1,b2,inf\n", "bad_rows": "drop"},
        "must have at least one row that can be read below the header",
    ),
    "UTF-16": ({"users": USERS.encode("utf-16")}, "must be UTF-8 text, line 1 is UTF-16 or binary"),
    "Latin-1": (
        {"books": LATIN_1},
        "line 4: column 'title' must be UTF-8 text, got b'\\xc9t\\xe9'; save the file as UTF-8",
    ),
    "CR at the end of the row": (
        {"users": USERS.replace("\nu2", "\r,b1,5,1500000000\nu2")},
        "line 2: lines must end in LF or CR LF",
    ),
    "CR in place of LF": (
        {"users": USERS.replace("\n", "\r")},
        "lines must end in LF or CR LF, line",
    ),
    "zip": ({"users": b"PK\x03\x04\x00\x01\n"}, "must be CSV, is a zip or Excel file"),
    "Parquet as CSV": ({"users": b"PAR1\x00\x01\n"}, "must be CSV, is a Parquet file, whose name"),
    "too long": (
        {"books": BOOKS + f'b3,"{"x" * (MAX_FIELD + 1)}",A,x,1,1,1\nbad\n'},
        "line 4: a field must have at most 4194304 characters",
    ),
    "Parquet, absurd": (
        {"books": {"item_id": ["b1", "b2"], "price": [1.0, 1e308]}},
        f"row 2: column 'price' {NUMBER}, or empty, got '1e+308'",
    ),
    "Parquet, null id": (
        {"users": {"user_id": ["u", None], "item_id": ["b1", "b1"]}},
        "row 2: column 'user_id' must not be empty",
    ),
    **{
        f"Parquet, time is {odd}": (
            {"users": {"user_id": ["u", "v"], "item_id": ["b1"] * 2, "timestamp": [1.5e9, odd]}},
            f"row 2: column {TIME}{UNIT}",
        )
        for odd in (None, float("nan"), float("inf"), -1.0, 1e300)
    },
    **{
        f"Parquet, {column} holds {said}": (
            {place: {"user_id": ["u", "v"], "item_id": ["b1", "b1"], column: values}},
            f"column '{column}' must hold {said}",
        )
        for place, column, values, said in (
            ("users", "user_id", [1.5, 2.5], "strings or integers, holds double"),
            ("users", "rating", ["5", "4"], f"{NUMBER[8:]}, or empty, holds string"),
            ("users", "timestamp", ["2020"] * 2, "seconds or milliseconds since 1970, holds strin"),
            ("books", "title", [1, 2], "text, holds int64"),
            ("books", "categories", [1, 2], "text or lists of texts, holds int64"),
            ("books", "categories", [[1], [2]], "text or lists of texts, holds list<"),
            ("books", "price", [True, False], f"{NUMBER[8:]}, or empty, holds bool"),
        )
    },
}


@pytest.mark.parametrize(("given", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_is_refused_in_one_line_that_says_where(tmp_path, given, expected):
    config = config_of(tmp_path, **given)
    message = message_of(config)
    is_books = "books" in given or "book_columns" in given
    path = config.books_path if is_books else config.interactions_path
    assert message.startswith(f"{path}: {expected}")


def test_a_text_field_is_no_numeric_column(tmp_path):
    config = config_of(tmp_path, feature_params={"numeric_columns": ["title"]})
    assert "must name numeric columns, got 'title'" in message_of(config)


@pytest.mark.parametrize("bad_rows", ["error", "drop"])
@pytest.mark.parametrize("limit", [None, 5])
def test_a_header_without_rows_is_refused(tmp_path, bad_rows, limit):
    config = config_of(
        tmp_path, users=USERS.partition("\n")[0], bad_rows=bad_rows, interactions_limit=limit
    )
    assert "must have at least one row that can be read" in message_of(config)


@pytest.mark.parametrize(
    ("books", "left", "reason"),
    [
        (SWALLOWED, ["b2", "b3", "b4"], "quotes that do not match"),
        (LATIN_1, ["b1", "b2"], "not UTF-8"),
        (with_row("b3,T,A,x,1e16,1,1", BOOKS), ["b1", "b2"], "bad 'average_rating'"),
    ],
    ids=["open quote", "Latin-1", "absurd number"],
)
def test_a_bad_row_takes_no_other_with_it(tmp_path, caplog, books, left, reason):
    with caplog.at_level(logging.WARNING):
        table = books_of(config_of(tmp_path, books, bad_rows="drop"))
    assert table["item_id"].to_pylist() == left
    assert f"1 rows left out: 1 with {reason}" in caplog.text


@pytest.mark.parametrize(("length", "n_books"), [(400_000, 3), (MAX_FIELD + 1, 2)])
def test_a_long_field_is_read_also_line_by_line_unless_it_is_too_long(tmp_path, length, n_books):
    books = BOOKS + f'b3,"{"x" * length}",A,x,1,1,1\nbad\n'
    assert len(books_of(config_of(tmp_path, books, bad_rows="drop"))) == n_books


def test_dropped_rows_are_counted_by_reason(tmp_path, caplog):
    users = USERS + "u3,b1\nu4,b1\n,b1,3,1500000003\nu5,b1,x,1500000003\n"
    with caplog.at_level(logging.WARNING):
        read_tables(config_of(tmp_path, users=users, bad_rows="drop"))
    assert "4 rows left out" in caplog.text
    for count in ("2 with wrong number of fields", "1 with bad 'user_id'", "1 with bad 'rating'"):
        assert count in caplog.text


def test_the_log_quotes_no_raw_row(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        message_of(config_of(tmp_path, users=with_row("\x1b[31m" + "x" * 70_000)))
    assert "reading line by line" in caplog.text
    assert "\x1b" not in caplog.text
    assert len(caplog.text) < 2000


# Files as people have them: in parts, packed, or not what their names say ------------------------


@pytest.mark.parametrize("name", ["users.csv.gz", "users.parquet"])
def test_a_file_that_breaks_off_is_refused_even_where_bad_rows_are_dropped(tmp_path, name):
    rng = np.random.default_rng(0)
    rows = "\n".join(f"u{a},b{b},3,1500000000" for a, b in rng.integers(0, 10**6, (20_000, 2)))
    raw = gzip.compress((USERS + rows).encode())
    (tmp_path / name).write_bytes(raw[: len(raw) // 2])
    message = message_of(ids_alone(tmp_path / name, bad_rows="drop"))
    assert message.startswith(f"{tmp_path / name}: must be a")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("gone.csv", None, "no such file"),
        ("users.xlsx", b"x", "the name must end in .csv, .csv.gz"),
        ("users.csv.gz", USERS.encode(), "must be a whole gzip file"),
        ("bad.txt", b"u1 i1\nu2 \xff\n", "line 2: must be UTF-8 text"),
        ("bad.txt.gz", b"u1 i1", "must be readable"),
        ("cut.txt.gz", gzip.compress(b"u1 i1 " * 99, mtime=0)[:20], "must be readable"),
        ("", None, "a folder must hold files whose names end in .parquet, has none"),
    ],
)
def test_a_file_that_cannot_be_opened_is_named(tmp_path, name, content, expected):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message_of(ids_alone(tmp_path / name)).startswith(f"{tmp_path / name}: {expected}")


def test_paths_are_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message_of(ids_alone(Path("none.csv"))) == "none.csv: no such file"


def test_a_pipe_is_refused_at_once(tmp_path):
    path = tmp_path / "users.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("x",), daemon=True)
    writer.start()
    assert "must be a file, which is read more than once" in message_of(ids_alone(path))
    path.read_text()  # lets the writer go
    writer.join(10)


ROWS = [(f"u{user}", f"b{item}", 1_500_000_000 + item) for user in range(4) for item in range(5)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("users.csv", "user_id,item_id\n" + "\n".join(f"{u},{i}" for u, i, _ in ROWS)),
        ("users.txt", "\n".join(f"{u} {i}" for u, i, _ in ROWS)),
    ],
)
def test_gzip_is_known_by_its_content(tmp_path, name, content):
    (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    assert raw_ids(read_tables(ids_alone(tmp_path / name))) == [row[:2] for row in ROWS]


def table_of(rows) -> pa.Table:
    columns = ("user_id", "item_id", "timestamp")
    return pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))


def write_parts(folder, *tables):
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"part-{number}.snappy.parquet")
    return folder


@pytest.mark.parametrize("limit", [None, 3, 12])
def test_a_folder_of_parquet_parts_is_read_in_the_order_of_their_names(tmp_path, limit):
    folder = write_parts(tmp_path / "users", *(table_of(ROWS[at : at + 10]) for at in (0, 10)))
    tables = read_tables(ids_alone(folder, interactions_limit=limit))
    assert raw_ids(tables) == [row[:2] for row in ROWS[:limit]]


def test_a_folder_has_another_digest_where_a_part_changes(tmp_path):
    folder = write_parts(tmp_path / "users", table_of(ROWS[:10]), table_of(ROWS[10:]))
    before = content_sha256(folder)
    assert content_sha256(folder) == before
    pq.write_table(table_of(ROWS[10:15]), folder / "part-1.snappy.parquet")
    assert content_sha256(folder) != before


def test_parts_may_differ_in_the_type_of_ids(tmp_path):
    numbers = pa.table({"user_id": [1], "item_id": [10]})
    texts = pa.table({"user_id": ["1"], "item_id": ["11"]})
    folder = write_parts(tmp_path / "users", numbers, texts)
    assert raw_ids(read_tables(ids_alone(folder))) == [("1", "10"), ("1", "11")]


def test_parts_that_do_not_go_together_are_refused(tmp_path):
    table = table_of(ROWS)
    typed = table.set_column(2, "timestamp", table["timestamp"].cast(pa.timestamp("s")))
    without = write_parts(tmp_path / "without", table, table.drop(["timestamp"]))
    expected = r"part-1\.snappy\.parquet: column 'timestamp' is missing, which other parts have"
    assert re.search(expected, message_of(ids_alone(without)))
    mixed = write_parts(tmp_path / "mixed", table, typed)
    expected = "column 'timestamp' must be of one type in all parts"
    assert expected in message_of(ids_alone(mixed))


@given(
    lines=st.lists(st.lists(st.text("0123456789aé", min_size=1, max_size=4), max_size=4)),
    gap=st.sampled_from([" ", "  ", "\t", " \t "]),
    end=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    limit=st.sampled_from([None, 1, 3]),
    packed=st.booleans(),
)
def test_every_item_of_a_line_is_one_of_its_user(tmp_path_factory, lines, gap, end, limit, packed):
    text = ("\n".join(gap.join(line) for line in lines) + end).encode()
    path = tmp_path_factory.getbasetemp() / ("train.txt.gz" if packed else "train.txt")
    path.write_bytes(gzip.compress(text) if packed else text)
    expected = [(line[0], item) for line in lines for item in line[1:]][:limit]
    read = read_item_lines(path, limit).to_pydict()
    assert list(zip(read["user_id"], read["item_id"], strict=True)) == expected


def test_lines_have_no_ratings_to_filter_by(tmp_path):
    (tmp_path / "all.txt").write_text("u1 b1\n")
    with pytest.raises(DataError, match=r"column 'rating' is missing.* has: user_id, item_id"):
        read_tables(ids_alone(tmp_path / "all.txt", min_rating=3))
