"""Who was champion when, and whom a rollback goes to."""

import pytest

from recsys.errors import TrackingError
from tracking.champions import Move, line, moves_in, rollback_target

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


def test_repeated_rollbacks_walk_back_to_the_first_champion():
    made, current = moves("gate 1", "gate 2", "gate 4"), 4
    found = []
    for _ in range(2):
        made, current = roll_back(made, current)
        found.append(current)
    assert found == [2, 1]
    with pytest.raises(TrackingError, match="version 1 is the first"):
        roll_back(made, current)


def test_a_rollback_after_a_rollback_and_a_promotion_goes_past_the_one_left_behind():
    """2 was left for 1, then 3 came: before 3 stood 1."""
    made, current = roll_back(moves("gate 1", "gate 2"), 2)
    made = [*made, Move(4, 3, current, "gate", "2026-01-01", "me@here", "")]
    assert rollback_target(made, 3, ALL, None) == 1


def test_a_rollback_can_go_several_champions_back_and_forward_again():
    made, current = roll_back(moves("gate 1", "gate 2", "gate 3"), 3, to=1)
    assert line(made, current) == [1]
    made, current = roll_back(made, current, to=3)
    assert line(made, current) == [1, 3]


def test_there_is_nothing_to_roll_back_to_without_a_champion():
    with pytest.raises(TrackingError, match="there is no champion"):
        rollback_target([], None, ALL, None)


def test_a_former_champion_that_was_deleted_is_named_with_the_one_before_it():
    with pytest.raises(TrackingError, match=r"version 2, must exist, but was deleted; --to 1"):
        rollback_target(moves("gate 1", "gate 2", "gate 3"), 3, {1, 3}, None)


def test_the_only_former_champion_being_deleted_leaves_nothing_to_name():
    with pytest.raises(TrackingError, match=r"was deleted$"):
        rollback_target(moves("gate 1", "gate 2"), 2, {2}, None)


def test_a_deleted_champion_is_followed_by_the_last_that_is_left():
    assert rollback_target(moves("gate 1", "gate 2", "gate 3"), None, {1, 2}, None) == 2


def test_an_alias_that_was_taken_away_comes_back():
    assert rollback_target(moves("gate 1", "gate 2"), None, {1, 2}, None) == 2


@pytest.mark.parametrize(
    ("to", "message"), [(5, "former champion \\(1\\), got 5"), (2, "is champion now")]
)
def test_only_another_former_champion_can_be_asked_for(to, message):
    with pytest.raises(TrackingError, match=message):
        rollback_target(moves("gate 1", "gate 2"), 2, ALL, to)


def test_a_deleted_version_cannot_be_asked_for():
    with pytest.raises(TrackingError, match="was deleted"):
        rollback_target(moves("gate 1", "gate 2", "gate 3"), 3, {2, 3}, 1)


def test_an_alias_moved_by_hand_is_a_champion_like_others():
    assert rollback_target(moves("gate 1", "gate 2"), 7, ALL, None) == 2
    assert rollback_target(moves("gate 1", "gate 2"), 7, ALL, 7 - 6) == 1


def test_a_promotion_killed_before_it_was_noted_can_be_rolled_back():
    """The alias is moved first: it stands at 3, the notes end with 2."""
    assert rollback_target(moves("gate 1", "gate 2"), 3, ALL, None) == 2


def test_a_rollback_killed_after_it_was_noted_is_done_again():
    """The note is written first: it says 2, the alias still stands at 3."""
    noted = moves("gate 1", "gate 2", "gate 3", "rollback 2")
    assert rollback_target(noted, 3, ALL, None) == 2
