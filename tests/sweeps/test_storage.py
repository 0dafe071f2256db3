import sqlite3

import optuna
import pytest
import sqlalchemy

from recsys.errors import ConfigError
from sweeps.storage import open_storage, refuse_shared


def test_a_journal_file_keeps_a_study_between_processes(tmp_path):
    first = open_storage(str(tmp_path / "journal.log"))
    study = optuna.create_study(study_name="s", storage=first.backend)
    study.add_trial(optuna.trial.create_trial(value=1.0))
    again = open_storage(f"journal:///{tmp_path}/journal.log")
    assert first.url == again.url == f"journal:///{tmp_path}/journal.log"
    assert optuna.load_study(study_name="s", storage=again.backend).best_value == 1.0


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_sqlite_file_keeps_a_study_and_a_heartbeat(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(study_name="s", storage=storage.backend)
    for number in range(2):
        study.ask()
        storage.beat("s", number)
    assert storage.has_heartbeat
    with storage.backend.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00' WHERE trial_id = 1"
            )
        )
    storage.fail_silent(study)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING"]
    storage.close()


def test_mlflows_database_is_refused_by_its_tables(tmp_path):
    path = tmp_path / "mlflow.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    connection.close()
    with pytest.raises(ConfigError, match="holds MLflow's tables"):
        open_storage(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("storage", "tracking"),
    [
        ("sqlite:////data/x.db", "sqlite:////data/x.db"),
        ("postgresql+psycopg://a:b@host/x", "postgresql://c@host/x"),
    ],
)
def test_the_trackers_address_is_refused(storage, tracking):
    with pytest.raises(ConfigError, match="must be a database of its own") as caught:
        refuse_shared(storage, tracking)
    assert ":b@" not in str(caught.value)


def test_another_database_of_the_trackers_server_is_not_refused():
    refuse_shared("postgresql://host/study", "postgresql://host/mlflow")
    refuse_shared("journal:////data/mlflow.db", "sqlite:////data/mlflow.db")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mongodb://me:secret@host/x", "must be a journal file or start with"),
        ("postgresql://ada:se/cr@secret@db/x", "@ as %40"),  # which a driver would cut and show
    ],
)
def test_an_address_that_can_be_no_storage_is_refused_without_its_password(url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["{}/file/journal.log", "sqlite:///{}/file/study.db"])
def test_a_storage_that_cannot_be_made_is_one_line(tmp_path, url):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="'--storage' must lie where a folder can be made"):
        open_storage(url.format(tmp_path))
