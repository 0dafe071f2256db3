"""Waiting for what other threads and processes do."""

import time


def wait_until(is_so, seconds=60, *, process=None, said=None):
    """Wait until something is so, and give it; fails where that takes too long.

    Args:
        is_so: asked again and again.
        seconds: that it may take.
        process: that must not end meanwhile.
        said: gives what is shown where it fails.
    """
    deadline = time.monotonic() + seconds
    while not (found := is_so()):
        ended = process is not None and process.poll() is not None
        assert not ended and time.monotonic() < deadline, said() if said else process
        time.sleep(0.02)
    return found
