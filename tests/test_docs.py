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


def test_the_library_does_in_python_what_the_readme_says(tmp_path, monkeypatch, capsys):
    """Three epochs and two lists of five, on the committed sample."""
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert 15 <= len(code.strip().splitlines()) <= 25
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:3]] == ["1", "2", "3"]
    known = names["recommender"].recommend(["r01513"], k=5)
    assert known["source"].tolist() == ["model"] * 5
    printed = "\n".join(said)
    assert all(title.split()[0] in printed for title in known["title"])
