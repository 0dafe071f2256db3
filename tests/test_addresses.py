from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from recsys.addresses import hide_passwords, is_ambiguous, lacks_password, without_password

SHOWN = {
    "postgresql://ada:secret@db:5432/x": "postgresql://ada@db:5432/x",
    "postgresql+psycopg://:secret@db/x": "postgresql+psycopg://@db/x",
    "postgresql://ada:se/secret@db/x": "postgresql://ada@db/x",  # SQLAlchemy takes the slash
    "postgresql://ada:secret@secret@db/x": "postgresql://ada@db/x",
    "postgresql://ada:secret[@db/x": "postgresql://ada@db/x",
    "postgresql://db/x?user=ada&password=secret&sslmode=require": (
        "postgresql://db/x?user=ada&sslmode=require"
    ),
    "mssql+pyodbc:///?odbc_connect=UID%3Dada%3BPWD%3Dsecret": "mssql+pyodbc:///",
    "postgresql://ada@shop:secret@db/x": "postgresql://ada@shop@db/x",  # a user named ada@shop
    "postgresql://ada:s3cr/et@secret@db/x": "postgresql://ada@db/x",
    "postgresql://ada/x:secret@db/x": "postgresql://ada@db/x",
    "https://ada:secret@host:5000/mlflow": "https://host:5000/mlflow",
    "https://secret@host/mlflow": "https://host/mlflow",
    "http://ada:80/secret@host/x": "http://host/x",
    "http://ada:pass#secret@host/x": "http://host/x",
    "--storage=mysql://ada:sec secret@db/x": "--storage=mysql://ada@db/x",
}


@pytest.mark.parametrize(("address", "shown"), SHOWN.items())
def test_a_password_is_not_shown(address, shown):
    assert without_password(address) == shown
    assert without_password(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////data/mlflow.db",
        "journal:////a/b",
        "models:/bookends@champion",
        "http://127.0.0.1:5000/#/models/bookends@champion",
        "postgresql://ada@db:5432/x?sslmode=require",
        "--training.num_epochs=3",
    ],
)
def test_what_holds_no_password_stays_as_it_is(text):
    assert without_password(text) == hide_passwords(text) == text


def test_a_secret_among_options_is_hidden_without_its_host_too():
    said = "Max retries exceeded with url: /?token=s3cret/api&a=1&db_password=s3cret (no)"
    assert hide_passwords(said) == said.replace("s3cret/api", "...").replace("s3cret", "...")


def test_every_address_in_a_text_is_shown_without_its_password():
    text = "API request to http://ada:secret@host/api failed, not 'mysql://bo:secret@db/x' me@home"
    assert hide_passwords(text) == (
        "API request to http://host/api failed, not 'mysql://bo@db/x' me@home"
    )


PIECES = st.text(alphabet="ab1@:/?#", max_size=5)


@given(st.sampled_from(["postgresql", "mysql+pymysql", "http", "https"]), PIECES, PIECES, PIECES)
def test_what_its_reader_takes_for_a_password_is_never_shown(scheme, user, before, after):
    address = f"{scheme}://{user}:{before}secret{after}@host/x"
    try:
        read = urlsplit(address) if scheme.startswith("http") else make_url(address)
    except ValueError:
        assert is_ambiguous(address)  # the error holds a part of it
        return
    if "secret" in (read.password or ""):
        assert "secret" not in without_password(address)


@pytest.mark.parametrize(
    ("address", "ambiguous"),
    [
        ("postgresql://ada@shop:secret@db/x", False),
        ("postgresql://ada:se/secret@db/x", False),
        ("postgresql://ada:se@cret@db/x", True),
        ("postgresql://ada/x:secret@db/x", True),
        ("http://ada:80/secret@host", True),
        ("http://ada:secret@host", False),
    ],
)
def test_a_password_that_its_reader_would_cut_is_told(address, ambiguous):
    assert is_ambiguous(address) is ambiguous


def test_an_address_with_a_user_alone_lacks_its_password():
    assert lacks_password("postgresql://ada@db/x")
    assert not lacks_password("postgresql://ada:secret@db/x")
    assert not lacks_password("postgresql://db/x@1")
