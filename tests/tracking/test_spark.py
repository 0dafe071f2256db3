"""A registered model as a function of Spark, on a Spark of this machine."""

import os
import shutil
import sys

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.data.arrays import Bags
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.ranking import Vectors
from recsys.recommender import Recommender
from recsys.recommender.books import Books
from tracking.model import save_model

pyspark = pytest.importorskip("pyspark", reason="pip install -e '.[spark]'")
pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a Java runtime"),
    pytest.mark.filterwarnings("ignore"),  # Spark's, of pandas 3
]
N_USERS, N_ITEMS, K = 10_000, 300, 5


@pytest.fixture(scope="module")
def recommender():
    rng = np.random.default_rng(0)
    return Recommender(
        users=Vocabulary(pa.array([f"user-{number}" for number in range(N_USERS)])),
        books=Books.of(pa.table({"item_id": [f"item-{number}" for number in range(N_ITEMS)]})),
        vectors=Vectors(
            users=rng.normal(size=(N_USERS, 8)).astype(np.float32),
            items=rng.normal(size=(N_ITEMS, 8)).astype(np.float32),
        ),
        seen=Bags(np.arange(N_USERS + 1), rng.integers(N_ITEMS, size=N_USERS), N_ITEMS),
        popularity=rng.permutation(N_ITEMS),
        provenance={},
    )


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
    save_model(tmp_path / "bundle", tmp_path / "model", users=["user-0"])
    lists_of = mlflow.pyfunc.spark_udf(
        spark,
        str(tmp_path / "model"),
        result_type="item_ids array<string>, scores array<double>",
        env_manager="local",
        params={"task": "recommend_lists", "k": K},
    )
    asked = [f"user-{number}" for number in range(N_USERS - 1)] + ["nobody"]
    frame = spark.createDataFrame(pd.DataFrame({"user_id": asked})).repartition(4)
    lists = lists_of(pyspark.sql.functions.struct("user_id"))
    found = frame.select("user_id", lists.alias("lists")).select("user_id", "lists.*").toPandas()
    found = found.set_index("user_id").loc[asked]

    expected = recommender.recommend(asked, k=K)
    items = expected["item_id"].to_numpy().reshape(N_USERS, K)
    assert np.array_equal(np.stack(found["item_ids"]), items)
    scores = expected["score"].to_numpy().reshape(N_USERS, K)
    assert np.array_equal(np.stack(found["scores"]), scores)
