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
)
from recsys.config import Config
from recsys.errors import ConfigError

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "experiments" / "configs").glob("*.yaml"))


def refusal(*arguments, path=None):
    with pytest.raises(ConfigError) as caught:
        load_config(path, arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_configs_that_the_readme_names_are_shipped():
    names = {path.name for path in CONFIGS}
    assert {"default.yaml", "quick.yaml", "goodbooks.yaml", "goodbooks-heavy.yaml"} <= names


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads(path):
    assert isinstance(load_config(path), Config)


def test_the_default_config_spells_out_the_defaults():
    path = ROOT / "experiments" / "configs" / "default.yaml"
    assert path.read_text() == default_yaml()
    assert load_config(path) == Config()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_resolved_config_reads_back_as_itself(path, tmp_path):
    config = load_config(path)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model.similarity", "dot"],
        ["--model.encoder.kind", "linear"],
        ["--model.sparse", "false"],
        ["--training.negative_sampling", "popularity"],
        ["--data.split.strategy", "random"],
        ["--data.features.user_aggregate", "time_decayed_mean"],
        ["--model.encoder.categories.encoding", "embedding"],
    ],
)
def test_a_choice_can_be_changed_alone_over_the_default_config(arguments):
    path = ROOT / "experiments" / "configs" / "default.yaml"
    assert load_config(path, arguments) == load_config(None, arguments)


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("training: {num_epochs: 7, batch_size: 64}\n")
    config = load_config(path, ["--training.num_epochs", "3", "--model.sparse=false"])
    assert (config.training.num_epochs, config.training.batch_size) == (3, 64)
    assert config.model.sparse is False
    assert config.training.negatives_per_positive == Config().training.negatives_per_positive


def test_filling_in_a_default_leaves_other_configs_alone():
    assert Config().training.sparse_optimizer == "sparse_adam"
    config = load_config(None, ["--model.sparse", "false"])
    assert config.training.sparse_optimizer is None


def test_lists_mappings_and_null_can_be_given():
    config = load_config(
        None,
        [
            "--evaluation.ks=[3,10]",
            '--data.book_columns={"item_id": "parent_asin"}',
            "--training.early_stopping.patience=null",
        ],
    )
    assert config.evaluation.ks == (3, 10)
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
    path.write_text("model: {embeding_dim: 3}\n")
    assert refusal(path=path) == (
        f"{path}: 'model.embeding_dim' is not a setting; did you mean 'model.embedding_dim'?"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.num_epochs", "abc"], "'training.num_epochs': input should be a valid int"),
        (["--training.num_epochs", "0"], "greater than or equal to 1, got '0'"),
        (["--training.num_epochs"], "expected one argument"),
        (["3"], "unrecognized arguments: 3"),
        (["--model.user_tower.fusion", "product"], "'identity', 'sum', 'concat' or 'adaptive_m"),
        (["--model.max_norm", "1"], "'max_norm' needs 'sparse: false'"),
        (
            ["--model.sparse", "false", "--training.sparse_optimizer", "sparse_adam"],
            "'training.sparse_optimizer: sparse_adam' needs 'model.sparse: true'",
        ),
        (["--model.encoder.kind", "none"], "'adaptive_mimic' has no metadata to fuse"),
        (["--model.similarity", "dot", "--model.temperature", "1"], "only with similarity 'cos"),
        (["--training.popularity_alpha", "0.5"], "only with negative_sampling 'popularity'"),
        (["--data.features.half_life_days", "3"], "only with user_aggregate 'time_decayed_mean'"),
        (["--data.split.test_fraction", "0.1"], "only with strategy 'global_time' or 'random'"),
        (["--model.encoder.authors.dim", "3"], "only with encoding 'embedding'"),
        (["--model.encoder.kind", "linear", "--model.encoder.dropout", "0.5"], "with kind 'mlp'"),
        (["--training.early_stopping.monitor", "ndcg@7"], "must be one of the evaluated metrics"),
        (
            ["--data.split.order=rows", "--data.features.user_aggregate=time_decayed_mean"],
            "got 'rows', which says nothing of days",
        ),
        (["--model.encoder.hidden_dims", "[]"], "must name a layer; kind 'linear' has none"),
        (["--experiment.run_name", "../x"], "string should match pattern"),
        (["--experiment.tracking_uri", "postgresql://me:pw@host/db"], "must hold no password"),
        (["--experiment.tracking_uri", "postgresql://me:p/w@host/db"], "must hold no password"),
        (["--experiment.tracking_uri", "mysql://host/db?password=pw"], "must hold no password"),
        (
            [
                "--data.numeric_columns=[]",
                "--data.features.title=false",
                "--data.features.categories.size=0",
                "--data.features.authors.size=0",
            ],
            "a fusion other than 'identity' needs metadata",
        ),
        (["--evaluation.ks", "[10, 5]"], "'ks' must rise and not repeat, got [10, 5]"),
        (
            [
                "--training.mimic_weight",
                "1",
                "--model.user_tower.fusion",
                "sum",
                "--model.item_tower.fusion",
                "concat",
            ],
            "only with a fusion 'adaptive_mimic', got concat, sum",
        ),
    ],
)
def test_impossible_settings_are_refused_in_one_line(arguments, message):
    assert message in refusal(*arguments)


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
