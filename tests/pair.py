"""Two processes that train together, forked once for many trainings."""

import pickle
from dataclasses import asdict
from functools import cache
from itertools import islice

import torch

from recsys.config import Config, DataConfig
from recsys.data.dataset import prepare_cached
from recsys.pipeline import build_trainer
from recsys.training.checkpoint import load_checkpoint, save_checkpoint
from recsys.training.processes import ALONE, joined
from tests.forked import FORKS


@cache
def _prepared(data):
    return prepare_cached(DataConfig.model_validate_json(data), 0)


def train(config, processes=ALONE, *, checkpoint=None, most=None, checkpoint_to=None):
    """A training: its stream, its weights at the end, and why it ended.

    Args:
        config: settings.
        processes: that train together.
        checkpoint: state to go on with.
        most: epochs after which the stream is left.
        checkpoint_to: where the state at the end goes.
    """
    trainer = build_trainer(config, _prepared(config.data.model_dump_json()), processes)
    if checkpoint is not None:
        trainer.load_state_dict(load_checkpoint(checkpoint))
    stream = trainer.epochs()
    for _ in islice(stream, most):
        pass
    stream.close()
    if checkpoint_to is not None:
        save_checkpoint(checkpoint_to, trainer.state_dict())
    history = [asdict(result) for result in trainer.history]
    return {
        "history": history,
        "weights": {name: value.clone() for name, value in trainer.model.state_dict().items()},
        "random": (trainer._rng.bit_generator.state, trainer._torch_state.numpy().tobytes()),
        "stop_reason": trainer.stop_reason,
    }


def _work(rank, address, jobs, results):
    torch.set_num_threads(1)
    with joined(rank, 2, address, torch.device("cpu"), local_size=2) as processes:
        done = {}
        for name, (config, options) in jobs.items():
            mine = options | options.get(rank, {})
            mine = {key: value for key, value in mine.items() if isinstance(key, str)}
            done[name] = train(Config.model_validate(config), processes, **mine)
    results[rank].write_bytes(pickle.dumps(done))


def train_pair(jobs, directory):
    """What each of two processes gives of each training, by name.

    Args:
        jobs: by name the configuration as JSON, and options of :func:`train`; those under a rank
            are for that process alone.
        directory: to meet in.
    """
    results = [directory / f"{rank}.pickle" for rank in range(2)]
    given = [(rank, f"file://{directory}/meeting", jobs, results) for rank in range(2)]
    pair = [FORKS.Process(target=_work, args=each) for each in given]
    for process in pair:
        process.start()
    for process in pair:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in pair] == [0, 0]
    return [pickle.loads(each.read_bytes()) for each in results]
