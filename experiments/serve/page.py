"""The page at ``/``: every route with a command that asks it, and nothing from elsewhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import jinja2

from experiments.serve.model import Served

Schema = Mapping[str, Any]
_MODELS = "#/components/schemas/"
_TEMPLATE = jinja2.Environment(
    loader=jinja2.PackageLoader("experiments.serve"),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
).get_template("schema.html")


def schema_page(schema: Schema, base: str, served: Served | None, *, needs_token: bool) -> str:
    """The routes of a schema, with commands that the served model answers.

    Args:
        schema: OpenAPI.
        base: address of the server.
        served: whose users and items the commands name; None for made up ones.
        needs_token: whether the commands must carry one.
    """
    questions = _questions(served)
    head = ["curl"]
    if needs_token:
        head += ["-H", '"Authorization: Bearer $BOOKENDS_TOKEN"']
    routes = []
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            words = [*head, shlex.quote(f"{base.rstrip('/')}{path}")]
            if path in questions:
                body = json.dumps(questions[path], ensure_ascii=False)
                words += ["--json", shlex.quote(body)]
            routes.append(
                {
                    "method": method.upper(),
                    "path": path,
                    "meaning": route["description"].replace("`", ""),
                    "curl": " ".join(words),
                    "fields": _fields(schema, route),
                }
            )
    return _TEMPLATE.render(
        title=schema["info"]["title"],
        version=schema["info"]["version"],
        description=schema["info"]["description"],
        routes=routes,
    )


def _questions(served: Served | None) -> dict[str, dict[str, Any]]:
    """A question for each route that takes one."""
    user, item = "USER", "ITEM"
    if served is not None:
        user, item = (
            known.ids[0].as_py() for known in (served.recommender.users, served.recommender.items)
        )
    books = [{"title": "A new title"}]
    return {
        "/recommend": {"user_ids": [user, None], "k": 1},
        "/similar-items": {"item_ids": [item], "k": 1},
        "/new-book/similar": {"books": books, "k": 1},
        "/new-book/users": {"books": books, "k": 1},
    }


def _fields(schema: Schema, route: Schema) -> list[dict[str, str]]:
    """The fields of what a route is asked with."""
    if "requestBody" not in route:
        return []
    named = route["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    question = schema["components"]["schemas"][named.removeprefix(_MODELS)]
    return [
        {
            "name": name,
            "type": _type(field),
            "meaning": " ".join(
                [
                    *([field["description"]] if "description" in field else []),
                    *([f"Default {json.dumps(field['default'])}."] if "default" in field else []),
                    *(["Required."] if name in question.get("required", ()) else []),
                ]
            ),
        }
        for name, field in question["properties"].items()
    ]


def _type(field: Schema) -> str:
    """The type of a field, in words."""
    if "$ref" in field:
        return str(field["$ref"].removeprefix(_MODELS))
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if field["type"] == "array":
        inner = _type(field["items"])
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    return str(field["type"])
