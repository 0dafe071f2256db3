"""Reports on paper, drawn again as pictures and looked at."""

import sys

import numpy as np
import pytest

from recsys.errors import ConfigError
from recsys.evaluation.tables import Table
from recsys.reporting.document import Figure, Figures, Report, Section, TableView
from recsys.reporting.pages import write_report_files
from recsys.reporting.pdf import write_pdf

pdfium = pytest.importorskip("pypdfium2")
try:
    import weasyprint  # noqa: F401
except (ImportError, OSError) as error:
    pytest.skip(f"WeasyPrint cannot be used: {error}", allow_module_level=True)

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 100 100">'
    '<rect class="f0" width="100" height="100"/></svg>'
)
BLUE = (31, 95, 153)  # of the first series on a light page


def table(name, n_rows):
    """A wide table whose cells say where they are from."""
    columns = tuple(f"a column {i}" for i in range(11))
    rows = tuple(tuple(f"{name}{row}" for _ in columns) for row in range(n_rows))
    return TableView(Table(name, f"Table {name}", "", columns, rows), limit=n_rows)


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The PDF of a chart and of tables of 30, 25 and 100 rows."""
    figures = Figures((Figure("square", "Square", "", SVG),))
    views = (table("x", 30), table("y", 25), table("z", 100))
    report = Report("a run", "", "", (), (), (Section("all", "All", (figures, *views)),))
    _, page = write_report_files(report, tmp_path_factory.mktemp("pdf"), "report")
    path = write_pdf(page)
    assert path.name == "report.pdf"
    return pdfium.PdfDocument(str(path))


def texts(document):
    """The words of each page."""
    return [page.get_textpage().get_text_range() for page in document]


def test_charts_keep_their_colours(document):
    picture = np.asarray(document[0].render(scale=1).to_pil().convert("RGB"), dtype=int)
    assert (np.abs(picture - BLUE).max(axis=2) <= 2).sum() > 10_000


def test_nothing_lies_beyond_the_margins(document):
    for page in document:
        picture = np.asarray(page.render(scale=1).to_pil().convert("L"))
        assert (picture[:, :30] > 250).all() and (picture[:, -30:] > 250).all()


def test_pages_break_between_tables_and_long_ones_repeat_their_head(document):
    pages = texts(document)
    for name, n_rows in (("x", 30), ("y", 25)):
        assert [page.count(f"{name}{n_rows - 1}") for page in pages if f"{name}0" in page] == [11]
    of_long = [page for page in pages if any(f"z{row}\r" in page for row in range(100))]
    assert len(of_long) >= 2 and all("column 10" in page for page in of_long)


def test_an_interval_is_no_larger_than_its_value(tmp_path):
    columns, row = ("metric", "model", "model interval"), ("NDCG@10", 0.1556, "[0.1375, 0.1702]")
    view = TableView(Table("results", "Results", "", columns, (row,)), limit=1)
    report = Report("a run", "", "", (), (), (Section("all", "All", (view,)),))
    path = write_pdf(write_report_files(report, tmp_path, "report")[1])
    text = pdfium.PdfDocument(str(path))[0].get_textpage()
    characters, sizes = text.get_text_range(), {}
    for number in ("0.1556", "0.1375"):
        _, bottom, _, top = text.get_charbox(characters.index(number))
        sizes[number] = top - bottom
    assert 0 < sizes["0.1375"] <= sizes["0.1556"]


def test_without_the_library_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(ConfigError, match=r"a PDF needs WeasyPrint and Pango: pip install"):
        write_pdf(tmp_path / "report.html")
