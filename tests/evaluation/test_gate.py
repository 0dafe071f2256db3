"""When a candidate may take the champion's place: worlds whose right answer is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from recsys.errors import ConfigError
from recsys.evaluation.gate import Contender, GateSettings, ServingCost, judge
from recsys.evaluation.significance import compare

N_USERS, N_COLD = 400, 100
CHEAP = ServingCost(n_bytes=10_000, p95_ms=1.0)
SETTINGS = GateSettings(n_samples=400)
SAME, NOT = "ndcg@10 per user, over the same segments", "cannot be compared"


def contender(*, everyone=0.0, cold=0.0, tail=0.0, name="run", noise=0.0, seed=1):
    """Users whose values are those of the same base, moved by so much.

    The base is 0.3 on the whole and 0.1 on items outside the head, which every second user has.
    """
    base = np.random.default_rng(0).uniform(0.2, 0.4, N_USERS)
    values = base + everyone + np.random.default_rng(seed).normal(0, noise, N_USERS)
    is_cold = np.arange(N_USERS) < N_COLD
    values[is_cold] += cold
    has_tail = np.arange(N_USERS) % 2 == 0
    frame = pd.DataFrame(
        {
            "user_id": [f"user-{number:03}" for number in range(N_USERS)],
            "segment": np.where(is_cold, "cold", "head"),
            "ndcg@10": values,
            "tail_items_ndcg@10": np.where(has_tail, base - 0.2 + tail, np.nan),
            "popularity_ndcg@10": base - 0.1,
        }
    )
    return Contender(name, "sha256:aa", frame)


CHAMPION = contender(name="version 1")


def failed(candidate, champion=CHAMPION, cost=CHEAP, settings=SETTINGS):
    return [row.key for row in judge(candidate, champion, cost, settings).failed]


def changed(candidate, **columns):
    return dataclasses.replace(candidate, per_user=candidate.per_user.assign(**columns))


def said(*arguments, keys, **more):
    """What the verdict tells of some criteria: what must hold, what was found, whether it does."""
    rows = judge(*arguments, **more).criteria
    return [(r.name, r.required, r.found, r.passed) for r in rows if r.key in keys]


def without_values(contender, **changes):
    return dataclasses.replace(contender, per_user=pd.DataFrame(), **changes)


@pytest.mark.parametrize(
    ("moved", "wanted"),
    [
        ({"everyone": 0.01}, []),
        ({"everyone": -0.01}, ["better"]),
        ({}, ["better"]),
        # Cold users stand at 0.3, so a fifth of it, 0.06, may go.
        ({"everyone": 0.03, "cold": -0.1}, ["cold_users"]),
        ({"everyone": 0.03, "cold": -0.05}, []),
        # The tail stands at 0.1, so 0.02 may go.
        ({"everyone": 0.01, "tail": -0.05}, ["tail_items"]),
    ],
)
def test_a_candidate_must_be_better_and_lose_little_where_it_is_protected(moved, wanted):
    assert failed(contender(**moved)) == wanted


def test_a_rise_within_noise_is_refused():
    """Mean difference about 0.1 / sqrt(400) = 0.005 at most by luck; it is not shown."""
    lucky = contender(noise=0.1, seed=3)
    values, base = lucky.per_user["ndcg@10"], CHAMPION.per_user["ndcg@10"]
    assert 0 < (values - base).mean() < 2 * 0.1 / np.sqrt(N_USERS)
    assert failed(lucky) == ["better"]


def test_the_margin_is_a_share_of_the_champions_own_value():
    """0.03 of 0.1 is more than a fifth and less than two; of cold users' 0.3 it is a tenth."""
    candidate = contender(everyone=0.04, cold=-0.07, tail=-0.03)
    assert failed(candidate) == ["tail_items"]
    generous = dataclasses.replace(SETTINGS, margin=0.4)
    assert failed(candidate, settings=generous) == []
    strict = dataclasses.replace(SETTINGS, margin=0.05)
    assert failed(candidate, settings=strict) == ["cold_users", "tail_items"]


