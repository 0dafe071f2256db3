"""A registered model as a function of Spark, on a Spark of this machine."""

import os
import shutil
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest

from benchmarks.serving_bundle import build_recommender
from tracking.model import save_model

pyspark = pytest.importorskip("pyspark", reason="pip install -e '.[spark]'")
pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a Java runtime"),
    pytest.mark.filterwarnings("ignore"),  # Spark's, of pandas 3
]
N_USERS, N_ITEMS, K = 10_000, 300, 5


@pytest.fixture(scope="module")
def recommender():
    return build_recommender(N_ITEMS, N_USERS, 8, n_seen=1)


@pytest.fixture
def spark(monkeypatch):
    """A session of two cores, whose Python is ours."""
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    builder = pyspark.sql.SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def test_ten_thousand_users_get_the_lists_of_the_recommender(recommender, spark, tmp_path):
    recommender.save(tmp_path / "bundle")
    asked = [*recommender.users.ids.to_pylist()[1:], "nobody"]
    save_model(tmp_path / "bundle", tmp_path / "model", users=asked[:1])
    lists_of = mlflow.pyfunc.spark_udf(
        spark,
        str(tmp_path / "model"),
        result_type="item_ids array<string>, scores array<double>",
        env_manager="local",
        params={"task": "recommend_lists", "k": K},
    )
    frame = spark.createDataFrame(pd.DataFrame({"user_id": asked})).repartition(4)
    lists = lists_of(pyspark.sql.functions.struct("user_id"))
    found = frame.select("user_id", lists.alias("lists")).select("user_id", "lists.*").toPandas()
    found = found.set_index("user_id").loc[asked]

    expected = recommender.recommend(asked, k=K)
    items = expected["item_id"].to_numpy().reshape(N_USERS, K)
    assert np.array_equal(np.stack(found["item_ids"]), items)
    scores = expected["score"].to_numpy().reshape(N_USERS, K)
    assert np.array_equal(np.stack(found["scores"]), scores)
