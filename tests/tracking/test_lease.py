"""Leases on a registry."""

import dataclasses
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from recsys.errors import TrackingError
from tracking import lease as lease_module
from tracking.lease import lease
from tracking.processes import Owner
from tracking.store import connect

LEASE = "shop.lease"


def held_by_another(client, owner, token="theirs"):
    tags = {"bookends.lease.token": token} | owner.to_tags()
    client.create_registered_model(LEASE, tags=tags)


ELSEWHERE = Owner("another-machine", "boot", 1, "1")


def dead():
    return dataclasses.replace(Owner.current(), process_start="0")


def names(client):
    return [model.name for model in client.search_registered_models()]


def test_nobody_holds_the_lease_while_another_does(store):
    spans = []

    def take(_):
        with lease(connect(store), "shop"):
            begun = time.monotonic()
            time.sleep(0.05)
            spans.append((begun, time.monotonic()))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, range(6)))
    assert len(spans) == 6
    for (_, end), (begin, _) in itertools.pairwise(sorted(spans)):
        assert end < begin


def test_nothing_is_left_behind_not_even_by_an_error(client):
    with pytest.raises(RuntimeError), lease(client, "shop"):
        assert names(client) == [LEASE]
        raise RuntimeError
    assert names(client) == []


def test_another_model_has_leases_of_its_own(client):
    with lease(client, "shop"), lease(client, "library"):
        assert set(names(client)) == {LEASE, "library.lease"}


def test_a_holder_elsewhere_is_given_up_after_a_while(client, monkeypatch):
    monkeypatch.setattr(lease_module, "TTL", 0.5)
    held_by_another(client, ELSEWHERE)
    begun = time.monotonic()
    with lease(client, "shop"):
        assert time.monotonic() - begun > 0.5


@pytest.mark.parametrize("owner", [ELSEWHERE, Owner.current()])
def test_a_holder_that_may_live_is_waited_for_and_named(client, monkeypatch, owner):
    monkeypatch.setattr(lease_module, "PATIENCE", 0.3)
    held_by_another(client, owner)
    said = f"process {owner.pid} of {owner.host}"
    with pytest.raises(TrackingError, match=said), lease(client, "shop"):
        pass
    assert names(client) == [LEASE]


def test_who_comes_second_to_a_dead_lease_leaves_the_next_holder_alone(store, client):
    """Both saw the dead lease; the first broke it and holds its own when the second acts."""
    held_by_another(client, dead(), token="dead")
    with lease(client, "shop") as first:
        lease_module._break(connect(store), LEASE, "dead")
        first.check()


def test_a_lease_given_back_and_taken_anew_is_not_broken_for_the_old_ones_sake(client):
    """There is no broken lease of that token to stop the rename, so it is undone."""
    with lease(client, "shop") as held:
        lease_module._break(client, LEASE, "given back long ago")
        held.check()


def test_a_holder_whose_lease_was_taken_away_is_told_before_it_writes(client):
    with lease(client, "shop") as held:
        lease_module._break(client, LEASE, held.token)
        held_by_another(client, ELSEWHERE)
        with pytest.raises(TrackingError, match="register again"):
            held.check()
    assert LEASE in names(client)


def test_a_holder_that_took_too_long_is_told_before_it_writes(client, monkeypatch):
    with lease(client, "shop") as held:
        monkeypatch.setattr(lease_module, "TTL", 0.0)
        with pytest.raises(TrackingError, match="register again"):
            held.check()


def test_an_answer_that_was_lost_does_not_lock_its_sender_out(client):
    """The call was sent again, and the server answers that the lease is there: it is ours."""
    held_by_another(client, Owner.current(), token="ours")
    assert lease_module._take(client, LEASE, "ours").token == "ours"


def test_broken_leases_go_away_when_nobody_can_look_at_them(client, monkeypatch):
    held_by_another(client, dead(), token="dead")
    with lease(client, "shop"):
        assert sorted(names(client)) == [LEASE, f"{LEASE}.broken.dead"]
    monkeypatch.setattr(lease_module, "_KEPT_MS", -1)
    with lease(client, "shop"):
        assert names(client) == [LEASE]
