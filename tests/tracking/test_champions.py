"""Who was champion when, and whom a rollback goes to."""

import pytest

from recsys.errors import TrackingError
from tracking.champions import Move, moves_in, rollback_target, succession

ALL = range(1, 100)


def moves(*steps):
    """Moves from steps such as "gate 1" or "rollback 2", in this order."""
    made, previous = [], None
    for number, step in enumerate(steps, start=1):
        way, version = step.split()
        made.append(Move(number, int(version), previous, way, "2026-01-01", "me@here", ""))
        previous = int(version)
    return made


def roll_back(made, current, existing=ALL, to=None):
    """The moves and the champion after a rollback."""
    version = rollback_target(made, current, existing, to)
    done = Move(len(made) + 1, version, current, "rollback", "2026-01-01", "me@here", "")
    return [*made, done], version


def test_moves_survive_being_kept_as_tags():
    made = moves("gate 1", "force 3", "rollback 1")
    assert moves_in(dict(move.tag for move in reversed(made)) | {"another": "tag"}) == made


def test_a_tag_that_holds_no_move_is_named():
    with pytest.raises(TrackingError, match=r"'bookends\.champion\.0001' must hold a move"):
        moves_in({"bookends.champion.0001": "{}"})


def test_more_moves_than_digits_stay_in_order():
    made = [Move(n, n, None, "gate", "2026-01-01", "me@here", "") for n in (9999, 10000, 10001)]
    assert moves_in(dict(move.tag for move in made)) == made


def test_a_rollback_after_a_rollback_and_a_promotion_goes_past_the_one_left_behind():
    """2 was left for 1, then 3 came: before 3 stood 1."""
    made, current = roll_back(moves("gate 1", "gate 2"), 2)
    made = [*made, Move(4, 3, current, "gate", "2026-01-01", "me@here", "")]
    assert rollback_target(made, 3, ALL, None) == 1


def test_a_rollback_can_go_several_champions_back_and_forward_again():
    made, current = roll_back(moves("gate 1", "gate 2", "gate 3"), 3, to=1)
    assert succession(made, current) == [1]
    made, current = roll_back(made, current, to=3)
    assert succession(made, current) == [1, 3]


TWO, THREE = ("gate 1", "gate 2"), ("gate 1", "gate 2", "gate 3")


@pytest.mark.parametrize(
    ("steps", "current", "existing", "to", "target"),
    [
        pytest.param(THREE, None, {1, 2}, None, 2, id="a deleted champion: the last that is left"),
        pytest.param(TWO, None, {1, 2}, None, 2, id="an alias that was taken away comes back"),
        pytest.param(TWO, 7, ALL, None, 2, id="an alias moved by hand is one like others"),
        pytest.param(TWO, 7, ALL, 1, 1, id="from one moved by hand to a named one"),
        # the alias is moved first: it stands at 3, the notes end with 2
        pytest.param(TWO, 3, ALL, None, 2, id="a promotion killed before it was noted"),
        # the note is written first: it says 2, the alias still stands at 3
        pytest.param((*THREE, "rollback 2"), 3, ALL, None, 2, id="a rollback killed once noted"),
    ],
)
def test_a_rollback_goes_to_the_champion_before(steps, current, existing, to, target):
    assert rollback_target(moves(*steps), current, existing, to) == target


@pytest.mark.parametrize(
    ("steps", "current", "existing", "to", "message"),
    [
        ((), None, ALL, None, "there is no champion"),
        (THREE, 3, {1, 3}, None, "version 2, must exist, but was deleted; --to 1"),
        (TWO, 2, {2}, None, "was deleted$"),
        (TWO, 2, ALL, 5, r"former champion \(1\), got 5"),
        (TWO, 2, ALL, 2, "is champion now"),
        (THREE, 3, {2, 3}, 1, "was deleted"),
    ],
)
def test_a_rollback_that_has_no_target_says_why(steps, current, existing, to, message):
    with pytest.raises(TrackingError, match=message):
        rollback_target(moves(*steps), current, existing, to)
