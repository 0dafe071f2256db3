"""Interactions as lines "user item item ..."."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.reading import read_item_lines
from recsys.errors import DataError

IDS = st.text(alphabet="0123456789aé", min_size=1, max_size=4)


def pairs_of(table):
    return list(zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lines")


@given(
    lines=st.lists(st.lists(IDS, max_size=4), max_size=5),
    gap=st.sampled_from([" ", "  ", "\t", " \t "]),
    end=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    limit=st.sampled_from([None, 1, 3]),
)
def test_every_item_of_a_line_is_one_of_its_user(folder, lines, gap, end, limit):
    text = "\n".join(gap.join(line) for line in lines) + end
    expected = [(line[0], item) for line in lines for item in line[1:]][:limit]
    (folder / "train.txt").write_bytes(text.encode())
    assert pairs_of(read_item_lines(folder / "train.txt", limit)) == expected
    (folder / "train.txt.gz").write_bytes(gzip.compress(text.encode()))
    assert pairs_of(read_item_lines(folder / "train.txt.gz", limit)) == expected


def test_a_file_that_is_no_text_names_the_line(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"u1 i1\nu2 \xff\n")
    with pytest.raises(DataError, match=r"bad\.txt: line 2: must be UTF-8 text"):
        read_item_lines(tmp_path / "bad.txt", None)


@pytest.mark.parametrize(
    "content", [b"u1 i1", gzip.compress(b"u1 i1 " * 99, mtime=0)[:20]], ids=["text", "cut"]
)
def test_a_file_that_cannot_be_unpacked_is_refused(tmp_path, content):
    (tmp_path / "bad.txt.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.txt\.gz: must be readable"):
        read_item_lines(tmp_path / "bad.txt.gz", None)