def test_the_lower_end_is_held_against_the_margin_and_not_the_mean():
    """Cold users do not lose on average, but so noisily that a fifth may well be lost."""
    rng = np.random.default_rng(5)
    swings = np.zeros(N_USERS)
    swings[:N_COLD] = rng.permutation(np.repeat([-1.0, 1.0], N_COLD // 2))
    calm = contender(everyone=0.2)
    noisy = changed(
        calm, **{"ndcg@10": calm.per_user["ndcg@10"] + 4 * swings - 0.15 * (swings != 0)}
    )
    verdict = judge(noisy, CHAMPION, CHEAP, SETTINGS)
    row = next(row for row in verdict.criteria if row.key == "cold_users")
    difference = (noisy.per_user["ndcg@10"] - CHAMPION.per_user["ndcg@10"])[:N_COLD].mean()
    assert difference > 0
    assert not row.passed
    first, second = (one.per_user["ndcg@10"].to_numpy()[:N_COLD] for one in (noisy, CHAMPION))
    found = compare(first, second, rng=np.random.default_rng(0), n_samples=400, confidence=0.9)
    assert row.found == (
        f"{first.mean():.4f} against {second.mean():.4f}: {difference:+.4f}, at least "
        f"{found.interval[0]:+.4f}, 100 users; too few to rule out a greater loss"
    )


def test_a_segment_without_users_does_not_refuse():
    both = (changed(one, segment="head") for one in (contender(everyone=0.01), CHAMPION))
    (row,) = said(*both, CHEAP, SETTINGS, keys=("cold_users",))
    told = ("loses at most 20% of ndcg@10", "no test user is concerned")
    assert row == ("cold users kept", *told, True)


@pytest.mark.parametrize(
    ("cost", "changes", "wanted"),
    [
        (CHEAP, {"max_bytes": 10_000}, []),
        (CHEAP, {"max_bytes": 9_999}, ["bytes"]),
        (ServingCost(1, 100.0), {}, []),
        (ServingCost(1, 100.5), {}, ["latency"]),
        (ServingCost(1, 125.0, 100.0), {}, []),
        (CHEAP, {"margin": 0.0}, []),
    ],
)
def test_bounds_are_met_where_they_are_just_met(cost, changes, wanted):
    settings = dataclasses.replace(SETTINGS, **changes)
    assert failed(contender(everyone=0.01), cost=cost, settings=settings) == wanted


@pytest.mark.parametrize(("alpha", "wanted"), [(2 / 32, []), (0.0624, ["better"])])
def test_five_gains_of_five_pass_at_the_level_of_their_p_value(alpha, wanted):
    first, second = (
        dataclasses.replace(one, per_user=one.per_user.iloc[:5])
        for one in (contender(everyone=0.01), CHAMPION)
    )
    assert failed(first, second, settings=dataclasses.replace(SETTINGS, alpha=alpha)) == wanted


def test_other_data_cannot_be_compared_and_cost_is_still_judged():
    other = dataclasses.replace(contender(everyone=0.01), fingerprint="sha256:bb")
    verdict = judge(other, CHAMPION, ServingCost(1, 1e6), SETTINGS)
    assert [row.key for row in verdict.failed] == ["same_data", "latency"]
    assert dataclasses.astuple(verdict.failed[0])[1:4] == (
        *("same data as the champion", "fingerprint sha256:aa"),
        "sha256:bb; cannot be compared",
    )
    assert not {"better", "cold_users"} & {row.key for row in verdict.criteria}


def test_users_in_another_order_are_paired_all_the_same():
    """Were they paired as they stand, the differences would be noise and nothing be shown."""
    candidate = contender(everyone=0.01)
    mixed = candidate.per_user.sample(frac=1, random_state=0)
    assert failed(dataclasses.replace(candidate, per_user=mixed)) == []


def test_all_reasons_are_given_at_once():
    candidate = contender(everyone=-0.02, cold=-0.2, tail=-0.05)
    settings = dataclasses.replace(SETTINGS, max_bytes=1)
    found = failed(candidate, cost=ServingCost(2, 1e6), settings=settings)
    assert found == ["better", "cold_users", "tail_items", "bytes", "latency"]


def test_the_first_candidate_is_held_against_popularity():
    (row,) = said(contender(), None, CHEAP, SETTINGS, keys=("better",))
    found = "0.3061 against 0.2061: +0.1000 [+0.1000, +0.1000], p = 0.0001, 400 users"
    required = "ndcg@10 higher, paired test p at most 0.05"
    assert row == ("better than popularity", required, found, True)
    assert failed(contender(everyone=-0.1), champion=None) == ["better"]
    slow = ServingCost(1, 1e6)
    assert failed(contender(everyone=-0.2), champion=None, cost=slow) == ["better", "latency"]


def test_a_run_that_was_not_judged_on_test_is_refused():
    unjudged = without_values(CHAMPION)
    for champion in (None, CHAMPION):
        (row,) = judge(unjudged, champion, CHEAP, SETTINGS).failed
        told = ("judged on test", "has test users", "it was judged on no user")
        assert dataclasses.astuple(row) == ("evaluated", *told, False)


@pytest.mark.parametrize(
    ("absent", "metric", "said"),
    [
        ([], "ndcg@7", r"\(ndcg@10\), got 'ndcg@7'"),
        (["popularity_ndcg@10"], "ndcg@10", "got 'ndcg@10'"),
    ],
)
def test_a_metric_that_run_or_popularity_does_not_hold_is_an_error(absent, metric, said):
    candidate = contender()
    fewer = dataclasses.replace(candidate, per_user=candidate.per_user.drop(columns=absent))
    settings = dataclasses.replace(SETTINGS, metric=metric)
    with pytest.raises(ConfigError, match=said):
        judge(fewer, CHAMPION, CHEAP, settings)


def test_lists_of_the_whole_catalogue_cannot_be_held_against_ranks_among_new_items():
    new = {f"{name}new_ndcg@10": 0.5 for name in ("", "popularity_")}
    settings = dataclasses.replace(SETTINGS, metric="new_ndcg@10")
    candidate, asked = changed(contender(), **new), dataclasses.replace(CHAMPION, asked="older")
    for champion, others in ((asked, []), (None, [contender(name="ALS")])):
        name = others[0].name if others else champion.name
        with pytest.raises(ConfigError, match=f"with {name}, .* got 'new_ndcg@10'"):
            judge(candidate, champion, CHEAP, settings, others)


def test_where_no_metric_is_given_all_are_held_to_the_champions():
    """Else two runs, each better by the metric it was trained by, would take turns."""
    new = {f"{name}new_ndcg@10": 0.5 for name in ("", "popularity_")}
    by_new, by_all = (
        dataclasses.replace(changed(contender(), **new), monitor=monitor)
        for monitor in ("new_ndcg@10", "ndcg@10")
    )
    asked = dataclasses.replace(CHAMPION, monitor="new_ndcg@10", asked="older")
    lists = contender(name="ALS")
    for candidate, champion, others, wanted in (
        (by_all, by_new, [], "new_ndcg@10"),
        (by_new, by_all, [], "ndcg@10"),
        (by_new, None, [], "new_ndcg@10"),
        (by_new, asked, [], "ndcg@10"),  # which gave lists of the whole catalogue
        (by_new, by_new, [lists], "ndcg@10"),
        (by_new, changed(by_new, **{"tail_items_new_ndcg@10": 0.5}), [], "new_ndcg@10"),  # older
    ):
        rows = judge(candidate, champion, CHEAP, SETTINGS, others).criteria
        # no new item is of the head: what is found outside it would say the same again
        has_tail = any(row.key == "tail_items" for row in rows)
        assert has_tail == (wanted == "ndcg@10" and champion is not None)
        required = [row.required for row in rows if row.key.startswith("better")]
        assert required and all(text.startswith(f"{wanted} higher") for text in required)


def test_the_first_candidate_on_new_items_is_held_against_what_knows_their_content():
    new = {"new_ndcg@10": 0.5, "popularity_new_ndcg@10": 0.1, "content_knn_new_ndcg@10": 0.6}
    candidate = dataclasses.replace(changed(contender(), **new), monitor="new_ndcg@10")
    (better, *_) = judge(candidate, None, CHEAP, SETTINGS).criteria
    assert (better.name, better.passed) == ("better than content_knn", False)


def test_the_same_values_give_the_same_verdict():
    candidate = contender(noise=0.1)
    first, second = (judge(candidate, CHAMPION, CHEAP, SETTINGS) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("name", "wrong", "must"),
    [
        ("alpha", (0.0, 0.5, float("nan")), "above 0 and below 0.5"),
        ("margin", (-0.1, 1.5), "from 0 to 1, a share of the champion's value"),
        ("max_bytes", (0,), "above 0"),
        ("max_p95_ms", (0.0, float("nan")), "above 0 milliseconds"),
        ("max_latency_ratio", (0.0, float("nan")), "above 0"),
    ],
)
def test_settings_outside_their_bounds_are_refused(name, wrong, must):
    for value in wrong:
        with pytest.raises(ConfigError) as refused:
            GateSettings(**{name: value})
        assert str(refused.value) == f"'{name}' must be {must}, got {value}"


def test_settings_at_their_bounds_are_taken():
    for margin in (0.0, 1.0):
        GateSettings(margin=margin, max_bytes=1, max_p95_ms=0.5, max_latency_ratio=0.5)


def test_what_must_hold_and_what_was_found_is_said_in_numbers():
    better = ("ndcg@10 higher, paired test p at most 0.05", "p = 0.0001, 400 users")
    found = "0.2886 against 0.3061: -0.0175 [-0.0203, -0.0147]"
    cold = "0.2397 against 0.3097: -0.0700, at least -0.0700, 100 users"
    tail = "0.1089 against 0.1089: +0.0000, at least +0.0000, 200 users"
    lost = "loses at most 20% of ndcg@10"
    slow = "95% within 126 ms, 1.26 times the champion's in turn"
    verdict = judge(contender(cold=-0.07), CHAMPION, ServingCost(3 * 2**40, 126.0, 100.0), SETTINGS)
    assert [dataclasses.astuple(row) for row in verdict.criteria] == [
        ("same_data", "same data as the champion", "fingerprint sha256:aa", "sha256:aa", True),
        ("same_users", "same test users as the champion", "its 400 users", "the same", True),
        ("better", "better than version 1", better[0], f"{found}, {better[1]}", False),
        ("cold_users", "cold users kept", f"{lost} (0.0619), at level 0.05", cold, False),
        (
            "tail_items",
            "items outside the head kept",
            f"{lost} (0.0218), at level 0.05",
            tail,
            True,
        ),
        ("bytes", "size of the bundle", "at most 2.0 GiB", "3.0 TiB", False),
        (
            "latency",
            "time to answer one user",
            "95% within 100 ms, or 1.25 times the champion's",
            slow,
            False,
        ),
    ]
    assert verdict.table.columns == ("criterion", "must hold", "found", "result")
    results = ("passed", "passed", "failed", "failed", "passed", "failed", "failed")
    assert verdict.table.rows == tuple(
        (*dataclasses.astuple(row)[1:4], result)
        for row, result in zip(verdict.criteria, results, strict=True)
    )


@pytest.mark.parametrize(
    ("candidate", "champion", "row"),
    [
        (
            contender(everyone=0.01),
            without_values(CHAMPION, missing="its run is gone"),
            ("users", "its users, each with values", f"its run is gone; {NOT}"),
        ),
        (
            contender(everyone=0.01),
            without_values(CHAMPION),
            ("users", "its users, each with values", f"its values per user are not there; {NOT}"),
        ),
        (
            contender(everyone=0.01),
            dataclasses.replace(CHAMPION, per_user=CHAMPION.per_user.iloc[1:]),
            ("users", "its 399 users", f"399 of them and 1 others; {NOT}"),
        ),
        (  # else a candidate whose settings call nobody cold would have nothing to protect
            changed(contender(everyone=0.03, cold=-0.1), segment="head"),
            CHAMPION,
            ("measures", SAME, f"segments were cut elsewhere (evaluation.segments); {NOT}"),
        ),
        (
            contender(everyone=0.01),
            dataclasses.replace(
                CHAMPION, per_user=CHAMPION.per_user.drop(columns="tail_items_ndcg@10")
            ),
            ("measures", SAME, f"version 1 holds no tail_items_ndcg@10 per user; {NOT}"),
        ),
    ],
)
def test_why_two_cannot_be_compared_is_said(candidate, champion, row):
    what, required, found = row
    name = {"users": "same test users as the champion", "measures": "same measures as the champion"}
    (failure,) = judge(candidate, champion, CHEAP, SETTINGS).failed
    assert dataclasses.astuple(failure) == (f"same_{what}", name[what], required, found, False)


def test_a_champion_of_other_data_is_asked_and_other_tools_are_beaten_too():
    asked = dataclasses.replace(CHAMPION, fingerprint="sha256:bb", asked="older", n_left_out=1200)
    groups = {f"{group}_ndcg@10": 0.5 for group in ("known", "new_users", "new_items")}
    asked, candidate = changed(asked, **groups), changed(contender(everyone=0.01), **groups)
    other = contender(name="ALS", everyone=0.02)
    verdict = judge(candidate, asked, CHEAP, SETTINGS, others=[other])
    keys = ["same_test", "no_leak", "better", "cold_users", "tail_items", "known", "new_users"]
    keys += ["new_items", "better_than_ALS", "bytes", "latency"]
    assert [row.key for row in verdict.criteria] == keys
    assert [row.name for row in verdict.failed] == ["better than ALS"]
    told = [dataclasses.astuple(row)[1:] for row in verdict.criteria]
    assert told[:2] == [
        (
            "judged on the candidate's test users",
            "lists of both for the same users",
            "older",
            True,
        ),
        (
            "test items the champion was not trained on",
            "users left to judge by",
            "400 users; 1,200 left out, whose test items it was trained on",
            True,
        ),
    ]
    assert [name for name, *_ in told[5:8]] == [
        "users and items the champion knows kept",
        "users new to the champion kept",
        "items new to the champion kept",
    ]


@pytest.mark.parametrize(("n_left", "wanted"), [(0, ["no_leak"]), (1, ["better"])])
def test_a_champion_of_other_data_must_have_a_user_left_to_judge_by(n_left, wanted):
    asked = dataclasses.replace(CHAMPION, asked="older", per_user=CHAMPION.per_user.iloc[:n_left])
    candidate = contender(everyone=0.01)
    candidate = dataclasses.replace(candidate, per_user=candidate.per_user.iloc[:1])
    assert failed(candidate, asked) == wanted


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_536 * 2**10, "1.5 MiB"),
        (2**30, "1.0 GiB"),
        (2**50, "1,024.0 TiB"),
    ],
)
def test_a_size_is_shown_in_the_largest_unit_it_fills(n_bytes, shown):
    settings = dataclasses.replace(SETTINGS, max_bytes=2**60)
    rows = said(contender(), None, ServingCost(n_bytes, 1.0), settings, keys=("bytes",))
    assert rows == [("size of the bundle", "at most 1,048,576.0 TiB", shown, True)]
