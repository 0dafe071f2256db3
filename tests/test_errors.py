"""What a user can mend, in one line."""

from recsys.errors import DataError, shown


def test_a_message_is_one_printable_line():
    assert str(DataError("a\nb\x1b[2J\udcff Bücher")) == r"a\nb\x1b[2J\udcff Bücher"


def test_what_is_shown_is_cut_outside_its_quotes():
    assert shown("x" * 60) == f"'{'x' * 60}'"
    assert shown("y" * 61) == f"'{'y' * 60}'... (61 characters)"
