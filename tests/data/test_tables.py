"""Reading the two files: what is accepted, what is refused, and in which words."""

import gzip
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from recsys.config import DataConfig
from recsys.data.csv_file import MAX_FIELD
from recsys.data.tables import Tables, read_books, read_tables
from recsys.errors import BookendsError, ConfigError, DataError

BOOKS = """item_id,title,author,categories,average_rating,rating_number,price
b1,"Ham, Eggs",Ann Ink,food|fun,4.5,10,9.99
b2,Tea,"Ann Ink, Bo Quill",food,3.5,20,
"""
USERS = """user_id,item_id,rating,timestamp
u1,b1,5,1500000000
u2,b1,4.5,1500000001
u1,b2,1,1500000002
"""


def books_of(config):
    return read_books(config.books_path, config)


def config_of(tmp_path: Path, books=BOOKS, users=USERS, **settings) -> DataConfig:
    """Settings for two CSV files with the given content (text or bytes)."""
    paths = {}
    for name, content in (("books", books), ("users", users)):
        paths[name] = tmp_path / f"{name}.csv"
        raw = content if isinstance(content, bytes) else content.encode()
        paths[name].write_bytes(raw)
    return DataConfig(books_path=paths["books"], interactions_path=paths["users"], **settings)


def raw_ids(tables: Tables) -> list[tuple[str, str]]:
    users, items, log = (
        tables.user_ids.to_pylist(),
        tables.item_ids.to_pylist(),
        tables.interactions,
    )
    pairs = zip(log.users.tolist(), log.items.tolist(), strict=True)
    return [(users[user], items[item]) for user, item in pairs]


def with_row(row: str, text: str = USERS) -> str:
    """The file with one more row, its fifth line."""
    return text + row + "\n"


def message_of(config: DataConfig) -> str:
    with pytest.raises(BookendsError) as caught:
        read_tables(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_both_files_are_read_as_they_are(tmp_path):
    tables = read_tables(config_of(tmp_path))
    assert raw_ids(tables) == [("u1", "b1"), ("u2", "b1"), ("u1", "b2")]
    assert tables.interactions.ratings.tolist() == [5, 4.5, 1]
    assert tables.interactions.times.tolist() == [1500000000, 1500000001, 1500000002]
    assert tables.ticks == 1
    assert tables.rows is None
    assert tables.books.to_pylist() == [
        {
            "item_id": "b1",
            "title": "Ham, Eggs",
            "author": "Ann Ink",
            "categories": "food|fun",
            "average_rating": 4.5,
            "rating_number": 10,
            "price": 9.99,
        },
        {
            "item_id": "b2",
            "title": "Tea",
            "author": "Ann Ink, Bo Quill",
            "categories": "food",
            "average_rating": 3.5,
            "rating_number": 20,
            "price": None,
        },
    ]


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_gzip_and_parquet_hold_the_same_as_csv(tmp_path, suffix):
    config = config_of(tmp_path)
    expected = read_tables(config)
    paths = {}
    for name, path in (("books", config.books_path), ("users", config.interactions_path)):
        paths[name] = tmp_path / f"{name}{suffix}"
        if suffix == ".parquet":
            pq.write_table(pacsv.read_csv(path), paths[name])
        else:
            paths[name].write_bytes(gzip.compress(path.read_bytes()))
    tables = read_tables(DataConfig(books_path=paths["books"], interactions_path=paths["users"]))
    assert raw_ids(tables) == raw_ids(expected)
    assert tables.interactions.ratings.tolist() == expected.interactions.ratings.tolist()
    assert tables.interactions.times.tolist() == expected.interactions.times.tolist()
    assert tables.books.equals(expected.books)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.removesuffix("\n"),
    ],
    ids=["CR LF", "blank lines", "byte order mark", "no newline at the end"],
)
def test_harmless_differences_change_nothing(tmp_path, change):
    (tmp_path / "plain").mkdir()
    expected = read_tables(config_of(tmp_path / "plain"))
    tables = read_tables(config_of(tmp_path, change(BOOKS), change(USERS)))
    assert raw_ids(tables) == raw_ids(expected)
    assert tables.books.equals(expected.books)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "sep={}\n", "\ufeffsep={}\r\n", "\ufeff", "\n"])
