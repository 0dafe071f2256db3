"""A store whose address holds a password, which is kept nowhere."""

import pytest

from tracking.mirror import mirror
from tracking.store import connect, explain, resolve_uri, without_password
from tracking.tracker import open_run


@pytest.mark.slow
def test_a_run_goes_on_in_its_own_run_once_the_password_is_given_again(
    postgres, run_dir, epochs, finish, monkeypatch, caplog
):
    uri = postgres("password")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    first = open_run(run_dir)
    first.log_epoch(epochs[0])
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    resumed = open_run(run_dir)
    hint = "passwords are not kept: give the whole address in MLFLOW_TRACKING_URI"
    (said,) = [found.getMessage() for found in caplog.records if found.levelname == "WARNING"]
    assert hint in said and "\n" not in said and not resumed.is_live
    finish(run_dir)
    resumed.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert mirror(run_dir).run_id == first.run_id
    history = connect(uri).get_metric_history(first.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3]
    secret = uri.partition("@")[0].rpartition(":")[2]
    assert secret not in caplog.text
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    assert files and not [path for path in files if secret.encode() in path.read_bytes()]


def test_an_address_kept_without_its_password_gets_it_back_from_the_environment(monkeypatch):
    whole = "postgresql://ada:secret@db/x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", whole)
    assert resolve_uri(without_password(whole)) == whole
    assert resolve_uri("postgresql://ada@db/y") == "postgresql://ada@db/y"


def test_a_refused_login_says_where_a_password_may_stand():
    refused = OSError("fe_sendauth: no password supplied")
    assert "MLFLOW_TRACKING_URI" in explain(refused, "postgresql://ada@db/x")
    assert "MLFLOW_TRACKING_URI" not in explain(refused, "postgresql://ada:secret@db/x")
    assert "MLFLOW_TRACKING_URI" not in explain(OSError("disk full"), "postgresql://ada@db/x")


def test_what_a_store_says_of_its_failure_is_shown_without_its_password():
    error = OSError("API request to http://ada:secret@host/api failed with 500")
    assert explain(error, "http://ada:secret@host") == (
        "API request to http://host/api failed with 500"
    )
