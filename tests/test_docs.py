"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = [f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))]
PATH = re.compile(r"`((?:recsys|experiments|tracking|sweeps|benchmarks|tests|docs|data)/[\w/.-]+)`")


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "docs/model.md"])
def test_the_files_that_a_page_names_are_there(page):
    named = {name for name in PATH.findall((ROOT / page).read_text()) if "NAME" not in name}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *DOCS])
def test_the_pages_that_a_page_links_to_are_there(page):
    links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