@pytest.mark.parametrize("broken", [False, True])
def test_the_separator_is_the_one_of_the_header(tmp_path, separator, first, broken):
    (tmp_path / "plain").mkdir()
    expected = read_tables(config_of(tmp_path / "plain"))
    books, users = (
        first.format(separator) + text.replace(", ", "@").replace(",", separator).replace("@", ", ")
        for text in (BOOKS.replace("food|fun", "food"), USERS)
    )
    config = config_of(tmp_path, books, with_row("x", users) if broken else users, bad_rows="drop")
    tables = read_tables(config)
    assert raw_ids(tables) == raw_ids(expected)
    assert tables.books["title"].to_pylist() == expected.books["title"].to_pylist()
    if broken:
        strict = config.model_copy(update={"bad_rows": "error"})
        n_skipped = first.count("\n")
        assert f": line {5 + n_skipped}: must have 4 fields" in message_of(strict)


def test_blanks_around_the_names_of_columns_do_not_count(tmp_path):
    users = USERS.replace(",", ", ")
    assert raw_ids(read_tables(config_of(tmp_path, users=users)))[2] == ("u1", "b2")


def test_titles_may_hold_quotes_commas_and_line_breaks(tmp_path):
    title = 'One, "two"\nand three'
    quoted = title.replace('"', '""')
    config = config_of(tmp_path, BOOKS + f'b3,"{quoted}",A,x,1,1,1\n')
    assert books_of(config)["title"].to_pylist()[2] == title


def test_ids_stay_text(tmp_path):
    users = "user_id,item_id,rating\n007,0439554934,5\n7,+1,5\n"
    tables = read_tables(config_of(tmp_path, users=users))
    assert raw_ids(tables) == [("007", "0439554934"), ("7", "+1")]


def test_parquet_ids_may_be_integers(tmp_path):
    config = config_of(tmp_path)
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": [1, 2], "item_id": [10, 10]}), path)
    tables = read_tables(config.model_copy(update={"interactions_path": path}))
    assert raw_ids(tables) == [("1", "10"), ("2", "10")]


def test_columns_can_be_mapped(tmp_path):
    books = BOOKS.replace("item_id", "parent_asin", 1).replace("price", "cost", 1)
    users = USERS.replace("item_id", "parent_asin", 1)
    config = config_of(
        tmp_path,
        books,
        users,
        book_columns={"item_id": "parent_asin", "price": "cost"},
        interaction_columns={"item_id": "parent_asin"},
    )
    tables = read_tables(config)
    assert raw_ids(tables)[2] == ("u1", "b2")
    assert tables.books["price"].to_pylist() == [9.99, None]


def test_further_columns_are_ignored_or_named_as_numbers(tmp_path):
    books = "item_id,title,author,categories,pages,junk\nb1,T,A,c,120,x\nb2,T,A,c,,y\n"
    table = books_of(config_of(tmp_path, books, feature_params={"numeric_columns": ["pages"]}))
    assert table.column_names == ["item_id", "title", "author", "categories", "pages"]
    assert table["pages"].to_pylist() == [120, None]


def test_limits_take_the_first_rows(tmp_path):
    tables = read_tables(config_of(tmp_path, books_limit=1, interactions_limit=2))
    assert tables.books["item_id"].to_pylist() == ["b1"]
    assert raw_ids(tables) == [("u1", "b1"), ("u2", "b1")]


def test_limits_do_not_look_at_later_rows(tmp_path):
    config = config_of(tmp_path, users=with_row("broken"), interactions_limit=3)
    assert len(read_tables(config).interactions) == 3


def test_rating_and_timestamp_are_optional(tmp_path):
    tables = read_tables(config_of(tmp_path, users="user_id,item_id\nu1,b1\n"))
    assert tables.interactions.ratings is None
    assert tables.interactions.times is None


def test_all_columns_of_books_but_the_id_may_be_absent_and_are_named_at_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        table = books_of(config_of(tmp_path, "item_id,title\nb1,T\n"))
    assert table.to_pylist() == [{"item_id": "b1", "title": "T", "author": "", "categories": ""}]
    absent = "has no column author, categories, average_rating, rating_number, price, which is left"
    assert absent in caplog.text


def test_a_mapped_text_column_must_be_there(tmp_path):
    config = config_of(tmp_path, book_columns={"title": "Book-Title"})
    assert "column 'Book-Title' is missing" in message_of(config)


