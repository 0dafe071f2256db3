"""Processes that are forked to do what a command does."""

from experiments import children


def test_a_child_does_what_the_command_does_and_says_it_to_its_log(tmp_path):
    log = tmp_path / "log.txt"
    shows = children.start(["config", "show", "--training.num_epochs", "7"], {}, log)
    shows.join()
    assert shows.exitcode == 0
    assert "num_epochs: 7" in log.read_text()
    storage = f"sqlite:///{tmp_path}/none.db"
    refuses = children.start(
        ["sweep", "worker", "--study", "mine"], {"BOOKENDS_STORAGE": storage}, log
    )
    refuses.join()
    assert refuses.exitcode == 2
    *shown, line = log.read_text().splitlines()
    assert shown and line.startswith("bookends: ") and "'mine'" in line
    assert (tmp_path / "none.db").exists()  # opened where the environment says
