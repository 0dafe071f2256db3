import threading

import pytest
import torch

from recsys.workers import worker_map


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_nobody_shares_out_a_step_while_workers_share_out_blocks(three_threads):
    with worker_map() as run:
        assert torch.get_num_threads() == 1
        assert list(run(lambda _: torch.get_num_threads(), range(3))) == [1, 1, 1]


def test_the_number_of_threads_is_put_back_also_after_an_error(three_threads):
    with pytest.raises(ZeroDivisionError), worker_map() as run:
        list(run(lambda _: 1 / 0, range(1)))
    assert torch.get_num_threads() == 3


def test_one_thread_works_without_a_pool():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with worker_map() as run:
        threads = list(run(lambda _: threading.current_thread(), range(2)))
    torch.set_num_threads(before)
    assert threads == [threading.main_thread()] * 2
