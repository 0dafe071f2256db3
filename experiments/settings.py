"""From a YAML file and dotted overrides to a checked configuration, every error in one line."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliSettingsSource
from pydantic_settings.exceptions import SettingsError

from recsys.config import Config
from recsys.config import flatten as flatten  # noqa: PLC0414 (part of what settings offer)
from recsys.config import merge as merge  # noqa: PLC0414
from recsys.errors import ConfigError

Tree = dict[str, Any]
COMMAND_LINE = "command line"
SHOWN_PROBLEMS = 3
SHOWN_LETTERS = 200  # of a value
SETTINGS_INTRO = """# Settings

`bookends config template --page` writes this page from the settings themselves. A YAML file holds
what differs from the defaults; on the command line a setting is `--`, its part, a dot and its name,
as in `--training.num_epochs 3`. A default that is empty is filled in as the meaning says, or is
nothing at all."""


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once, a date is text, and 1e-3 is a number."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError):  # as of '!!int x'
            kind = node.tag.rpartition(":")[2]
            raise _misread(f"{node.value!r:.60} is no {kind}", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if (key.tag, key.value) in lines:
                    first = lines[key.tag, key.value]
                    raise _misread(
                        f"'{key.value}' stands on line {first} and again on line {line}", key
                    )
                lines[key.tag, key.value] = line
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what :class:`_Loader` would take for a number."""


def _misread(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_TIMESTAMP, _FLOAT = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor(_TIMESTAMP, _Loader.construct_yaml_str)  # type: ignore[type-var]
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        _FLOAT, re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )


class _Overrides(BaseSettings, Config):  # type: ignore[misc]  # both name their model_config
    """The configuration as command line options, each under its dotted name."""


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """The defaults, changed by the YAML file, changed by the overrides.

    Args:
        path: YAML with differences from the defaults; None for none.
        overrides: as on the command line, ``["--training.num_epochs", "3"]``.

    Raises:
        ConfigError: an unknown setting, an impossible value, or settings at odds.
    """
    changes = parse_overrides(overrides)
    base = {} if path is None else read_yaml(path)
    return check_config(base, changes, origin=str(path or COMMAND_LINE))


def check_config(base: Tree, changes: Tree, *, origin: str) -> Config:
    """The configuration of a tree of settings with changes on top.

    Args:
        base: nested settings, differences from the defaults.
        changes: nested settings that win over ``base``.
        origin: what to call ``base`` in an error.
    """
    try:
        return Config.model_validate(merge(base, changes))
    except ValidationError as error:
        raise ConfigError(_describe(error, changes, origin)) from None


def parse_overrides(arguments: Sequence[str]) -> Tree:
    """The nested settings that dotted options name; ``null`` is None."""
    known = set(setting_names())
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and name not in known:
            raise ConfigError(f"{COMMAND_LINE}: {_unknown(name, known)}")
    try:
        source = CliSettingsSource[_Overrides](
            _Overrides,
            cli_prog_name="bookends run",
            cli_parse_args=list(arguments),
            cli_parse_none_str="null",
            cli_exit_on_error=False,
        )
        return _typed(Config, source())
    except SettingsError as error:
        message = _not_json(arguments) or str(error).removeprefix("error parsing CLI: ")
        raise ConfigError(f"{COMMAND_LINE}: {message}") from None


def _not_json(arguments: Sequence[str]) -> str | None:
    """What is wrong with the first mapping that is not JSON."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    for name, value in pairwise(words):
        if value.startswith("{"):
            try:
                json.loads(value)
            except ValueError:
                setting = name.removeprefix("--")
                return f"'{setting}' must be a mapping in JSON, got '{value:.80}'"
    return None


def _typed(section: type[BaseModel], tree: Tree) -> Tree:
    """The settings of a command line, each text as the value it stands for, as YAML would have it.

    A text that is no value of its setting stays, to be refused with the others.
    """
    typed: Tree = {}
    for name, given in tree.items():
        typed[name] = given
        field = section.model_fields.get(name)
        if field is None:  # within a mapping written as JSON
            continue
        below = _section(field)
        if below is not None and isinstance(given, dict):
            typed[name] = _typed(below, given)
            continue
        kind = TypeAdapter[Any](field.rebuild_annotation())
        with suppress(ValidationError):
            typed[name] = kind.dump_python(kind.validate_python(given), mode="json")
    return typed


def apart(old: Any, new: Any) -> tuple[str, str]:
    """Two values as Python writes them, long ones from shortly before they begin to differ."""
    texts = repr(old), repr(new)
    is_long = max(map(len, texts)) > SHOWN_LETTERS
    pairs = enumerate(zip_longest(*texts))
    begin = next((index for index, (one, other) in pairs if one != other), 0)
    start = max(0, begin - 20) if is_long else 0
    was, got = (f"{'...' * bool(start)}{text[start:]:.{SHOWN_LETTERS}}" for text in texts)
    return was, got


def read_yaml(path: Path) -> Tree:
    """The mapping in a YAML file; an empty file is an empty mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: must be a readable file ({error.strerror})") from None
    except RecursionError:
        raise ConfigError(f"{path}: must be valid YAML: it is nested too deep") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise ConfigError(f"{path}: must be valid YAML: {reason}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping of settings, got {content!r:.60}")
    return content


def dump_yaml(config: Config) -> str:
    """The resolved configuration as YAML that :func:`load_config` reads back."""
    return write_yaml(config.model_dump(mode="json"))


