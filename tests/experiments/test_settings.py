import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from experiments.settings import (
    default_yaml,
    dump_yaml,
    explain_yaml,
    flatten,
    load_config,
    merge,
    parse_overrides,
    setting_names,
    settings_page,
)
from recsys.config import Config
from recsys.errors import ConfigError

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "experiments" / "configs").glob("*.yaml"))
OF_OLD = """
data: {books_limit: null, interactions_limit: null, min_user_interactions: 5,
  min_item_interactions: 10,
  feature_params: {numeric_columns: [average_rating, price, rating_number], category_top_k: 300,
    author_top_k: 300, user_aggregation: mean}}
model:
  user_encoder:
    id_embedding: {params: {embedding_dim: 96, sparse: true}}
    feature_encoder: {type: mlp, hidden_dims: [192], output_dim: 96, dropout: 0.1}
    fusion: adaptive_mimic
  item_encoder: {}
  similarity: cosine
  device: cpu
training: {batch_size: 512, num_epochs: 10, negatives_per_positive: 5}
evaluation: {metrics_k: [5, 10, 20], candidate_samples: 500}
diagnostics: {item_sample_size: 50, user_sample_size: 500, neighbor_k: 5,
  feature_corr_sample_size: 20000, feature_corr_top_k: 20,
  report_path: artifacts/reports/recommendation_report.md}
"""
"""A whole configuration as users have had it since before the platform."""


def refusal(*arguments, path=None):
    with pytest.raises(ConfigError) as caught:
        load_config(path, arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of_file(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return refusal(path=path).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("training:\n  num_epochs: 1\nmodel: {}\ntraining: {}", (1, 4)),
        ("training:\n  num_epochs: 1\n  num_epochs: 2", (2, 3)),
        ("training: {num_epochs: 1, num_epochs: 2}", (1, 1)),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path, text, lines):
    assert f"stands on line {lines[0]} and again on line {lines[1]}" in of_file(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!int x", "'x' is no int"),
        ("a: !!bool maybe", "'maybe' is no bool"),
        ("a: " + "9" * 5000, "is no int"),
        ("a: " + "[" * 900, "nested too deep"),
    ],
)
def test_what_yaml_cannot_read_is_one_line(tmp_path, text, said):
    assert said in of_file(tmp_path, text)


def test_dates_are_text_and_exponents_numbers(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "experiment: {run_name: 2020-13-45, name: !!timestamp x}\ntraining: {learning_rate: 1e-3}"
    )
    config = load_config(path)
    assert (config.experiment.run_name, config.experiment.name) == ("2020-13-45", "x")
    assert config.training.learning_rate == 0.001


def test_a_dotted_name_in_a_file_is_told_its_place(tmp_path):
    said = of_file(tmp_path, "training.num_epochs: 1")
    assert said == "'training.num_epochs' must stand as 'num_epochs:' under 'training:' in YAML"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: {num_epochs: true}", "'training.num_epochs': must hold no truth value"),
        ("training: {betas: [0.9, true]}", "'training.betas': must hold no truth value"),
        ("data: {test_path: ''}", "'data.test_path': must name a file or folder, got ''"),
        ("evaluation: {metrics_k: !!set {5, 10}}", "'evaluation.metrics_k': must be a list"),
        ("training: {learning_rate: .inf}", "'training.learning_rate': input should be a finite"),
        ("training: {learning_rate: .nan}", "'training.learning_rate': input should be a finite"),
        ("training: {num_threads: 100000}", "'training.num_threads': input should be less than"),
        ('experiment: {runs_dir: "a\\0b"}', "'experiment.runs_dir': must be printable text"),
        ('experiment: {name: "\\ud800"}', "'experiment.name': must be printable text"),
        ("experiment: {run_name: a/b}", "'experiment': 'run_name' must be 1 to 100 letters, di"),
        ("experiment: {run_name: " + "x" * 300 + "}", "'experiment': 'run_name' must be 1 to 100"),
        ("experiment: {tags: {mlflow.user: me}}", "'experiment': 'tags' must have names of 1 to"),
        ("experiment: {name: ''}", "'experiment': 'name' must have 1 to 200 characters"),
        ("experiment: {name: " + "x" * 600 + "}", "'experiment': 'name' must have 1 to 200"),
    ],
)
def test_a_value_of_another_kind_is_refused(tmp_path, text, said):
    assert of_file(tmp_path, text).startswith(said)


def test_the_configs_that_the_readme_names_are_shipped():
    names = {path.name for path in CONFIGS}
    expected = ("default", "classic", "quick", "goodbooks", "goodbooks-heavy")
    assert {f"{name}.yaml" for name in expected} <= names


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads(path):
    assert isinstance(load_config(path), Config)


def test_the_page_of_settings_is_that_of_the_settings():
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()


