"""The page at ``/`` of the server."""

import html
import re
import shlex
from urllib.parse import urlsplit

import pytest

COMMAND = re.compile(r"<pre>(.*?)</pre>", re.DOTALL)


def commands(client, **options):
    page = client.get("/", **options)
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    return [shlex.split(html.unescape(each)) for each in COMMAND.findall(page.text)]


def test_every_route_is_shown_with_a_command_that_the_model_answers(client):
    asked = set()
    for command in commands(client):
        path = urlsplit(command[1]).path
        asked.add(path)
        if "--json" in command:
            body = command[command.index("--json") + 1]
            answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert answer.json()["results"]
        else:
            answer = client.get(path)
        assert answer.status_code == 200, answer.text
    assert asked == set(client.get("/openapi.json").json()["paths"])


def test_the_fields_of_a_question_are_those_of_the_schema(client):
    text = client.get("/").text
    schema = client.get("/openapi.json").json()
    for question in ("RecommendQuestion", "SimilarItemsQuestion", "NewBookUsersQuestion"):
        for name in schema["components"]["schemas"][question]["properties"]:
            assert f"<td><code>{name}</code></td>" in text
    assert "list of (string or null) or null" in text


def test_the_page_loads_nothing_from_elsewhere(client):
    text = client.get("/").text
    assert "<script" not in text and "@import" not in text and "url(" not in text
    assert set(re.findall(r'(?:href|src)="([^"]*)"', text)) == {"data:,", "openapi.json"}


def test_the_host_of_a_request_is_shown_as_text(client):
    text = client.get("/", headers={"Host": "<b>'x"}).text
    assert "<b>" not in text


@pytest.mark.parametrize("token", [None, "right"])
def test_a_token_is_needed_and_shown_where_there_is_one(open_client, small_paths, token):
    client = open_client(small_paths[0], token=token)
    assert client.get("/").status_code == (200 if token is None else 401)
    found = commands(client, headers={"Authorization": "Bearer right"})
    carried = ["Authorization: Bearer $BOOKENDS_TOKEN" in command for command in found]
    assert carried == [token is not None] * len(found)
