from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml

from experiments.settings import flatten
from experiments.sweep.request import trial_config
from recsys.config import Config
from recsys.errors import ConfigError
from sweeps import space as space_module
from sweeps.space import Space, label
from sweeps.start import START, starting_points

CONDITIONAL = """
    model.similarity: {choice: [cosine, dot]}
    model.temperature: {float: [0.05, 0.5], log: true, when: {model.similarity: cosine}}
    training.num_epochs: {int: [14, 26], step: 6}
"""
TIED = "model.item_encoder.fusion: {choice: [sum], with: model.user_encoder.fusion}"
SPACES = Path(space_module.__file__).with_name("spaces")
SHIPPED = sorted(path.stem for path in SPACES.glob("*.yaml"))


def shipped(name):
    tree = yaml.safe_load((SPACES / f"{name}.yaml").read_text())
    return {setting: spec for setting, spec in tree.items() if setting != START}


def check(settings):
    return trial_config({}, settings, "defaults")


def space_of(text):
    """The space that YAML describes."""
    return Space.of(yaml.safe_load(text))


def draws(space, n, seed=0):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(n)]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_space_fits_the_defaults(name):
    space, path = Space.of(shipped(name)), SPACES / f"{name}.yaml"
    space.check(check)
    starting_points(space, yaml.safe_load(path.read_text()).get(START), check, str(path))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_draw_from_a_shipped_space_is_a_configuration(name):
    space = Space.of(shipped(name))
    for params in draws(space, 50):
        assert isinstance(check(space.settings(params)), Config)


def test_a_setting_with_a_condition_exists_only_where_it_holds():
    seen = set()
    for params in draws(space_of(CONDITIONAL), 40):
        seen.add(params["model.similarity"])
        assert ("model.temperature" in params) == (params["model.similarity"] == "cosine")
    assert seen == {"cosine", "dot"}


def test_a_condition_may_stand_before_what_it_names():
    turned = dict(reversed(yaml.safe_load(CONDITIONAL).items()))
    for params in draws(Space.of(turned), 20):
        assert ("model.temperature" in params) == (params["model.similarity"] == "cosine")


def test_draws_stay_in_their_range_and_on_their_steps():
    for params in draws(space_of(CONDITIONAL), 40):
        assert params["training.num_epochs"] in (14, 20, 26)
        assert 0.05 <= params.get("model.temperature", 0.1) <= 0.5


def test_a_range_written_as_yaml_1_1_reads_it_is_numbers():
    rates = "training.learning_rate: {float: [1e-4, 1e-1], log: true}"
    (dimension,) = space_of(rates).dimensions
    assert dimension.values == (0.0001, 0.1)


def test_with_gives_other_settings_the_same_value():
    assert space_of(TIED).settings({"model.item_encoder.fusion": "sum"}) == {
        "model.item_encoder.fusion": "sum",
        "model.user_encoder.fusion": "sum",
    }


def test_lists_come_back_from_their_labels():
    space = space_of("training.widths: {choice: [[64], [192, 96]]}")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    params = space.suggest(trial)
    assert params["training.widths"] in ([64], [192, 96])
    assert space.values(trial.params) == params
    assert {name: label(value) for name, value in params.items()} == trial.params


def test_corners_are_all_choices_and_ends_that_can_come_together():
    corners = list(space_of(CONDITIONAL).corners())
    cosine = [corner for corner in corners if corner["model.similarity"] == "cosine"]
    dot = [corner for corner in corners if corner["model.similarity"] == "dot"]
    assert len(cosine) == 2 * 2 and len(dot) == 2  # ends of temperature, ends of epochs


def test_a_large_space_is_checked_in_every_pair_of_values(monkeypatch):
    monkeypatch.setattr(space_module, "MOST_CORNERS", 3)
    corners = list(space_of(CONDITIONAL).corners())
    pairs = {(c["model.similarity"], c["training.num_epochs"]) for c in corners}
    assert pairs == {(a, b) for a in ("cosine", "dot") for b in (14, 26)}
    ends = {
        (c["model.temperature"], c["training.num_epochs"])
        for c in corners
        if "model.temperature" in c
    }
    assert ends == {(a, b) for a in (0.05, 0.5) for b in (14, 26)}


def test_a_grid_has_every_combination_once_in_an_order_of_its_seed():
    space = space_of(CONDITIONAL.replace("[0.05, 0.5], log: true", "[0.1, 0.3], step: 0.1"))
    cells = space.grid(np.random.default_rng(0))
    assert len(cells) == 3 * 3 + 3
    assert len({repr(sorted(cell.items())) for cell in cells}) == 12
    assert cells == space.grid(np.random.default_rng(0))
    assert cells != space.grid(np.random.default_rng(1))
    temperatures = {cell["model.temperature"] for cell in cells if "model.temperature" in cell}
    assert sorted(temperatures) == pytest.approx([0.1, 0.2, 0.3])


