"""What is recorded of the machine beside every result."""

from collections.abc import Iterator

import pynvml
import pytest

from kdbench.records import provenance
from kdbench.records.provenance import hardware, stamp


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    hardware.cache_clear()
    yield
    hardware.cache_clear()


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    names = ("NVIDIA H200", "NVIDIA A100", "NVIDIA H200")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", names.__getitem__)


@pytest.mark.usefixtures("two_gpus")
def test_a_result_of_a_gpu_names_it() -> None:
    on_cpu = hardware("cpu")
    assert "NVIDIA" not in on_cpu
    assert stamp("cuda")["hardware"] == f"{on_cpu}, NVIDIA A100, NVIDIA H200"
    assert hardware("cuda:1") == hardware("cuda")
    assert stamp("cpu")["hardware"] == provenance.provenance()["hardware"] == on_cpu


def test_a_driver_that_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert hardware("cuda") == hardware("cpu")