def write_yaml(tree: Tree) -> str:
    """The tree as YAML that :func:`read_yaml` reads back."""
    return yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None
    )


def explain_yaml(config: Config) -> str:
    """The same with what each setting means above it."""
    return _explained(config.model_dump(mode="json"))


def default_yaml() -> str:
    """All settings as declared, with what each means: a file to start one's own from.

    A setting that another one fills in is null here, so that changing the other is enough.
    """
    return _explained(_declared(Config))


def settings_page() -> str:
    """All settings as Markdown, a table for each part: docs/settings.md."""
    lines, tree = [SETTINGS_INTRO], _declared(Config)
    for part, whole in Config.model_fields.items():
        lines += [f"\n## {part}\n", f"{whole.description}\n"]
        lines += ["| setting | default | meaning |", "|---|---|---|"]
        for name, default, field in _leaves(_section(whole) or Config, tree[part]):
            shown = yaml.safe_dump([default], default_flow_style=True, width=10_000).strip()[1:-1]
            meaning = " ".join((field.description or "").split()).replace("``", "`")
            cells = (f"`{name}`", "" if default is None else f"`{shown}`", meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _leaves(section: type[BaseModel], tree: Tree) -> Iterator[tuple[str, Any, FieldInfo]]:
    """Settings that hold no others: dotted name, default as declared, and field.

    Of towers that follow one another the first has all, the other what is unlike by default.
    """
    for name, field in section.model_fields.items():
        below = _section(field)
        if below is None:
            yield name, tree[name], field
            continue
        extra = field.json_schema_extra
        leaves = _leaves(below, tree[name] or _declared(below))
        if isinstance(extra, dict):
            yield name, None, field
            first = str(extra["follows"])
            followed = _section(section.model_fields[first]) or below
            known = {leaf: default for leaf, default, _ in _leaves(followed, tree[first])}
            leaves = (each for each in leaves if each[1] != known[each[0]])
        yield from ((f"{name}.{leaf}", default, each) for leaf, default, each in leaves)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _declared(section: type[BaseModel]) -> Tree:
    tree: Tree = {}
    for name, field in section.model_fields.items():
        below = _section(field)
        if field.json_schema_extra:  # follows another section in all that it does not say
            tree[name] = {}
        elif below is not None and field.default is not None:
            given = field.default.model_dump(mode="json", exclude_unset=True)
            tree[name] = merge(_declared(below), given)
        else:
            tree[name] = TypeAdapter(Any).dump_python(field.default, mode="json")
    return tree


def _explained(tree: Tree) -> str:
    return "\n".join(_explain(Config, tree, indent="")).lstrip("\n") + "\n"


def _explain(section: type[BaseModel], tree: Tree, indent: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        text, below = " ".join((field.description or "").split()), _section(field)
        if not indent:
            yield ""
        yield from textwrap.wrap(
            text, width=96, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        if below is not None and tree[name]:
            yield f"{indent}{name}:"
            yield from _explain(below, tree[name], f"{indent}  ")
        else:
            shown = yaml.dump([tree[name]], Dumper=_Dumper, default_flow_style=True, width=10_000)
            yield f"{indent}{name}: {shown.strip()[1:-1]}"


def setting_names(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings and of the sections that hold them."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        below = _section(field)
        if below is not None:
            yield from setting_names(below, f"{prefix}{name}.")


def _unknown(name: str, known: set[str]) -> str:
    if name in known:  # a dotted name in a YAML file
        section, _, leaf = name.rpartition(".")
        return f"'{name}' must stand as '{leaf}:' under '{section}:' in YAML"
    by_leaf: dict[str, str] = {}
    for candidate in sorted(known):
        by_leaf.setdefault(candidate.rpartition(".")[2], candidate)
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    if not close:
        leaves = difflib.get_close_matches(name.rpartition(".")[2], list(by_leaf), n=1, cutoff=0.75)
        close = [by_leaf[leaf] for leaf in leaves]
    hint = f"; did you mean '{close[0]}'?" if close else "; 'bookends config show' lists them all"
    return f"'{name}' is not a setting{hint}"


def _describe(error: ValidationError, changes: Tree, origin: str) -> str:
    known = set(setting_names())
    problems = []
    for problem in error.errors(include_url=False):
        parts = [str(part) for part in problem["loc"] if part != "[key]"]
        name = ".".join(parts)
        source = COMMAND_LINE if _holds(changes, parts) else origin
        if not parts and changes and origin != COMMAND_LINE:
            source = f"{origin} and {COMMAND_LINE}"  # what is at odds may be of either
        if problem["type"] == "extra_forbidden":
            text = _unknown(name, known)
        elif problem["type"] == "value_error":
            message = problem["msg"].removeprefix("Value error, ")
            text = f"'{name}': {message}" if name else message
        else:
            message = problem["msg"]
            text = f"'{name}': {message[0].lower()}{message[1:]}, got {problem['input']!r:.80}"
        problems.append(f"{source}: {text}")
    more = len(problems) - SHOWN_PROBLEMS
    tail = f" (and {more} more)" if more > 0 else ""
    return "; ".join(problems[:SHOWN_PROBLEMS]) + tail


def _holds(tree: Any, parts: Sequence[str]) -> bool:
    for part in parts:
        if not isinstance(tree, Mapping):  # a list or a text was given, and a part of it is wrong
            break
        if part not in tree:
            return False
        tree = tree[part]
    return bool(parts)
