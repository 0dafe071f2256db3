"""Text that Markdown would take for its own."""

import pytest

from recsys.evaluation.tables import Table
from recsys.reporting.document import TableView
from recsys.reporting.markdown import escape, table_markdown


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("<b>", r"\<b>"),
        ("*very* `x` ~~y~~", r"\*very\* \`x\` \~\~y\~\~"),
        ("train_loss", "train_loss"),
        ("_train_ loss", r"\_train\_ loss"),
        ("[0.1, 0.2]", "[0.1, 0.2]"),
        ("[a](b)", r"[a\](b)"),
        ("&copy; & Co", r"\&copy; & Co"),
        ("two\nlines", "two lines"),
        ("# one", r"\# one"),
        ("- one", r"\- one"),
        ("C\\D", r"C\\D"),
        ("Æther “x”", "Æther “x”"),
    ],
)
def test_text_is_shown_as_it_is(text, escaped):
    assert escape(text) == escaped


def test_a_table_keeps_its_columns_whatever_its_cells_hold():
    table = Table("t", "T", "", ("a|b", "n"), (("x|y", 1), ("\n", None)))
    assert table_markdown(TableView(table)).splitlines() == [
        r"| a\|b | n |",
        "|---|---:|",
        r"| x\|y | 1 |",
        "|  | – |",
    ]


def test_a_long_table_is_cut():
    table = Table("t", "T", "", ("n",), tuple((i,) for i in range(9)))
    assert len(table_markdown(TableView(table, limit=4)).splitlines()) == 2 + 4
