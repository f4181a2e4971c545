"""The conformance tests, for methods, models and data sets of other packages.

A test of a plug-in is one line, with pytest or without:

    def test_pkt():
        kdbench.testing.check_method("pkt")

Each function raises one `AssertionError` that lists everything that is wrong. kdbench's own
methods, models and data sets pass the same checks.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdbench.methods.base import Method

__all__ = ["check_data", "check_method", "check_model"]


def check_method(method: "str | type[Method]") -> None:
    """Check a method, by its key in the registry or by its class.

    Its declaration: a frozen dataclass, a docstring with formula and symbols, hyperparameters
    with limits and help, a paper. Its loss on random outputs of teachers of three sizes: finite
    scalar terms, gradients for what is trained and for nothing else, no side effects, nothing
    that a CUDA graph could not capture. And short runs on 130 digits: what is trained moves,
    what is frozen stays, the run is the same beside others and after a stop. The runs take a few
    seconds on the CPU and leave no files.

    Raises `AssertionError`, and `UnknownName` for a key that is not registered.
    """
    from kdbench.testing import losses, methods, report, training

    with methods.registered(method) as key:
        checks = {**methods.declaration_checks(key), **losses.loss_checks(key)}
        with training.temporary_world() as world:
            report.run_checks(f"method {key}", checks)
            report.run_checks(f"method {key}", training.training_checks(world, key))


def check_model(
    name: str, image_shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10
) -> None:
    """Check a model of the registry for images of `image_shape` (channels x height x width).

    Its layers exist and have the shapes that they are said to have, asking for layers changes
    neither logits nor gradients, first weights depend on torch's seed alone, evaluation mode has
    no randomness, and no layer works in place.

    Raises `AssertionError`, and `UnknownName` for a name that is not registered.
    """
    from kdbench.testing import models, report

    report.run_checks(f"model {name}", models.model_checks(name, image_shape, classes))


def check_data(name: str, folder: Path | str | None = None) -> None:
    """Check a data set of the registry whose files lie in `folder` (default: as in a study).

    Both parts can be read, twice with the same result, have images of one shape, and every class
    in the training part; normalised images have mean 0 and deviation 1 per channel.

    Raises `AssertionError`, `DataError` where the files are missing or damaged, and
    `UnknownName` for a name that is not registered.
    """
    from kdbench.testing import data, report

    report.run_checks(f"data set {name}", data.data_checks(name, folder))
