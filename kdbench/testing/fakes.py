"""Random outputs of small networks that do not exist, for methods to compute losses on."""

from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from kdbench.methods.base import Method
from kdbench.methods.networks import RoleModels
from kdbench.methods.types import Batch, Examples, Progress, Shapes
from kdbench.models.output import Output

#: Batch size, classes, and the shape of an image.
B, C, IMAGE = 8, 5, (3, 8, 8)
STUDENT = {"stage1": (4, 8, 8), "stage2": (6, 4, 4), "embedding": (24,)}
SAME = "same sizes"
#: Teachers by what sets them apart from the student.
TEACHERS = {
    SAME: {"stage1": (4, 8, 8), "stage2": (6, 4, 4), "embedding": (24,)},
    "wider, larger, deeper": {
        "stage1": (8, 16, 16),
        "stage2": (10, 8, 8),
        "stage3": (16, 4, 4),
        "embedding": (16,),
    },
    "narrower, smaller": {"stage1": (3, 4, 4), "stage2": (5, 3, 3), "embedding": (5,)},
}

START = Progress(epoch=0.0, epoch_end=0.1, step=0.0)
MIDDLE = Progress(epoch=0.5, epoch_end=0.6, step=0.55)
END = Progress(epoch=0.9, epoch_end=1.0, step=0.999)


def with_pre(layers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The layers, and those before the activations."""
    return layers | {f"{name}_pre": size for name, size in layers.items() if "stage" in name}


def shapes(
    method: Method, teacher: str = SAME, student: dict[str, tuple[int, ...]] | None = None
) -> Shapes:
    """The layers that the method asked for, of every network of its run."""
    student = STUDENT if student is None else student
    models = {"student": student, "assistant": student, "teacher": TEACHERS[teacher]}
    role_models = RoleModels(method.networks(), lambda slot: slot, lambda _, run: run.model)
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    parameters: dict[str, dict[str, tuple[int, ...]]] = {}
    for role in method.networks():
        model = models[role_models.of_role(role)]
        layers[role] = {
            name: size
            for name, size in with_pre(model).items()
            if any(fnmatchcase(name, pattern) for pattern in method.layers())
        }
        classifier = (C, *model.get("embedding", (1,)))
        parameters[role] = {"classifier.weight": classifier, "classifier.bias": (C,)}
        for name, size in model.items():
            if "stage" in name:
                parameters[role] |= {f"{name}_pre.{p}": size[:1] for p in ("weight", "bias")}
    return Shapes(classes=C, examples=100, features=layers, parameters=parameters)


def outputs(
    method: Method,
    sizes: Shapes,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    alike: bool = False,
) -> dict[str, Output]:
    """An output by role, its tensors leaves that take a gradient; every network is sure of the
    first example."""
    by_role = {}
    for number, role in enumerate(method.networks()):
        g = torch.Generator().manual_seed(seed + (0 if alike else 100 * number))

        def draw(*size: int, g: torch.Generator = g) -> Tensor:
            return torch.randn(B, *size, generator=g, dtype=dtype).requires_grad_()

        logits = draw(C)
        # Terms of sure answers alone have some to count.
        logits.data[0] *= 10
        layers = {name: draw(*size) for name, size in sorted(sizes.features[role].items())}
        parameters = {
            name: torch.randn(*size, generator=g, dtype=dtype).requires_grad_()
            for name, size in sorted(sizes.parameters[role].items())
        }
        gradient = None if method.image_score() is None else draw(*IMAGE)
        by_role[role] = Output(logits, layers, parameters, gradient)
    return by_role


def batch(seed: int = 0, device: str = "cpu") -> Batch:
    """A random batch of colour images, shown for the second time in a row."""
    g = torch.Generator().manual_seed(seed)
    images = torch.randn(B, *IMAGE, generator=g).to(device)
    labels = torch.randint(0, C, (B,), generator=g).to(device)
    position = torch.arange(B).to(device)
    return Batch(images, labels, position, g, previous=Examples(labels, position))


def helpers(method: Method, sizes: Shapes, seed: int = 0) -> nn.ModuleDict:
    """The method's helper modules with the first weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return method.helpers(sizes)


def trained(method: Method) -> list[str]:
    """The roles that a gradient reaches."""
    return [role for role, source in method.networks().items() if source.gradient]
