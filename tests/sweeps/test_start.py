import pytest

from experiments.sweep.request import trial_config
from recsys.errors import ConfigError
from sweeps.space import Space
from sweeps.start import starting_points

SPACE = Space.of(
    {
        "model.similarity": {"choice": ["cosine", "dot"]},
        "model.temperature": {"float": [0.05, 0.5], "when": {"model.similarity": "cosine"}},
        "training.num_epochs": {"int": [14, 26], "step": 6},
    }
)


def check(settings):
    return trial_config({}, settings, "defaults")


def test_points_of_the_space_are_taken_as_they_are():
    given = [{"training.num_epochs": 20}, {"model.similarity": "cosine", "model.temperature": 0.05}]
    assert starting_points(SPACE, given, check, "space.yaml") == given
    assert starting_points(SPACE, None, check, "space.yaml") == []


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({}, "must be a mapping of settings to values, got {}"),
        ("dot", "must be a mapping of settings to values, got 'dot'"),
        ({"model.width": 1}, "must name settings of the space .*, got 'model.width'"),
        ({"model.similarity": "l2"}, "'model.similarity' must be one of 'cosine', 'dot', got 'l2'"),
        ({"training.num_epochs": 15}, "a whole number from 14 to 26 in steps of 6, got 15"),
        (
            {"model.similarity": "cosine", "model.temperature": 1.0},
            "a number from 0.05 to 0.5, got",
        ),
        (
            {"model.similarity": "dot", "model.temperature": 0.1},
            "'model.temperature' must stand beside 'model.similarity' of 'cosine', got 'dot'",
        ),
        ({"model.temperature": 0.1}, "'model.similarity' of 'cosine', got nothing"),
    ],
)
def test_what_the_space_does_not_hold_is_named_with_file_and_entry(point, message):
    with pytest.raises(ConfigError, match=rf"^space.yaml: 'start', entry 2: .*{message}"):
        starting_points(SPACE, [{"model.similarity": "dot"}, point], check, "space.yaml")


def test_the_points_are_a_list():
    with pytest.raises(ConfigError, match=r"'start' must be a list of mappings, got .'a': 1"):
        starting_points(SPACE, {"a": 1}, check, "space.yaml")


def test_a_point_that_is_no_configuration_is_refused():
    """The ends of the range are divisible by the heads."""
    dim, heads = "model.user_encoder.id_embedding.params.embedding_dim", {"heads": 4}
    base = {"model": {"user_encoder": {"history": {"pooling": "sequence"} | heads}}}
    space = Space.of({dim: {"int": [8, 16]}})

    def found(value):
        known = [{dim: value}]
        return starting_points(space, known, lambda each: trial_config(base, each, "base"), "file")

    assert found(12) == [{dim: 12}]
    with pytest.raises(
        ConfigError, match=r"'start', entry 1: .*must divide 'embedding_dim', got 4"
    ):
        found(13)
