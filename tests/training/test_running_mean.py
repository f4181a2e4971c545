"""The running mean that methods ask for: PyTorch's own, and such that a CUDA graph can hold it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from kdbench.training.running_mean import RunningMean


def network(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, **options), nn.BatchNorm2d(4, **options))


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.97, 0.999])
def test_it_is_the_mean_of_pytorch(decay: float) -> None:
    torch.manual_seed(0)
    student = network()
    mean = RunningMean(student, decay)
    expected = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(4):
        for parameter in student.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        student(torch.randn(8, 3, 5, 5))
        mean.update_parameters(student)
        expected.update_parameters(student)
        for name, value in expected.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                assert torch.equal(mean.state_dict()[name], value), name
    (count,) = (v for k, v in mean.state_dict().items() if k.endswith("num_batches_tracked"))
    assert count == 4


def test_it_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    student = network()
    mean = RunningMean(student, 0.9)
    mean.update_parameters(student)
    other = RunningMean(network(), 0.9)
    other.load_state_dict(copy.deepcopy(mean.state_dict()))
    for parameter in student.parameters():
        parameter.data.mul_(2)
    for each in (mean, other):
        each.update_parameters(student)
    for name, value in mean.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


class OneMode(FakeTensorMode):
    """The mode of a network without values and of its copies."""

    def __deepcopy__(self, memo: object) -> "OneMode":
        return self


class Waits(Exception):
    """The host waits for the GPU."""


class NoWaiting(TorchDispatchMode):
    """Raises for what makes the host and the GPU wait for each other."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        devices = sorted({t.device.type for t in (*args, out) if isinstance(t, torch.Tensor)})
        reads = func is torch.ops.aten._local_scalar_dense.default
        if len(devices) > 1 or (reads and devices == ["cuda"]):
            raise Waits(f"{func} on {', '.join(devices)}")
        return out


def test_an_update_on_a_gpu_waits_for_nothing() -> None:
    """On tensors that have a device but no values, so that no GPU is needed."""
    with OneMode():
        student = network(device="cuda")
        mean = RunningMean(student, 0.9)
        theirs = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        with NoWaiting():
            for _ in range(2):
                mean.update_parameters(student)
            theirs.update_parameters(student)
            with pytest.raises(Waits, match=r"aten\._to_copy\.default on cpu, cuda"):
                theirs.update_parameters(student)
