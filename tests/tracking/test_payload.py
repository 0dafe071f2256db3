"""A record becomes parameters, metrics, tags and a description."""

import dataclasses
import math

from recsys.config import Config, flatten
from recsys.reporting.record import EpochRecord
from recsys.training.trainer import EpochResult
from tracking import payload
from tracking.payload import dataset_input
from tracking.run_page import description, detail_tables


def test_every_setting_is_a_parameter(running_record):
    settings = [key for key in payload.parameters(running_record) if key.startswith("cfg.")]
    assert len(settings) == len(flatten(Config().model_dump(mode="json")))


def test_settings_are_logged_as_they_would_be_written(running_record):
    values = payload.parameters(running_record)
    assert values["cfg.model.user_encoder.id_embedding.params.sparse"] == "false"
    assert values["cfg.model.user_encoder.id_embedding.params.max_norm"] == "null"
    assert values["cfg.evaluation.metrics_k"] == "[5, 10, 20]"
    assert values["cfg.model.similarity"] == "cosine"


def test_long_settings_that_differ_at_their_end_stay_different(running_record):
    texts = []
    for end in "ab":
        config = {"data": {"books_path": "x" * 7000 + end}}
        record = dataclasses.replace(running_record, config=config)
        texts.append(payload.parameters(record)["cfg.data.books_path"])
    assert [len(text) for text in texts] == [6000, 6000]
    assert texts[0] != texts[1]


def test_a_password_in_the_store_address_is_no_parameter(running_record):
    config = {"experiment": {"tracking_uri": "https://ada:secret@mlflow.example/x"}}
    values = payload.parameters(dataclasses.replace(running_record, config=config))
    assert values["cfg.experiment.tracking_uri"] == "https://mlflow.example/x"


def test_summary_has_model_baseline_and_oracle_in_groups_of_their_own(finished_record):
    values = payload.summary_metrics(finished_record)
    assert (
        values.items()
        >= {
            "test/ndcg_at_10": 0.3,
            "test_ci_low/ndcg_at_10": 0.25,
            "test_ci_high/ndcg_at_10": 0.35,
            "test_sampled/ndcg_at_10": 0.5,
            "test/users": 20,
            "popularity/ndcg_at_10": 0.1,
            "oracle/expected_ndcg_at_10": 0.4,
            "run/seconds": 12.5,
            "run/peak_memory_mb": 321.0,
        }.items()
    )
    assert math.isnan(values["test/novelty_at_10"])  # without a value, and not dropped
    assert not [key for key in values if key.startswith("popularity_ci")]


def test_a_refit_is_told_and_its_absence_is_not(finished_record):
    assert not [key for key in payload.summary_metrics(finished_record) if "refit" in key]
    refit = {"epochs": 3, "positives": 77, "seconds": 1.5}
    values = payload.summary_metrics(dataclasses.replace(finished_record, refit=refit))
    assert {key: values[key] for key in values if "refit" in key} == {"refit/seconds": 1.5}


def test_values_on_validation_are_kept_apart_from_the_epochs_and_from_those_on_test(
    finished_record,
):
    evaluation = dataclasses.replace(finished_record.evaluation, split="validation")
    values = payload.evaluation_metrics(dataclasses.replace(finished_record, evaluation=evaluation))
    assert values["popularity_val/ndcg_at_10"] == 0.1
    groups = {key.partition("/")[0] for key in values}
    assert "final_validation" in groups
    assert not groups & {"val", "test", "popularity"}


def test_a_skipped_evaluation_gives_no_metrics_and_says_why(finished_record):
    evaluation = dataclasses.replace(finished_record.evaluation, skipped="no order")
    record = dataclasses.replace(finished_record, evaluation=evaluation)
    assert payload.evaluation_metrics(record) == {}
    assert "no order" in description(record)


def test_the_description_ends_with_the_key_figures(finished_record):
    last = description(finished_record).splitlines()[-2:]
    assert last[1] == "| ndcg@10 | 0.3000 | 0.1000 | 0.2500 to 0.3500 |"


def test_the_description_leads_with_the_monitored_metric_and_stays_short(finished_record):
    means = {f"{name}@{k}": 0.1 for name in ("recall", "ndcg", "map") for k in (5, 10, 20)}
    evaluation = dataclasses.replace(finished_record.evaluation, model={"means": means})
    config = finished_record.config
    config["training"]["early_stopping"]["monitor"] = "map@20"
    record = dataclasses.replace(finished_record, evaluation=evaluation, config=config)
    rows = [line.split(" | ")[0] for line in description(record).splitlines()]
    assert rows[-2:] == ["| map@20", "| ndcg@20"]
    assert len(rows) == 6  # a line, a gap, the head and its rule, two metrics