def test_the_defaults_on_the_page_are_those_of_a_run_that_says_nothing():
    defaults, part, seen = flatten(Config().model_dump(mode="json")), "", {}
    for line in settings_page().splitlines():
        if line.startswith("## "):
            part = line.removeprefix("## ")
        elif found := re.match(r"\| `(\S+)` \| `(.+?)` \|", line):
            seen[f"{part}.{found[1]}"] = yaml.safe_load(found[2])
    assert seen == {name: defaults.get(name, {}) for name in seen} and len(seen) > 60
    assert seen["model.user_encoder.fusion"] == "identity"
    assert seen["model.item_encoder.fusion"] == "sum"


def test_the_default_config_spells_out_the_defaults():
    path = ROOT / "experiments" / "configs" / "default.yaml"
    assert path.read_text() == default_yaml()
    assert load_config(path) == Config()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_resolved_config_reads_back_as_itself(path, tmp_path):
    config = load_config(path)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("write", [dump_yaml, explain_yaml])
def test_a_text_that_looks_like_a_number_reads_back_as_a_text(tmp_path, write):
    path = tmp_path / "config.yaml"
    path.write_text(write(load_config(None, ["--experiment.run_name=1e3"])))
    assert load_config(path).experiment.run_name == "1e3"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model.similarity", "dot"],
        ["--model.item_encoder.feature_encoder.type", "mlp"],
        ["--model.item_encoder.id_embedding.params.sparse", "true"],
        ["--model.user_encoder.history.pooling", "sequence"],
        ["--training.objective", "ccl"],
        ["--training.examples", "pairs"],
        ["--training.optimizer", "sgd"],
        ["--training.schedule", "constant"],
        ["--data.split.strategy", "random"],
        ["--data.feature_params.user_aggregation", "time_decayed_mean"],
    ],
)
def test_a_choice_can_be_changed_alone_over_the_default_config(arguments):
    path = ROOT / "experiments" / "configs" / "default.yaml"
    assert load_config(path, arguments) == load_config(None, arguments)


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("training: {num_epochs: 7, batch_size: 64}\n")
    config = load_config(path, ["--training.num_epochs", "3", "--model.temperature=0.2"])
    assert (config.training.num_epochs, config.training.batch_size) == (3, 64)
    assert config.model.temperature == 0.2
    assert config.training.learning_rate == Config().training.learning_rate


def test_filling_in_a_default_leaves_other_configs_alone():
    assert Config().training.sparse_optimizer is None
    config = load_config(None, ["--model.item_encoder.id_embedding.params.sparse", "true"])
    assert config.training.sparse_optimizer == "sparse_adam"
    assert Config().training.sparse_optimizer is None


def test_lists_mappings_and_null_can_be_given():
    config = load_config(
        None,
        [
            "--evaluation.metrics_k=[3,10]",
            '--data.book_columns={"item_id": "parent_asin"}',
            "--training.early_stopping.patience=null",
        ],
    )
    assert config.evaluation.metrics_k == (3, 10)
    assert config.data.book_columns == {"item_id": "parent_asin"}
    assert config.training.early_stopping.patience is None


def test_an_unknown_option_is_refused_with_the_closest_name():
    assert refusal("--trainig.num_epochs", "3") == (
        "command line: 'trainig.num_epochs' is not a setting; did you mean 'training.num_epochs'?"
    )
    assert "did you mean 'training.learning_rate'?" in refusal("--learning_rate", "3")


def test_an_option_is_not_completed_from_its_beginning():
    assert "'training.num_epo' is not a setting" in refusal("--training.num_epo", "3")


