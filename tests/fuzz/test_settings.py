"""Mutated settings: a configuration that holds what plain YAML reads, or one line."""

from pathlib import Path

import yaml

from experiments.settings import default_yaml, dump_yaml, flatten, load_config, setting_names
from recsys.errors import BookendsError

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
TEXTS = [default_yaml(), *(path.read_text() for path in sorted(CONFIGS.glob("*.yaml")))]
NAMES = sorted(set(setting_names()))
VALUES = ["null", "true", "-1", "0", "1", "3", "0.5", "1e-3", "1e400", ".inf", ".nan", "9" * 5000]
VALUES += ["''", "x", "é", "2020-13-45", "!!int x", "!!binary x", "!!set {a}", "*a", "[]", "{}"]
VALUES += ["&a [*a]", '"a\\0b"', '"\\ud800"', "[1, 2]", "[x]", "{a: 1}", "[[1]]", "<<: {a: 1}"]
VALUES += ["0x10", "1_000", "0o7", "1:30", "~", "yes", "auto", "cosine", "'3'", "[null]", "x" * 300]
PIECES = [*VALUES, ":", "\n", "  ", "\t", "- ", "#", "{", "}", "[", "'", '"', "|", "&a ", "? "]
PIECES += ["---\n", "\x00", "\x1b", "\ufeff", "!!python/object:os.system ", "%YAML 9\n", "<<: "]
PIECES += ["[" * 900]


def mutated(rng):
    """A YAML text and command line options."""
    text, options = "", []
    if rng.random() < 0.5:
        text = rng.choice(TEXTS)
        for _ in range(rng.choice([1, 1, 2, 5])):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(PIECES) + text[at + rng.choice([0, 0, 1, 5]) :]
    for _ in range(rng.choice([1, 1, 2])):
        name, value = rng.choice(NAMES), rng.choice(VALUES)
        if rng.random() < 0.3:
            options.append(f"--{name}={value}")
        elif not text:
            *sections, leaf = name.split(".")
            text = "".join(f"{'  ' * n}{part}:\n" for n, part in enumerate(sections))
            text += f"{'  ' * len(sections)}{leaf}: {value}\n"
    return text.encode(errors="surrogatepass"), options


def plain(text, config):
    """(plain value, value held) of each setting that the file gives."""
    held = flatten(config.model_dump(mode="json"))
    given = flatten(yaml.safe_load(text) or {})
    return {name: (value, held[name]) for name, value in given.items() if name in held}


def agree(value, held):
    """Whether plain YAML's value, null for a default and 1e-3 a text, is the one held."""
    if isinstance(value, set):
        return value == set(held)
    if value is None or value == held or str(value or ".") == held:
        return True
    return isinstance(held, int | float) and isinstance(value, str) and float(value) == held


def test_mutated_settings_are_those_of_plain_yaml_or_refused_in_one_line(tmp_path, inputs, tally):
    path = tmp_path / "own.yaml"
    for rng in inputs:
        text, options = mutated(rng)
        path.write_bytes(text)
        try:
            config = load_config(path, options)
        except BookendsError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 2000
            tally["refused"] += 1
            continue
        tally["read"] += 1
        path.write_text(dump_yaml(config))
        assert load_config(path) == config
        changed = {option[2:].partition("=")[0] for option in options}
        for name, (value, held) in plain(text, config).items():
            assert any(name.startswith(each) for each in changed) or agree(value, held), name
    assert tally["read"] > tally.total() // 10