def test_timestamps_may_be_milliseconds(tmp_path):
    tables = read_tables(config_of(tmp_path, users=USERS.replace("150000000", "150000000000")))
    assert tables.ticks == 1000
    assert tables.interactions.times.tolist() == [1500000000000, 1500000000001, 1500000000002]


def test_timestamps_may_be_written_as_decimals(tmp_path):
    users = USERS.replace("1500000001", "1500000001.0")
    assert read_tables(config_of(tmp_path, users=users)).interactions.times[1] == 1500000001


def test_parquet_timestamps_may_be_of_a_timestamp_type(tmp_path):
    config = config_of(tmp_path)
    path = tmp_path / "users.parquet"
    times = pa.array([1500000000123456], pa.timestamp("us"))
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["b1"], "timestamp": times}), path)
    tables = read_tables(config.model_copy(update={"interactions_path": path}))
    assert (tables.interactions.times.tolist(), tables.ticks) == ([1500000000123], 1000)


DAYS = [0, 500, 1200]  # 1970, May 1971, and April 1973, from when milliseconds exceed 1e11


@pytest.mark.parametrize(
    "type_, a_day",
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
    path = tmp_path / "users.parquet"
    times = pa.array([a_day * day for day in DAYS], pa.int64())
    times = (times.cast(pa.int32()) if type_ == pa.date32() else times).cast(type_)
    columns = {"user_id": ["u"] * 3, "item_id": ["b1"] * 3, "timestamp": times}
    pq.write_table(pa.table(columns), path)
    tables = read_tables(config_of(tmp_path).model_copy(update={"interactions_path": path}))
    assert (tables.interactions.times // tables.ticks).tolist() == [86_400 * day for day in DAYS]


@pytest.mark.parametrize("odd", [None, float("nan"), float("inf"), -1.0, 1e300])
def test_a_parquet_time_that_is_no_time_is_a_bad_row(tmp_path, odd):
    path = tmp_path / "users.parquet"
    columns = {"user_id": ["u", "v"], "item_id": ["b1"] * 2, "timestamp": [1.5e9, odd]}
    pq.write_table(pa.table(columns), path)
    message = message_of(config_of(tmp_path).model_copy(update={"interactions_path": path}))
    assert message.startswith(f"{path}: row 2: column 'timestamp' must be seconds or milliseconds")


def test_the_first_of_repeated_books_is_kept_and_the_others_counted(tmp_path, caplog):
    books = BOOKS + "b1,Other,X,y,1,1,1\nb1,Third,X,y,1,1,1\n"
    with caplog.at_level(logging.WARNING):
        table = books_of(config_of(tmp_path, books))
    assert table["title"].to_pylist() == ["Ham, Eggs", "Tea"]
    assert "2 rows repeat an item's id" in caplog.text


def test_an_empty_category_or_title_is_no_fault(tmp_path):
    table = books_of(config_of(tmp_path, BOOKS + "b3,,,,,,\n"))
    assert table.to_pylist()[2]["title"] == ""
    assert table.to_pylist()[2]["price"] is None


# What is refused ---------------------------------------------------------------------------------

NUMBER_OR_EMPTY = "must be a number between -1e+15 and 1e+15, or empty"
BAD_ROWS = {
    "too few fields": ("u3,b1,3", "must have 4 fields like the header, has 3"),
    "too many fields": ("u3,b1,3,1500000003,x", "must have 4 fields like the header, has 5"),
    "rating is text": ("u3,b1,good,1500000003", f"'rating' {NUMBER_OR_EMPTY}, got 'good'"),
    "rating is inf": ("u3,b1,inf,1500000003", f"'rating' {NUMBER_OR_EMPTY}, got 'inf'"),
    "rating has _": ("u3,b1,1_0,1500000003", f"'rating' {NUMBER_OR_EMPTY}, got '1_0'"),
    "user is empty": (",b1,3,1500000003", "'user_id' must not be empty, got ''"),
    "item is blank": ("u3, ,3,1500000003", "'item_id' must not be empty, got ' '"),
    "time is a date": ("u3,b1,3,2017-07-14", "'timestamp' must be seconds or milliseconds"),
    "time is empty": ("u3,b1,3,", "'timestamp' must be seconds or milliseconds"),
    "time is negative": ("u3,b1,3,-1", "'timestamp' must be seconds or milliseconds"),
    "time is in another unit": ("u3,b1,3,1500000003000", "all in the same unit"),
    "quote is never closed": ('u3,"b1,3,1500000003', 'that begins with " must end with "'),
    "quote is never closed in the last field": ('u3,b1,3,"1500000003', 'must end with "'),
}


@pytest.mark.parametrize("row, expected", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_is_an_error_that_names_file_line_and_column(tmp_path, row, expected):
    config = config_of(tmp_path, users=with_row(row))
    message = message_of(config)
    assert message.startswith(f"{config.interactions_path}: line 5: ")
    assert expected in message


@pytest.mark.parametrize("row, expected", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_can_be_left_out_and_is_counted(tmp_path, caplog, row, expected):
    users = with_row(row)
    users = with_row("u4,b2,2,1500000004", users)
    with caplog.at_level(logging.WARNING):
        tables = read_tables(config_of(tmp_path, users=users, bad_rows="drop"))
    assert raw_ids(tables) == [("u1", "b1"), ("u2", "b1"), ("u1", "b2"), ("u4", "b2")]
    assert tables.rows.tolist() == [1, 2, 3, 5]
    assert "1 rows left out: 1 with " in caplog.text


SWALLOWED = """item_id,title,author,categories
b1,"Ham,Ann,food
b2,Tea,Bo,food
b3,"Eggs",Cy,food
b4,Rum,"Di",drink
"""


@pytest.mark.parametrize("limit", [None, 3])
def test_an_open_quote_is_an_error_that_names_its_line(tmp_path, limit):
    config = config_of(tmp_path, SWALLOWED, books_limit=limit)
    assert message_of(config) == (
        f'{config.books_path}: line 2: a field that begins with " must end with "'
    )


def test_an_open_quote_takes_no_other_row_with_it(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        table = books_of(config_of(tmp_path, SWALLOWED, bad_rows="drop"))
    assert table["item_id"].to_pylist() == ["b2", "b3", "b4"]
    assert "1 rows left out: 1 with quotes that do not match" in caplog.text


def test_a_quote_within_an_unquoted_field_is_text(tmp_path):
    table = books_of(config_of(tmp_path, BOOKS + 'b3,5" nails,A,x,1,1,1\n'))
    assert table["title"].to_pylist()[2] == '5" nails'


@pytest.mark.parametrize("length", [400_000, 5_000_000])
def test_a_long_field_is_read_also_line_by_line_or_said_to_be_too_long(tmp_path, length):
    config = config_of(tmp_path, BOOKS + f'b3,"{"x" * length}",A,x,1,1,1\nbad\n', bad_rows="drop")
    n_books = 3 if length < MAX_FIELD else 2
    assert len(books_of(config)) == n_books
    if length > MAX_FIELD:
        strict = config.model_copy(update={"bad_rows": "error"})
        assert "line 4: a field must have at most 4194304 characters" in message_of(strict)


def test_a_cr_within_a_row_is_named(tmp_path):
    config = config_of(tmp_path, users=with_row("u3,b1\rx,3,1500000003,"))
    assert "line 5: lines must end in LF or CR LF, this one has a CR" in message_of(config)


def test_what_a_message_quotes_is_printable_and_cut(tmp_path):
    rating = "\x1b[31mred\n" + "x" * 70_000
    message = message_of(config_of(tmp_path, users=with_row(f'u3,b1,"{rating}",1500000003')))
    assert message.endswith(f"got '\\x1b[31mred\\n{'x' * 51}'... (70009 characters)")


def test_the_log_quotes_no_raw_row(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        message_of(config_of(tmp_path, users=with_row("\x1b[31m" + "x" * 70_000)))
    assert "reading line by line" in caplog.text
    assert "\x1b" not in caplog.text
    assert len(caplog.text) < 2000


def test_a_header_that_a_message_quotes_is_printable_and_cut(tmp_path):
    header = "\x1b[31muser_id" + "x" * 70_000
    message = message_of(config_of(tmp_path, users=f'"{header}",item_id\nu1,b1\n'))
    assert "\x1b" not in message
    assert len(message) < 1000


def test_dropped_rows_are_counted_by_reason(tmp_path, caplog):
    users = USERS + "u3,b1\nu4,b1\n,b1,3,1500000003\nu5,b1,x,1500000003\n"
    with caplog.at_level(logging.WARNING):
        read_tables(config_of(tmp_path, users=users, bad_rows="drop"))
    assert "4 rows left out" in caplog.text
    for count in ("2 with wrong number of fields", "1 with bad 'user_id'", "1 with bad 'rating'"):
        assert count in caplog.text


def test_the_first_of_several_faults_is_named(tmp_path):
    users = USERS + "u3,b1,3,1500000003\n,b1,3,1500000003\nu4,b1,inf,1500000003\n"
    assert ": line 6: column 'user_id'" in message_of(config_of(tmp_path, users=users))


def test_lines_are_counted_as_an_editor_does(tmp_path):
    books = BOOKS + 'b3,"two\nlines",A,x,1,1,1\n\nb4,T,A,x,1,1,cheap\n'
    config = config_of(tmp_path, books)
    assert message_of(config) == (
        f"{config.books_path}: line 7: column 'price' must be a number "
        "between -1e+15 and 1e+15, or empty, got 'cheap'"
    )


def test_lines_are_counted_as_an_editor_does_where_only_the_value_is_wrong(tmp_path):
    books = BOOKS + 'b3,"two\nlines",A,x,1,1,1\n\nb4,T,A,x,1,1,inf\n'
    assert ": line 7: column 'price'" in message_of(config_of(tmp_path, books))


@pytest.mark.parametrize("number", ["1e308", "-1e308", "1e16", "inf"])
def test_an_absurd_number_is_a_bad_row(tmp_path, caplog, number):
    config = config_of(tmp_path, BOOKS + f"b3,T,A,x,{number},1,1\n")
    assert message_of(config) == (
        f"{config.books_path}: line 4: column 'average_rating' must be a number between -1e+15 "
        f"and 1e+15, or empty, got '{number}'"
    )
    with caplog.at_level(logging.WARNING):
        table = books_of(config.model_copy(update={"bad_rows": "drop"}))
    assert table["item_id"].to_pylist() == ["b1", "b2"]
    assert "1 rows left out: 1 with bad 'average_rating'" in caplog.text


def test_an_absurd_number_in_parquet_is_a_bad_row(tmp_path):
    path = tmp_path / "books.parquet"
    pq.write_table(pa.table({"item_id": ["b1", "b2"], "price": [1.0, 1e308]}), path)
    assert message_of(config_of(tmp_path).model_copy(update={"books_path": path})) == (
        f"{path}: row 2: column 'price' must be a number between -1e+15 and 1e+15, or empty, "
        "got '1e+308'"
    )


def test_parquet_faults_name_the_row(tmp_path):
    config = config_of(tmp_path)
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": ["u", None], "item_id": ["b1", "b1"]}), path)
    message = message_of(config.model_copy(update={"interactions_path": path}))
    assert message == f"{path}: row 2: column 'user_id' must not be empty"


@pytest.mark.parametrize(
    "column, values, said",
    [
        ("user_id", [1.5, 2.5], "strings or integers, holds double"),
        ("rating", ["5", "4"], "a number between -1e+15 and 1e+15, or empty, holds string"),
        ("timestamp", ["2020", "2021"], "seconds or milliseconds since 1970, holds string"),
        ("title", [1, 2], "text, holds int64"),
        ("categories", [1, 2], "text or lists of texts, holds int64"),
        ("categories", [[1], [2]], "text or lists of texts, holds list<element: int64>"),
        ("price", [True, False], "a number between -1e+15 and 1e+15, or empty, holds bool"),
    ],
)
def test_a_parquet_column_of_the_wrong_type_is_named(tmp_path, column, values, said):
    config = config_of(tmp_path)
    path = tmp_path / "file.parquet"
    columns = {"user_id": ["u", "v"], "item_id": ["b1", "b1"], column: values}
    pq.write_table(pa.table(columns), path)
    place = "interactions_path" if column in ("user_id", "rating", "timestamp") else "books_path"
    message = message_of(config.model_copy(update={place: path}))
    assert message == f"{path}: column '{column}' must hold {said}"


def test_a_missing_column_says_what_is_needed_and_how_to_map_it(tmp_path):
    config = config_of(tmp_path, users=USERS.replace("user_id", "User_Id", 1))
    assert message_of(config) == (
        f"{config.interactions_path}: column 'user_id' is missing (closest: 'User_Id'); needed: "
        "user_id, item_id; the file has: User_Id, item_id, rating, timestamp; if it is there "
        "under another name, set 'data.interaction_columns: {user_id: User_Id}'"
    )


def test_a_mapped_column_must_be_there(tmp_path):
    config = config_of(tmp_path, interaction_columns={"rating": "stars"})
    assert "column 'stars' is missing" in message_of(config)


@pytest.mark.parametrize("broken", [False, True])
def test_ratings_may_be_empty_where_none_is_needed(tmp_path, broken):
    users = with_row("u3,b1,,1500000003", with_row("u3,b2,nan,1500000004"))
    users = with_row("x", users) if broken else users
    tables = read_tables(config_of(tmp_path, users=users, bad_rows="drop"))
    assert tables.interactions.ratings.dtype == np.float32
    np.testing.assert_array_equal(
        tables.interactions.ratings, np.float32([5, 4.5, 1, np.nan, np.nan])
    )


def test_ratings_may_be_null_in_parquet_where_none_is_needed(tmp_path):
    path = tmp_path / "users.parquet"
    columns = {"user_id": ["u", "v"], "item_id": ["b1"] * 2, "rating": [4, None]}
    pq.write_table(pa.table(columns), path)
    tables = read_tables(config_of(tmp_path).model_copy(update={"interactions_path": path}))
    np.testing.assert_array_equal(tables.interactions.ratings, [4, np.nan])


@pytest.mark.parametrize("rating", ["", "nan"])
def test_an_empty_rating_is_a_bad_row_where_ratings_decide(tmp_path, rating):
    config = config_of(tmp_path, users=with_row(f"u3,b1,{rating},1500000003"), min_rating=1)
    assert message_of(config) == (
        f"{config.interactions_path}: line 5: column 'rating' must be a number between -1e+15 and "
        f"1e+15, got '{rating}'"
    )


def test_min_rating_needs_the_rating(tmp_path):
    config = config_of(tmp_path, users="user_id,item_id\nu1,b1\n", min_rating=3)
    assert "column 'rating' is missing" in message_of(config)


def test_a_repeated_column_is_refused(tmp_path):
    config = config_of(tmp_path, users="user_id,item_id,item_id\nu1,b1,b1\n")
    assert "column 'item_id' must be there once" in message_of(config)


def test_a_text_field_is_no_numeric_column(tmp_path):
    with pytest.raises(ConfigError, match="must name numeric columns, got 'title'"):
        read_tables(config_of(tmp_path, feature_params={"numeric_columns": ["title"]}))


@pytest.mark.parametrize("content, expected", [("", "the file is empty"), ("\n\n", "empty")])
def test_an_empty_file_is_named(tmp_path, content, expected):
    assert expected in message_of(config_of(tmp_path, users=content))


@pytest.mark.parametrize("bad_rows", ["error", "drop"])
@pytest.mark.parametrize("limit", [None, 5])
def test_a_header_without_rows_is_refused(tmp_path, bad_rows, limit):
    config = config_of(
        tmp_path, users=USERS.partition("\n")[0], bad_rows=bad_rows, interactions_limit=limit
    )
    assert "must have at least one row that can be read" in message_of(config)


def test_a_file_whose_rows_are_all_dropped_is_refused(tmp_path):
    users = "user_id,item_id,rating\nu1,b1,x\nu1,b2,inf\n"
    config = config_of(tmp_path, users=users, bad_rows="drop")
    assert "must have at least one row that can be read" in message_of(config)


def test_utf_16_is_named(tmp_path):
    config = config_of(tmp_path, users=USERS.encode("utf-16"))
    assert message_of(config).startswith(f"{config.interactions_path}: must be UTF-8 text, line 1")


def test_latin_1_names_the_first_bad_line(tmp_path):
    books = (BOOKS + "b3,Été,A,x,1,1,1\n").encode("latin-1")
    message = message_of(config_of(tmp_path, books))
    assert ": line 4: column 'title' must be UTF-8 text, got b'\\xc9t\\xe9'" in message


def test_latin_1_rows_can_be_left_out(tmp_path, caplog):
    books = (BOOKS + "b3,Été,A,x,1,1,1\n").encode("latin-1")
    with caplog.at_level(logging.WARNING):
        table = books_of(config_of(tmp_path, books, bad_rows="drop"))
    assert table["item_id"].to_pylist() == ["b1", "b2"]
    assert "1 with not UTF-8" in caplog.text


@pytest.mark.parametrize("name", ["users.csv.gz", "users.parquet"])
def test_a_file_that_breaks_off_is_refused_even_where_bad_rows_are_dropped(tmp_path, name):
    config = config_of(tmp_path, bad_rows="drop")
    rng = np.random.default_rng(0)
    rows = "\n".join(f"u{a},b{b},3,1500000000" for a, b in rng.integers(0, 10**6, (20_000, 2)))
    raw = gzip.compress((USERS + rows).encode())
    path = tmp_path / name
    path.write_bytes(raw[: len(raw) // 2])
    message = message_of(config.model_copy(update={"interactions_path": path}))
    assert message.startswith(f"{path}: must be a")


def test_gz_that_is_no_gzip_is_refused(tmp_path):
    config = config_of(tmp_path)
    path = tmp_path / "users.csv.gz"
    path.write_text(USERS)
    message = message_of(config.model_copy(update={"interactions_path": path}))
    assert message.startswith(f"{path}: must be a whole gzip file")


@pytest.mark.parametrize(
    "name, expected", [("gone.csv", "no such file"), ("users.xlsx", "must end in .csv, .csv.gz")]
)
def test_a_file_that_cannot_be_opened_is_named(tmp_path, name, expected):
    config = config_of(tmp_path)
    (tmp_path / "users.xlsx").write_text("x")
    message = message_of(config.model_copy(update={"interactions_path": tmp_path / name}))
    assert message.startswith(f"{tmp_path / name}: ")
    assert expected in message


def test_lines_that_end_in_cr_alone_are_refused(tmp_path):
    rows = USERS.splitlines()
    for row in ("\r,b1,5,1500000000", f"\r{rows[2]}"):
        text = "\n".join([rows[0], rows[1] + row, *rows[2:]])
        assert "line 2: lines must end in LF or CR LF" in message_of(
            config_of(tmp_path, users=text)
        )
    assert "line 1 ends in CR" in message_of(config_of(tmp_path, users=USERS.replace("\n", "\r")))


def test_reading_line_by_line_gives_what_reading_at_once_gives(tmp_path):
    """One bad row among many sends the whole file down the slow way."""
    rng = np.random.default_rng(1)
    rows = [f"u{u},b{b},{r},{1500000000 + t}" for u, b, r, t in rng.integers(0, 500, (9_000, 4))]
    users = "user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n"
    (tmp_path / "good").mkdir()
    good = read_tables(config_of(tmp_path / "good", users=users))
    broken = read_tables(config_of(tmp_path, users=with_row("x", users), bad_rows="drop"))
    assert raw_ids(broken) == raw_ids(good)
    assert broken.interactions.ratings.tolist() == good.interactions.ratings.tolist()
    assert broken.interactions.times.tolist() == good.interactions.times.tolist()


def test_a_field_longer_than_a_block_is_read(tmp_path):
    title = "long " * 20_000
    config = config_of(tmp_path, BOOKS + f'b3,"{title}",A,x,1,1,1\n')
    assert books_of(config)["title"][2].as_py() == title


def test_paths_are_as_given(tmp_path, monkeypatch):
    config_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = DataConfig(books_path=Path("books.csv"), interactions_path=Path("none.csv"))
    with pytest.raises(DataError, match=r"^none\.csv: no such file$"):
        read_tables(config)


@pytest.mark.parametrize(
    "numeric", [None, ["price", "rating_number", "average_rating"]], ids=["default", "named"]
)
def test_the_default_numeric_columns_may_be_absent(tmp_path, numeric, caplog):
    books = "item_id,title,author,categories,average_rating\nb1,T,A,c,4.5\n"
    settings = {} if numeric is None else {"feature_params": {"numeric_columns": numeric}}
    with caplog.at_level(logging.INFO):
        table = books_of(config_of(tmp_path, books, **settings))
    assert table.column_names == ["item_id", "title", "author", "categories", "average_rating"]
    assert sum("which is left out of the features" in line for line in caplog.messages) == 1


def test_any_other_choice_of_numeric_columns_must_be_there(tmp_path):
    books = "item_id,title,author,categories,average_rating\nb1,T,A,c,4.5\n"
    settings = {"feature_params": {"numeric_columns": ["average_rating", "price"]}}
    with pytest.raises(DataError, match="column 'price' is missing"):
        books_of(config_of(tmp_path, books, **settings))
