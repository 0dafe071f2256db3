"""A tracking server that goes away in the middle of a training, and comes back."""

import time

import pytest

from tracking.mirror import mirror
from tracking.store import connect
from tracking.tracker import open_run


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_of_a_run_gets_all_of_it_later(
    run_dir, store, tmp_path, epochs, finish, bundle, contents, caplog, free_port, tracking_server
):
    port = free_port()
    with tracking_server(store, tmp_path, port) as uri:
        tracked = open_run(run_dir, uri)
        tracked.log_epoch(epochs[0])
        assert tracked.is_live
    begun = time.monotonic()
    tracked.log_epoch(epochs[1])
    tracked.log_epoch(epochs[2])
    finish(run_dir)
    bundle.save(run_dir / "model")
    assert tracked.close() is None
    assert time.monotonic() - begun < 30
    assert "bookends track" in caplog.text
    with tracking_server(store, tmp_path, port) as uri:
        sent = mirror(run_dir)
        assert sent.run_id == tracked.run_id
        client = connect(uri)
        before = contents(client, sent.run_id)
        assert mirror(run_dir) == sent
        assert contents(client, sent.run_id) == before
    assert [step for step, *_ in before["points"]["train/loss"]] == [1, 2, 3]
    assert before["points"]["test/novelty_at_10"][0][2] == "nan"
    assert before["status"] == "FINISHED"
    assert before["tags"]["bookends.status"] == "finished"
    assert len(before["files"]) == 11
    assert before["models"] == [sent.model_id]
