from tracking.origin import source_tags


def test_the_source_is_a_name_that_the_ui_shows_whole_and_the_command_is_beside_it():
    command = "bookends run --config a/b.yaml --experiment.tracking_uri https://ada:secret@host/x"
    tags = source_tags({"command": command})
    assert tags["mlflow.source.name"] == "bookends run"
    assert tags["bookends.command"] == command.replace(":secret", "")


def test_uncommitted_changes_are_told_beside_the_commit():
    tags = source_tags({"git_commit": "c0ffee-dirty"})
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert tags["mlflow.source.git.dirty"] == "True"


def test_what_is_not_known_is_no_tag():
    assert set(source_tags({})) == {"mlflow.source.name", "mlflow.source.type"}
