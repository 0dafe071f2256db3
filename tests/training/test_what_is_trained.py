"""The module that is defined is the module that is trained."""

from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.settings import load_config
from recsys.data.dataset import prepare
from recsys.models import build as model_build
from recsys.models.feature_encoder import FeatureEncoder
from recsys.pipeline import build_trainer

CONFIGS = sorted((Path(__file__).parents[2] / "experiments" / "configs").glob("*.yaml"))


def moved(trainer):
    """Names of the parameters, and of those that an epoch changes."""
    before = {name: each.detach().clone() for name, each in trainer.model.named_parameters()}
    next(trainer.epochs())
    after = dict(trainer.model.named_parameters())
    return {name for name in before if len(before[name].shape) == 0 or before[name].numel()}, {
        name for name in before if not torch.equal(before[name], after[name])
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_parameter_of_every_shipped_configuration_moves(path, shop_words):
    words = [*shop_words, "--data.feature_params.numeric_columns=[price]"]
    # The split is that of the shop's own files.
    words += ["--data.test_path=null", "--data.split.strategy=leave_latest_out"]
    words += [f"--data.split.{name}=null" for name in ("n_test_items", "n_validation_items")]
    said = load_config(path).model_dump(mode="json")
    for tower in ("user_encoder", "item_encoder"):
        name = f"model.{tower}"
        ids, encoder = (said["model"][tower][part] for part in ("id_embedding", "feature_encoder"))
        words += [f"--{name}.id_embedding.type={ids['type']}"]
        words += [f"--{name}.id_embedding.params.embedding_dim=8"]
        if encoder["output_dim"] is not None:
            words += [f"--{name}.feature_encoder.output_dim=8"]
    config = load_config(path, words)
    trainable, changed = moved(build_trainer(config, prepare(config.data, 0)))
    assert trainable == changed


def test_every_parameter_of_every_form_moves(model_form, shop_config, shop_prepared):
    trainable, changed = moved(build_trainer(shop_config(model_form), shop_prepared))
    assert trainable == changed


@pytest.mark.parametrize("fusion", ["sum", "concat", "adaptive_mimic", "dual_augmented"])
@pytest.mark.parametrize("pooling", ["none", "mean", "attention"])
def test_every_parameter_of_a_user_tower_with_all_its_parts_moves(
    fusion, pooling, shop_config, shop_prepared
):
    tower = {
        "id_embedding": {"type": "embedding"},
        "feature_encoder": {"type": "mlp", "hidden_dims": [8, 8], "bag_dim": 4},
        "fusion": fusion,
        "history": {"pooling": pooling},
    }
    trainable, changed = moved(
        build_trainer(shop_config({"model": {"user_encoder": tower}}), shop_prepared)
    )
    assert trainable == changed


def test_every_row_of_a_warm_item_moves_under_the_softmax(shop_config, shop_prepared):
    trainer = build_trainer(shop_config(), shop_prepared)
    weight = trainer.model.item_tower.id_embedding.embedding.weight
    before = weight.detach().clone()
    next(trainer.epochs())
    assert (weight != before).any(dim=1).tolist() == [False] + [True] * (len(weight) - 1)


class NormedEncoder(FeatureEncoder):
    """A feature encoder with one more module at its end."""

    def __init__(self, features, out_dim, **options):
        super().__init__(features, out_dim, **options)
        self.hidden.append(nn.LayerNorm(out_dim))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_module_put_into_an_encoder_changes_what_is_trained_and_learns(
    model_form, precision, shop_config, shop_prepared, monkeypatch
):
    config = shop_config(
        model_form | {"training": model_form.get("training", {}) | {"precision": precision}}
    )
    plain = build_trainer(config, shop_prepared)
    monkeypatch.setattr(model_build, "FeatureEncoder", NormedEncoder)
    normed = build_trainer(config, shop_prepared)
    _, changed = moved(normed)
    added = [name for name in changed if "encoder.hidden" in name and name not in names(plain)]
    n_encoders = sum(isinstance(each, NormedEncoder) for each in normed.model.modules())
    assert n_encoders >= 1 and len(added) == 2 * n_encoders  # weight and bias of each
    assert next(plain.epochs()).train_loss != normed.history[0].train_loss


def names(trainer):
    return {name for name, _ in trainer.model.named_parameters()}


def test_a_module_put_around_a_fusion_learns(shop_config, shop_prepared, monkeypatch):
    build = model_build.build_fusion

    class Halved(nn.Module):
        def __init__(self, fusion):
            super().__init__()
            self.fusion, self.scale = fusion, nn.Parameter(torch.tensor(0.5))

        def forward(self, ids, metadata, is_known):
            return self.fusion(ids, self.scale * metadata, is_known)

    def build_halved(*arguments):
        fusion = build(*arguments)
        return None if fusion is None else Halved(fusion)

    monkeypatch.setattr(model_build, "build_fusion", build_halved)
    trainable, changed = moved(build_trainer(shop_config(), shop_prepared))
    assert trainable == changed and "item_tower.fusion.scale" in changed
