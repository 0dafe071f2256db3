"""Names of ours become names of MLflow's, and no two the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric, _validate_param

from recsys.config import Config
from recsys.errors import TrackingError
from tracking.names import metric_key, parameter_key, translate

names = st.text(min_size=1, max_size=20)
tricky = st.text(alphabet="_at@:.5f/ ", min_size=1, max_size=12)


def restore(name):
    """The name that was translated: that there is one shows that no two become the same."""

    def original(match):
        codes = match[1]
        return "@" if codes is None else "".join(chr(int(code, 16)) for code in codes.split("."))

    return re.sub(r"_at_|:([0-9a-f]+(?:\.[0-9a-f]+)*):", original, name)


@given(name=names | tricky)
def test_a_translated_name_is_restored(name):
    assert restore(translate(name)) == name


@given(group=names | tricky, name=names | tricky)
def test_mlflow_takes_every_metric_key(group, name):
    _validate_metric(metric_key(group, name), 0.5, 0, 0)


@given(group=names | tricky, name=names | tricky)
def test_a_metric_key_gives_its_group_and_name_back(group, name):
    parts = metric_key(group, name).partition("/")
    assert (restore(parts[0]), restore(parts[2])) == (group, name)


@given(path=st.lists(names | tricky, min_size=1, max_size=3))
def test_mlflow_takes_every_parameter_key(path):
    _validate_param(parameter_key(".".join(path)), "value")


@pytest.mark.parametrize("name", Config().evaluation.metric_names)
def test_ranking_metrics_need_no_escape_but_at(name):
    assert translate(name) == name.replace("@", "_at_")


def test_a_nameless_metric_is_refused():
    with pytest.raises(TrackingError, match="must have a name"):
        translate("")


def test_a_name_longer_than_mlflow_holds_is_refused():
    with pytest.raises(TrackingError, match="at most 250 characters"):
        metric_key("val", "x" * 250)
