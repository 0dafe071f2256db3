import csv
from pathlib import Path

import pytest

from recsys.data.importers import import_dataset
from recsys.data.importers.source import UnreadableError, rating_text
from recsys.errors import DataError


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def essence(rows: list[dict[str, str]]) -> list[tuple[str, str, str, str]]:
    return [
        (row["item_id"], row["title"], row["categories"], row["publication_year"]) for row in rows
    ]


def test_the_csv_shape(tmp_path):
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n"
        "1,Toy Story (1995),Adventure|Animation|Children\n"
        '11,"American President, The (1995)",Comedy\n'
        "131172,Closed Curtain (2013),(no genres listed)\n"
        "40697,Babylon 5,Sci-Fi\n",
        encoding="utf-8",
    )
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,11,0.5,964981247\n"
    )
    summary = import_dataset("movielens", tmp_path, tmp_path / "out")
    assert essence(rows_of(summary.books.path)) == [
        ("1", "Toy Story (1995)", "Adventure|Animation|Children", "1995"),
        ("11", "American President, The (1995)", "Comedy", "1995"),
        ("131172", "Closed Curtain (2013)", "", "2013"),
        ("40697", "Babylon 5", "Sci-Fi", ""),
    ]
    assert summary.interactions.path.read_text() == (
        "user_id,item_id,rating,timestamp\n1,1,4,964982703\n1,11,0.5,964981247\n"
    )


def test_the_dat_shape_in_latin_1(tmp_path):
    (tmp_path / "movies.dat").write_bytes(
        "73::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1")
    )
    (tmp_path / "ratings.dat").write_text("1::73::5::978300760\n")
    summary = import_dataset("movielens", tmp_path, tmp_path / "out")
    assert essence(rows_of(summary.books.path)) == [
        ("73", "Misérables, Les (1995)", "Drama|Musical", "1995")
    ]
    assert summary.interactions.path.read_text().splitlines()[1] == "1,73,5,978300760"


def test_the_dat_shape_in_utf_8(tmp_path):
    (tmp_path / "movies.dat").write_text("73::Misérables, Les (1995)::Drama\n", encoding="utf-8")
    (tmp_path / "ratings.dat").write_text("1::73::3.5::978300760\n")
    summary = import_dataset("movielens", tmp_path, tmp_path / "out")
    assert rows_of(summary.books.path)[0]["title"] == "Misérables, Les (1995)"


def test_the_flags_of_the_100k_shape_become_genres(tmp_path):
    flags = ["0"] * 19
    flags[3] = flags[5] = "1"
    line = "1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy|" + "|".join(flags)
    (tmp_path / "u.item").write_text(line + "\n", encoding="latin-1")
    (tmp_path / "u.data").write_text("196\t1\t3\t881250949\n")
    summary = import_dataset("movielens", tmp_path, tmp_path / "out")
    assert essence(rows_of(summary.books.path)) == [
        ("1", "Toy Story (1995)", "Animation|Comedy", "1995")
    ]
    assert summary.interactions.path.read_text().splitlines()[1] == "196,1,3,881250949"


def test_ratings_without_films_are_refused(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4.0,964982703\n")
    with pytest.raises(DataError, match=r"must hold the films, looked for movies\.csv"):
        import_dataset("movielens", tmp_path, tmp_path / "out")


def test_an_empty_log_is_refused(tmp_path):
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Toy Story (1995),Comedy\n")
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    with pytest.raises(DataError, match=r"ratings\.csv: must hold at least one row, holds none"):
        import_dataset("movielens", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("text", ["1_0", "nan", "inf", "", "4,5"])
def test_a_rating_that_is_no_finite_number_is_unreadable(text):
    with pytest.raises(UnreadableError, match="bad 'rating'"):
        rating_text(text)
