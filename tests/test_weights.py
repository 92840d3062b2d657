"""What a round's weights go back to."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lightning_al import weights
from lightning_al.exceptions import ResumeError, RunFolderError
from lightning_al.weights import InitialWeights, check_can_randomize, random_weights


def state(value: float = 1.0) -> dict[str, Tensor]:
    return {"weight": torch.full((2, 3), value), "bias": torch.arange(3)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# -- the initial ones
def test_in_memory_they_are_a_copy() -> None:
    initial, now = InitialWeights(None), state()
    initial.save(now, "run", write=True)
    now["weight"] += 1
    assert same(initial.load("run"), state())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "initial-weights.ckpt"


def test_in_a_file_another_instance_finds_them(path: Path) -> None:
    InitialWeights(path).save(state(), "run", write=True)
    assert same(InitialWeights(path).load("run"), state())
    assert os.listdir(path.parent) == [path.name]


def test_only_the_writer_writes(path: Path) -> None:
    InitialWeights(path).save(state(), "run", write=False)
    assert not path.exists()


def test_a_missing_file_says_what_to_do(path: Path) -> None:
    with pytest.raises(ResumeError, match=r"initial-weights.ckpt, which is not there.*reset='keep'"):
        InitialWeights(path).load("run")


def test_another_runs_file_is_refused(path: Path) -> None:
    InitialWeights(path).save(state(), "one", write=True)
    with pytest.raises(ResumeError, match="holds another run's weights: set `dirpath`"):
        InitialWeights(path).load("other")


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "other content", "object"])
def test_a_damaged_file_is_named(path: Path, damage: str) -> None:
    InitialWeights(path).save(state(), "run", write=True)
    content = path.read_bytes()
    if damage == "other content":
        torch.save([1, 2], path)
    elif damage == "object":
        torch.save({"run_id": "run", "state_dict": nn.Linear(2, 2)}, path)
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "garbage": b"x" * 500, "empty": b""}[damage])
    with pytest.raises(ResumeError, match=r"initial-weights.ckpt is not as it was written.*Restore it from a copy"):
        InitialWeights(path).load("run")


def test_on_a_full_disk_the_old_file_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    InitialWeights(path).save(state(1.0), "one", write=True)

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights.torch, "save", full)
    with pytest.raises(RunFolderError, match=r"cannot be written to .*No space left.*Free some space"):
        InitialWeights(path).save(state(2.0), "two", write=True)
    assert same(InitialWeights(path).load("one"), state(1.0))
    assert os.listdir(path.parent) == [path.name]


# -- new ones
class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)


def test_reset_parameters_of_every_layer_and_the_model_is_as_before() -> None:
    torch.manual_seed(0)
    model = Net()
    model.body[1].running_mean += 5
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rng = torch.get_rng_state()
    drawn = random_weights(model, None, seed=3)
    assert same(model.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), rng)
    assert same(drawn, random_weights(model, None, seed=3))
    other = random_weights(model, None, seed=4)
    for name in ("body.0.weight", "body.0.bias", "head.weight", "head.bias"):
        assert not torch.equal(drawn[name], before[name])
        assert not torch.equal(drawn[name], other[name])
    assert drawn["body.1.running_mean"].tolist() == [0.0] * 4  # statistics start anew too
    torch.manual_seed(3)
    expected = nn.Linear(3, 4)
    assert torch.equal(drawn["body.0.weight"], expected.weight)


def test_a_factory_makes_the_model_under_the_seed() -> None:
    model = Net()
    drawn = random_weights(model, Net, seed=3)
    torch.manual_seed(3)
    assert same(drawn, Net().state_dict())


class Failing(nn.Linear):
    def reset_parameters(self) -> None:
        if hasattr(self, "ready"):
            raise ZeroDivisionError
        super().reset_parameters()
        self.ready = True


def test_a_failing_reset_leaves_the_model_as_before() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Failing(2, 2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ZeroDivisionError):
        random_weights(model, None, seed=0)
    assert same(model.state_dict(), before)


class Token(nn.Module):
    """Owns a parameter and cannot draw it anew, as many a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(3))
        self.linear = nn.Linear(3, 3)


def test_modules_that_cannot_be_reset_are_named() -> None:
    check_can_randomize(Net())
    with pytest.raises(MisconfigurationException, match=r"for 1 \(Token\): no `reset_parameters` there.*model_factory"):
        check_can_randomize(nn.Sequential(nn.Linear(2, 2), Token()))
    with pytest.raises(MisconfigurationException, match=r"the model itself \(Token\)"):
        check_can_randomize(Token())