def test_a_grid_of_a_range_without_steps_is_refused():
    with pytest.raises(ConfigError, match="must be a choice or have a 'step'"):
        space_of(CONDITIONAL).grid(np.random.default_rng(0))


def test_a_grid_of_a_logarithmic_range_of_whole_numbers_doubles():
    (dimension,) = space_of("training.batch_size: {int: [16, 100], log: true}").dimensions
    assert dimension.grid == (16, 32, 64, 100)


def test_the_default_is_what_of_it_can_be_drawn():
    defaults = flatten(Config().model_dump(mode="json")) | {"model.temperature": 0.12}
    assert space_of(CONDITIONAL).within(defaults) == {
        "model.similarity": "cosine",
        "model.temperature": 0.12,
        "training.num_epochs": 20,
    }
    assert space_of("training.learning_rate: {float: [0.02, 0.1]}").within(defaults) == {}


def test_a_default_that_differs_between_tied_settings_cannot_be_drawn():
    settings = {"model.item_encoder.fusion": "sum", "model.user_encoder.fusion": "concat"}
    assert space_of(TIED).within(settings) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "must name at least one setting"),
        ("n: [32, 64]", "must be a mapping such as"),
        ("n: {}", "must have one of choice, int, float"),
        ("n: {int: [1, 2], choice: [1]}", "must have one of"),
        ("n: {int: [1, 2], stepp: 1}", "got 'stepp'"),
        ("n: {choice: [1], log: true}", "got 'log'"),
        ("n: {choice: []}", "must be a list of values"),
        ("n: {choice: [32, 32]}", "must name a value once"),
        ("n: {int: [32]}", r"must be \[lowest, highest\]"),
        ("n: {int: [64, 32]}", "`low <= high` must hold"),
        ("n: {int: [1.5, 3]}", "must have whole numbers"),
        ("x: {float: [a, 1]}", "must have finite numbers"),
        ("x: {float: [0, 1], log: true}", "'x'"),
        ("x: {float: [0.1, 1], when: cosine}", "must be a mapping such as"),
        ("x: {float: [0, 1], when: {a: 1}}", "must name another setting of the space, got 'a'"),
        ("{a: {choice: [b, c]}, x: {float: [0, 1], when: {a: d}}}", "can never be 'd'"),
        (
            "{a: {choice: [1], when: {b: 1}}, b: {choice: [1], when: {a: 1}}}",
            "must not go in a circle",
        ),
        ("{a: {choice: [1], with: b}, b: {choice: [1]}}", "'b' must be set by one entry, got two"),
        ("experiment.seed: {int: [0, 9]}", "must not vary: a better seed is chance"),
        (
            "evaluation.metrics_k: {choice: [[5], [10]]}",
            "must not vary: trials must be compared alike",
        ),
        ("data.min_user_interactions: {int: [1, 5]}", "the same held-out interactions"),
    ],
)
def test_what_is_not_of_the_language_is_refused_in_one_line(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        space_of(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.fusion: {choice: [sum]}", "'model.fusion' is not a setting"),
        ("model.similarity: {choice: [cosine, euclid]}", "model.similarity: euclid"),
        ("training.learning_rate: {float: [0, 1]}", "greater than 0"),
        (
            "{model.similarity: {choice: [cosine, dot]}, model.temperature: {float: [0.1, 1]}}",
            "'temperature' has a meaning only with similarity 'cosine'",
        ),
        ("training.batch_size: {float: [8, 9.5]}", "batch_size"),
    ],
)
def test_what_the_configuration_would_refuse_is_refused_before_any_trial(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        space_of(text).check(check)
    assert "\n" not in str(caught.value)


def test_features_may_vary_though_other_data_settings_may_not():
    space_of("data.feature_params.title: {choice: [true, false]}").check(check)


@pytest.mark.parametrize(
    ("spec", "last"),
    [
        ({"int": [8, 31], "step": 8}, 24),
        ({"int": [8, 32], "step": 8}, 32),
        ({"float": [0.0, 1.0], "step": 0.3}, 0.9),
        ({"float": [0.0, 0.3], "step": 0.1}, 0.3),
    ],
)
def test_a_range_ends_where_whole_steps_lead(spec, last):
    """Optuna would warn of it, once for each process."""
    (dimension,) = Space.of({"training.batch_size": spec}).dimensions
    assert dimension.values[-1] == pytest.approx(last)
    assert dimension.distribution.high == dimension.values[-1]
