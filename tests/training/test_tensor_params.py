"""Hyperparameters in tensors are the hyperparameters: a method cannot tell them from numbers by its results."""

import dataclasses

import pytest
import torch

from kdbench.methods import BUILTIN, METHODS
from kdbench.methods.common import first_phase
from kdbench.methods.networks import Average, Trained
from kdbench.methods.types import Shapes
from kdbench.training.cuda_graphs.tensor_params import in_tensors, shaping

CPU = torch.device("cpu")
LAYERS = {f"stage{n}": (8, 16 >> n, 16 >> n) for n in (1, 2, 3)}
LAYERS |= {f"stage{n}_pre": LAYERS[f"stage{n}"] for n in (1, 2, 3)} | {"embedding": (8,)}
ROLES = ("student", "teacher", "peer1", "teacher1", "teacher2", "teacher3", "previous")
SHAPES = Shapes(10, 100, dict.fromkeys(ROLES, LAYERS))


@pytest.mark.parametrize("key", sorted(BUILTIN))
def test_weights_are_the_same_to_the_last_bit_of_a_float(key):
    method = METHODS[key]()
    reading, tensors = in_tensors(method, SHAPES, CPU)
    assert set(tensors) <= set(method.searched())
    assert method == METHODS[key]()
    for name, weight in reading.loss_weights().items():
        told = torch.as_tensor(weight, dtype=torch.float32)
        assert told == torch.tensor(method.loss_weights()[name], dtype=torch.float32), name


def test_a_tensor_turns_the_knob():
    reading, tensors = in_tensors(METHODS["kd"](), SHAPES, CPU)
    tensors["alpha"].fill_(0.25)
    tensors["temperature"].fill_(2.0)
    assert {k: float(v) for k, v in reading.loss_weights().items()} == {"task": 0.75, "soft": 1.0}


def test_what_shapes_a_run_stays_a_number():
    @dataclasses.dataclass(frozen=True)
    class Averaged(METHODS["kd"]):
        def networks(self):
            return {"student": Trained(), "mean": Average(decay=self.alpha)}

    assert shaping(Averaged(), SHAPES) == {"alpha"}
    reading, tensors = in_tensors(Averaged(), SHAPES, CPU)
    assert list(tensors) == ["temperature"]
    assert reading.networks()["mean"] == Average(decay=0.9)


@dataclasses.dataclass(frozen=True)
class Squares(METHODS["kd"]):
    """Keeps a value made of a hyperparameter."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "square", self.temperature**2)


@dataclasses.dataclass(frozen=True)
class Held(METHODS["kd"]):
    """Its helper looks at its hyperparameters later."""

    def helpers(self, shapes):
        module = torch.nn.Identity()
        module.method = self
        return torch.nn.ModuleDict({"late": module})


@dataclasses.dataclass(frozen=True)
class Once(METHODS["kd"]):
    """Cannot be derived from, so its reads cannot be watched."""

    def __init_subclass__(cls):
        raise TypeError("no subclasses")


@pytest.mark.parametrize("kind", [Squares, Held, Once])
def test_all_knobs_stay_numbers_where_reads_cannot_be_told(kind):
    reading, tensors = in_tensors(kind(), SHAPES, CPU)
    assert tensors == {}
    assert reading == kind()


def test_asking_what_shapes_a_run_moves_no_random_stream():
    before = torch.random.get_rng_state()
    shaping(METHODS["hint"](), SHAPES)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("share", [n / 20 for n in range(1, 20)])
def test_a_phase_ends_at_the_same_step(share):
    """Also where a share has more digits than a float: 0.7 is rounded down, 0.3 up."""
    for step in (share, torch.tensor(share, dtype=torch.float64)):
        ends = [
            first_phase(step, end, torch.zeros(1))
            for end in (share, torch.tensor(share, dtype=torch.float64))
        ]
        assert ends == [0, 0]
