import pytest
import torch

from recsys.errors import ArtifactError
from recsys.training.checkpoint import load_checkpoint, save_checkpoint


def test_a_state_comes_back_as_it_was(tmp_path):
    path = tmp_path / "runs" / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.arange(3.0), "text": "ä", "none": None, "n": 1.5})
    state = load_checkpoint(path)
    assert state["weights"].tolist() == [0, 1, 2]
    assert (state["text"], state["none"], state["n"]) == ("ä", None, 1.5)


def test_a_missing_checkpoint_is_said_in_one_line(tmp_path):
    with pytest.raises(ArtifactError, match="no checkpoint here"):
        load_checkpoint(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9])
def test_a_truncated_checkpoint_is_refused(tmp_path, keep):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.arange(1000.0)})
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(ArtifactError, match="damaged"):
        load_checkpoint(path)


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_checkpoint_is_executed(tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    torch.save({"payload": Payload()}, path)
    with pytest.raises(ArtifactError, match="damaged"):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""
