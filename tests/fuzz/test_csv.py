"""Random CSV files: read as Python's own csv module reads them, or refused in one line."""

import csv
import io
import random

from recsys.config import DataConfig
from recsys.data.tables import read_tables
from recsys.errors import BookendsError

HEADER = "user_id,item_id,rating,timestamp\n"
GOOD = ["u1,b1,5,1500000000\n", "u2,b1,,1500000001\n", '"u3","b 2",4.5,1500000002\r\n']
PIECES = ['"', '""', ",", ";", "\n", "\r\n", "\r", " ", "\t", "\x00", "\x1b", "\ufeff", "'", "\\"]
PIECES += ["", "u1", "b1", "5", "1e308", "nan", "é", "0", "-1", "1500000000", "sep=;\n", "null"]


def random_file(rng: random.Random) -> bytes:
    """Good rows with pieces put in at random places, some bytes of which are changed."""
    text = HEADER + "".join(rng.choices(GOOD, k=rng.randint(1, 6)))
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(PIECES) + text[at + rng.choice([0, 0, 1, 3]) :]
    raw = bytearray(text.encode())
    if rng.random() < 0.1 and raw:
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return bytes(raw)


def plain_rows(raw: bytes) -> list[tuple[str, str]]:
    """(user, item) of each row as Python reads them, strictly, whatever the separator."""
    text = raw.decode("utf-8-sig", errors="surrogateescape")
    separator = ","
    if text.startswith("sep="):
        separator, text = text[4], text.split("\n", 1)[1]
    rows = [
        row for row in csv.reader(io.StringIO(text, ""), delimiter=separator, strict=True) if row
    ]
    header = [name.strip() for name in rows[0]]
    places = header.index("user_id"), header.index("item_id")
    assert all(len(row) == len(header) for row in rows)
    return [tuple(row[place].strip() for place in places) for row in rows[1:]]


def test_a_random_file_is_read_as_python_reads_it_or_refused_in_one_line(tmp_path, inputs, tally):
    path = tmp_path / "users.csv"
    for rng in inputs:
        raw = random_file(rng)
        path.write_bytes(raw)
        config = DataConfig(books_path=None, interactions_path=path)
        try:
            tables = read_tables(config)
        except BookendsError as error:
            assert str(error).startswith(str(path))
            assert str(error).isprintable()
            assert len(str(error)) < 1000
            tally["refused"] += 1
            continue
        log, users = tables.interactions, tables.user_ids.to_pylist()
        items = tables.item_ids.to_pylist()
        found = [(users[u], items[i]) for u, i in zip(log.users, log.items, strict=True)]
        assert found == plain_rows(raw), raw
        tally["read"] += 1
    assert tally["read"] > tally.total() // 10
