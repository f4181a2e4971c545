"""A small pair for scikit-learn's 8x8 digits, on which a training takes about a second.

The architectures are kdbench's own: the teacher is deeper and has batch normalisation;
both have 16 and 32 channels in stages of equal height and width, so every method, FSP
included, can be used with the pair. Weights start as in PyTorch's layers.
"""

from typing import ClassVar

from torch import Tensor, nn


class _Digits(nn.Module):
    #: Both stages keep height and width, with pooling between and after them, so the
    #: feature maps of 8x8 images still have 8x8 and 4x4 positions.
    nodes: ClassVar[dict[str, str]] = {
        "stage1_pre": "stage1.pre",
        "stage1": "stage1.relu",
        "stage2_pre": "stage2.pre",
        "stage2": "stage2.relu",
        "embedding": "flatten",
        "logits": "classifier",
    }

    def __init__(self, stage1: nn.Module, stage2: nn.Module, width: int, classes: int):
        super().__init__()
        self.stage1 = stage1
        self.pool1 = nn.MaxPool2d(2)
        self.stage2 = stage2
        self.pool2 = nn.MaxPool2d(2)
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool1(self.stage1(images))
        return self.classifier(self.pool2(self.stage2(x)).flatten(1))


class _Stage(nn.Module):
    """`first`, then `pre`, whose output is the layer before the ReLU, then the ReLU."""

    def __init__(self, first: nn.Module, pre: nn.Module):
        super().__init__()
        self.first = first
        self.pre = pre
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.pre(self.first(x)))


def _width(image_shape: tuple[int, int, int]) -> int:
    return 32 * (image_shape[1] // 4) * (image_shape[2] // 4)


class DigitsCNN(_Digits):
    """The teacher: per stage `depth` 3x3 convolutions with batch normalisation and ReLU.

    `stageN` is after the stage's last ReLU, `stageN_pre` before it; `embedding` is the
    flattened output of the second pooling (128 for 1x8x8 images).
    """

    norms: ClassVar[dict[str, str]] = {"stage1_pre": "stage1.pre.1", "stage2_pre": "stage2.pre.1"}

    def __init__(self, image_shape: tuple[int, int, int], classes: int, depth: int = 3):
        def stage(inputs: int, outputs: int) -> _Stage:
            def layers(source: int) -> list[nn.Module]:
                return [
                    nn.Conv2d(source, outputs, 3, padding=1, bias=False),
                    nn.BatchNorm2d(outputs),
                ]

            sources = [inputs] + [outputs] * (depth - 1)
            first = [part for source in sources[:-1] for part in (*layers(source), nn.ReLU())]
            return _Stage(nn.Sequential(*first), nn.Sequential(*layers(sources[-1])))

        width = _width(image_shape)
        super().__init__(stage(image_shape[0], 16), stage(16, 32), width, classes)


class DigitsCNNSmall(_Digits):
    """The student: per stage one 3x3 convolution and ReLU, no normalisation.

    Layers and their shapes as in `DigitsCNN`.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        def stage(inputs: int, outputs: int) -> _Stage:
            return _Stage(nn.Identity(), nn.Conv2d(inputs, outputs, 3, padding=1))

        width = _width(image_shape)
        super().__init__(stage(image_shape[0], 16), stage(16, 32), width, classes)
