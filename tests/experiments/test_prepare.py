"""The data set as a step of its own."""

from recsys.config import DataConfig
from recsys.data.dataset import prepare_cached


def test_preparing_says_what_is_left_and_a_run_takes_it(shop, board_settings):
    cache = shop.path / "cache"
    own = ("--config", "config.yaml", "--data.cache_dir", cache, "--experiment.tracking", "false")
    refused = shop.bookends("run", "--prepared", *own)
    assert refused.exit_code == 2 and "must have been prepared by" in refused.output
    made = shop.bookends("data", "prepare", *own)
    assert made.exit_code == 0
    prepared = prepare_cached(DataConfig(**board_settings["data"] | {"cache_dir": cache}), 0)
    for step in prepared.filter_steps:
        assert step.name in made.output and f"{step.interactions:,}" in made.output
    assert f"train {len(prepared.train):,}, validation" in made.output
    assert f"0 of {len(prepared.users):,} users (0.0%)" in made.output
    assert prepared.fingerprint in made.output
    assert str(cache / prepared.fingerprint.replace(":", "-")) in made.output
    assert shop.bookends("run", "--prepared", *own).exit_code == 0
    refused = shop.bookends("run", "--prepared", *own, "--data.min_user_interactions", "2")
    assert refused.exit_code == 2 and "must have been prepared by" in refused.output