def test_an_unknown_key_in_a_file_names_the_file_and_the_closest_name(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("model: {temprature: 3}\n")
    assert refusal(path=path) == (
        f"{path}: 'model.temprature' is not a setting; did you mean 'model.temperature'?"
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--training.num_epochs", "expected one argument"), ("3", "unrecognized arguments: 3")],
)
def test_an_option_without_a_value_and_a_value_without_an_option_are_refused(argument, message):
    assert message in refusal(argument)


def test_a_file_that_is_no_yaml_is_refused_with_its_place(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("model: [1\ntraining: 2\n")
    assert refusal(path=path).startswith(f"{path}: must be valid YAML")
    assert "line 2" in refusal(path=path)


def test_a_missing_file_and_a_list_are_refused(tmp_path):
    assert "must be a readable file" in refusal(path=tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert "must hold a mapping of settings" in refusal(path=tmp_path / "list.yaml")


def test_merging_goes_as_deep_as_both_sides_are_mappings():
    base = {"a": {"b": 1, "c": 2}, "d": {"e": 3}}
    assert merge(base, {"a": {"b": 9}, "d": 4}) == {"a": {"b": 9, "c": 2}, "d": 4}
    assert base == {"a": {"b": 1, "c": 2}, "d": {"e": 3}}


def test_options_give_values_as_yaml_would_and_leave_what_is_no_value_to_be_refused():
    given = ["--data.min_item_interactions", "1", "--experiment.run_name", "1"]
    given += ["--training.learning_rate=1e-3", "--model.user_encoder.history.ratings=no"]
    given += ["--evaluation.metrics_k", "[5, 10]", "--data.split.strategy", "null"]
    given += ["--data.books_path", "b.csv", "--training.num_epochs", "many"]
    assert parse_overrides(given) == {
        "data": {"min_item_interactions": 1, "split": {"strategy": None}, "books_path": "b.csv"},
        "experiment": {"run_name": "1"},
        "training": {"learning_rate": 0.001, "num_epochs": "many"},
        "model": {"user_encoder": {"history": {"ratings": False}}},
        "evaluation": {"metrics_k": [5, 10]},
    }
    unknown = {"bogus": "1"}
    assert parse_overrides(["--data.split", json.dumps(unknown)]) == {"data": {"split": unknown}}


@pytest.mark.parametrize("words", [["--data.split", "{a: 1}"], ["--data.split={a: 1}"]])
def test_a_mapping_that_is_not_json_is_named(words):
    with pytest.raises(
        ConfigError, match=r"'data.split' must be a mapping in JSON, got '\{a: 1\}'"
    ):
        parse_overrides(["--data.min_item_interactions", "1", *words])


def test_every_leaf_of_the_tree_is_an_option_and_explained():
    leaves = flatten(Config().model_dump(mode="json"))
    assert set(leaves) <= set(setting_names())
    assert parse_overrides([]) == {}
    explained = explain_yaml(Config()).splitlines()
    for number, line in enumerate(explained):
        if ":" in line and not line.lstrip().startswith("#"):
            assert explained[number - 1].lstrip().startswith("#"), line


def test_the_environment_of_mlflow_run_holds_the_declared_dependencies():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    built = yaml.safe_load((ROOT / "python_env.yaml").read_text())["dependencies"]
    assert built == ["-c constraints.txt", *declared]


def test_a_configuration_that_users_have_from_before_is_understood(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(OF_OLD)
    config = load_config(path)
    resolved = flatten(config.model_dump(mode="json"))
    for name, value in flatten(yaml.safe_load(OF_OLD)).items():
        if name != "model.item_encoder":  # an empty section
            assert resolved[name] == value, name
    training, user, item = config.training, config.model.user_encoder, config.model.item_encoder
    assert (training.objective, training.examples) == ("sampled_bce", "pairs")
    assert training.sparse_optimizer == "sparse_adam"
    assert (config.model.temperature, config.model.learn_temperature) == (0.12, True)
    assert item.feature_encoder == user.feature_encoder and item.fusion == user.fusion
    assert item.id_embedding == user.id_embedding and item.id_embedding.type == "embedding"


def test_the_classic_configuration_has_what_users_had_and_no_histories():
    config = load_config(ROOT / "experiments" / "configs" / "classic.yaml")
    old = Config.model_validate(yaml.safe_load(OF_OLD))
    for name in ("user_encoder", "item_encoder"):
        tower, before = getattr(config.model, name), getattr(old.model, name)
        assert (tower.feature_encoder, tower.fusion) == (before.feature_encoder, before.fusion)
        assert tower.id_embedding.type == "embedding" and tower.id_embedding.params.sparse
    assert config.model.user_encoder.history.pooling == "none"
    assert config.training.objective == old.training.objective
    assert config.training.negatives_per_positive == old.training.negatives_per_positive
    assert (config.training.optimizer, config.training.sparse_optimizer) == ("adam", "sparse_adam")


WRONG = """
import sys
from experiments.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print(end.code, *{"torch", "mlflow"} & sys.modules.keys())
"""


@pytest.mark.parametrize("command", [["run"], ["sweep", "--space", "sweeps/spaces/quick.yaml"]])
def test_a_wrong_setting_is_told_before_what_takes_seconds_is_imported(command):
    words = [sys.executable, "-c", WRONG, *command, "--nothing=1"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "2\n"
    assert done.stderr.startswith("bookends: command line: 'nothing' is not a setting")


@pytest.mark.parametrize(
    "words", ["training.betas=[0.9]", "training.warmup_steps=3 training.schedule=constant"]
)
def test_a_refusal_names_the_command_line_where_there_is_no_file(words):
    with pytest.raises(ConfigError, match=r"^command line: "):
        load_config(None, [f"--{word}" for word in words.split()])


def test_what_is_at_odds_with_a_file_names_both(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training: {schedule: constant}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml and command line: 'training\.warmup_steps'"):
        load_config(path, ["--training.warmup_steps=3"])
    with pytest.raises(ConfigError, match=r"^command line: 'training\.betas\.1'"):
        load_config(path, ["--training.betas=[0.9]"])
