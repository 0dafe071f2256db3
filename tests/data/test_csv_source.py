"""The bytes of CSV files."""

import io
import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.csv_file import QuoteCheckedFile

FIELD = r'(?:"(?:[^"]|"")*"|[^",\n]*)'
REGULAR = re.compile(rf"{FIELD}(?:[,\n]{FIELD})*")


def is_accepted(text: str, size: int) -> bool:
    file = QuoteCheckedFile(io.BytesIO(text.encode()), ",")
    try:
        while file.read(size):
            pass
    except pa.ArrowInvalid:
        return False
    return True


@given(st.text('a",\n', max_size=16), st.integers(1, 8))
def test_quotes_must_stand_around_whole_fields_whatever_the_blocks(text, size):
    assert is_accepted(text, size) == bool(REGULAR.fullmatch(text))
