import pytest
import torch

from recsys.workers import worker_pool


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
