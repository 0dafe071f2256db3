import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from recsys.workers import Workers, worker_pool, workers


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_nobody_shares_out_a_step_while_workers_share_out_blocks(three_threads):
    with worker_pool() as pool:
        assert torch.get_num_threads() == 1
        assert list(pool.map(lambda _: torch.get_num_threads(), range(3))) == [1, 1, 1]


def test_the_number_of_threads_is_put_back_also_after_an_error(three_threads):
    with pytest.raises(ZeroDivisionError), worker_pool() as pool:
        pool.submit(lambda: 1 / 0).result()
    assert torch.get_num_threads() == 3


def test_jobs_give_their_results_in_order_and_the_caller_works_too():
    with ThreadPoolExecutor(1) as pool:
        started = threading.Event()
        caller, busy = threading.get_ident(), []

        def wait():
            busy.append(threading.get_ident())
            assert started.wait(30)
            return "waited"

        def last():
            started.set()
            return threading.get_ident()

        first, *results = Workers(pool, 2).run_all([threading.get_ident, wait, last])
    # The pool's one thread waits for the last job, which nobody but the caller can do.
    assert (first, results) == (caller, ["waited", caller])
    assert busy != [caller]


def test_an_error_in_any_job_reaches_the_caller():
    with ThreadPoolExecutor(1) as pool:
        for place in range(4):
            jobs = [lambda: 1] * 4
            jobs[place] = lambda: 1 / 0
            with pytest.raises(ZeroDivisionError):
                Workers(pool, 2).run_all(jobs)


def test_the_calling_thread_is_one_of_the_workers(three_threads):
    with workers() as team:
        assert team.n == 3
        assert team._pool._max_workers == 2
