"""Tables as pages show them, and whether they fit on a telephone."""

from pathlib import Path

import pytest

from recsys.evaluation.tables import Table
from recsys.reporting.document import TableView
from recsys.reporting.pages import page_columns
from recsys.reporting.report import write_report

CHROMIUM = Path("/usr/bin/chromium")
TELEPHONE = 390
WIDTHS = """() => [...document.querySelectorAll('.scroll')].map(box => ({
    name: box.ariaLabel,
    over: box.scrollWidth - box.clientWidth,
    shadows: getComputedStyle(box).backgroundAttachment,
}))"""


def shown(columns, *rows):
    found = page_columns(TableView(Table("table", "Table", "", columns, rows)))
    return [(column.name, column.bounds, [*column.cells]) for column in found]


@pytest.mark.parametrize(
    ("names", "bounds"),
    [
        (("low", "high"), (1, 3)),
        (("difference low", "difference high"), (1, 3)),
        (("difference_low", "difference_high"), (1, 3)),
    ],
)
def test_the_ends_of_an_interval_stand_below_their_value(names, bounds):
    columns = ("of", "difference", *names, "p")
    assert shown(columns, ("a", 2, *bounds, 5), ("b", 4, None, None, 6)) == [
        ("of", "", [("a", ""), ("b", "")]),
        ("difference", "[low, high]", [("2", "[1, 3]"), ("4", "")]),
        ("p", "", [("5", ""), ("6", "")]),
    ]


@pytest.mark.parametrize("name", ["interval", "model interval"])
def test_an_interval_stands_below_its_value(name):
    assert shown(("model", name), (2, "[1, 3]")) == [("model", "interval", [("2", "[1, 3]")])]


def test_columns_that_are_no_interval_of_the_one_before_stay():
    columns = ("hits", "category low", "category high", "interval_of", "high")
    assert [name for name, _, _ in shown(columns, (1, 2, 3, 4, 5))] == [*columns]


@pytest.fixture(scope="module")
def browser():
    """A real one."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.mark.slow
def test_a_report_is_as_wide_as_a_telephone_and_what_scrolls_shows_it(browser, make_run_dir):
    """A commit and a command are words that no line ends."""
    environment = {"git_commit": "8a84151a4876" * 4, "command": "bookends run --x " + "y" * 99}
    _, html = write_report(make_run_dir(environment=environment))
    page = browser.new_page(viewport={"width": TELEPHONE, "height": 800})
    page.goto(html.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == TELEPHONE
    assert "8a84151a4876" in page.inner_text("main")
    tables = page.evaluate(WIDTHS)
    fitting = {table["name"] for table in tables if table["over"] <= 0}
    assert {"Finding the held-out items", "All settings"} <= fitting
    for table in tables:
        assert table["shadows"] == "local, local, scroll, scroll, scroll"