def test_the_monitored_metric_is_the_first_that_mlflow_is_told():
    validation = {"recall@5": 0.1, "ndcg@10": 0.2, "map@5": 0.3}
    epoch = EpochResult(1, 1.0, {}, validation, is_best=True, seconds=1.0)
    usual = payload.epoch_metrics(epoch, "ndcg@10")
    assert list(usual) == [
        "val/ndcg_at_10",
        "val/recall_at_5",
        "val/map_at_5",
        "best/ndcg_at_10",
        "best/recall_at_5",
        "best/map_at_5",
        "train/loss",
        "train/seconds",
    ]
    chosen = payload.epoch_metrics(epoch, "map@5")
    assert next(iter(chosen)) == "val/map_at_5"
    assert chosen == usual


def test_an_epoch_shows_each_number_once_at_the_monitored_list_length(running_record):
    epoch = EpochResult(1, 1.0, {}, dict.fromkeys(Config().evaluation.metric_names, 0.1), False, 1)
    dataset = running_record.dataset | {"most_held_out": {"validation": 1, "test": 3}}
    for most, shown in (
        (running_record.dataset, {"recall", "precision", "ndcg", "hit_rate", "map", "mrr"}),
        (dataset, {"recall", "ndcg", "mrr"}),
    ):
        names = payload.shown_in_epochs(dataclasses.replace(running_record, dataset=most))
        sent = payload.epoch_metrics(epoch, "ndcg@10", names)
        assert {key for key in sent if key.startswith("val/")} == {f"val/{n}_at_10" for n in shown}


def test_what_training_watches_is_sent_with_every_epoch(running_record):
    config = running_record.config | {"training": {"early_stopping": {"monitor": "new_recall@5"}}}
    dataset = running_record.dataset | {"split": {"strategy": "cold_items"}}
    record = dataclasses.replace(running_record, config=config, dataset=dataset)
    names = payload.shown_in_epochs(record)
    assert names[0] == "new_recall@5"
    assert {"recall@5", "new_ndcg@5", "ndcg@5"} < set(names)


def test_what_is_not_sent_as_a_metric_is_in_the_tables(finished_record):
    """Every number of the record, by recommender and metric, or by epoch."""
    epochs, everything = detail_tables(finished_record)
    model = finished_record.evaluation.model
    rows = {(row["recommender"], row["metric"]): row for row in everything.records()}
    assert {m for name, m in rows if name == "model"} == set(model.means)
    assert rows["popularity", "ndcg@10"]["low"] == 0.05
    assert rows["model", "sampled_ndcg@10"]["high"] == 0.55
    assert epochs.column("recall@20") == [0.2, 0.4, 0.6]


def test_a_recorded_epoch_is_sent_as_the_one_that_the_trainer_gave(finished_record, epochs):
    for recorded, given in zip(finished_record.history, epochs, strict=True):
        sent, live = (payload.epoch_metrics(epoch, "ndcg@10") for epoch in (recorded, given))
        assert sent == live
    bare = payload.epoch_metrics(EpochRecord(number=1), "ndcg@10")
    assert math.isnan(bare["train/loss"])


def test_of_other_baselines_only_ranking_metrics_at_the_main_length_are_sent(finished_record):
    means = {"ndcg@5": 0.1, "ndcg@10": 0.2, "recall@10": 0.3, "novelty@10": 9, "sampled_mrr@10": 1}
    baselines = finished_record.evaluation.baselines | {"ease": {"means": means}}
    evaluation = dataclasses.replace(finished_record.evaluation, baselines=baselines)
    values = payload.evaluation_metrics(dataclasses.replace(finished_record, evaluation=evaluation))
    sent = {key: value for key, value in values.items() if key.startswith("ease")}
    assert sent == {"ease/ndcg_at_10": 0.2, "ease/recall_at_10": 0.3}


def test_runs_of_one_name_begun_at_different_times_have_different_keys(running_record):
    later = dataclasses.replace(running_record, created="2026-01-02T03:04:06+00:00")
    assert payload.key_of(running_record) != payload.key_of(later)


def test_the_data_set_carries_our_own_fingerprint(running_record):
    dataset = dataset_input(running_record.dataset)
    assert dataset.dataset.digest == running_record.dataset["fingerprint"]
    assert dataset.dataset.name == "sample/books.csv+users.csv"
    assert [(tag.key, tag.value) for tag in dataset.tags] == [("mlflow.data.context", "training")]
    assert dataset_input({}) is None  # before the data are prepared
