"""The teacher and the student of PyTorch's knowledge distillation tutorial.

Source: https://docs.pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html
(A. Chariton, 2023). Weights start as in PyTorch's layers, as in the tutorial.
"""

from typing import ClassVar

from torch import Tensor, nn

from kdbench.registry import Paper

PAPER = Paper(
    key="chariton2023knowledge",
    authors="Chariton, Alexandros",
    title="Knowledge Distillation Tutorial",
    venue="PyTorch Tutorials",
    year=2023,
    kind="misc",
    url="https://docs.pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html",
)


class _Tutorial(nn.Module):
    def __init__(self, features: nn.Sequential, classifier: nn.Sequential):
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        # flatten, not view: it also accepts channels_last, and gives the vector the same order.
        return self.classifier(self.features(images).flatten(1))


def _head(width: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, classes)
    )


class DeepNN(_Tutorial):
    """The tutorial's teacher: 1,186,986 parameters for 3x32x32 images and 10 classes.

    Stages end after the two poolings; a stage's `_pre` is its last convolution, before
    ReLU and pooling, so at twice the height and width. `embedding` is the flattened
    convolution output, as in the tutorial's cosine part.
    """

    nodes: ClassVar[dict[str, str]] = {
        "stage1_pre": "features.2",
        "stage1": "features.4",
        "stage2_pre": "features.7",
        "stage2": "features.9",
        "embedding": "flatten",
        "logits": "classifier",
    }

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        channels, height, width = image_shape
        features = nn.Sequential(
            nn.Conv2d(channels, 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        super().__init__(features, _head(32 * (height // 4) * (width // 4), 512, classes))


class LightNN(_Tutorial):
    """The tutorial's student: 267,738 parameters for 3x32x32 images and 10 classes.

    Layers as in `DeepNN`.
    """

    nodes: ClassVar[dict[str, str]] = {
        "stage1_pre": "features.0",
        "stage1": "features.2",
        "stage2_pre": "features.3",
        "stage2": "features.5",
        "embedding": "flatten",
        "logits": "classifier",
    }

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        channels, height, width = image_shape
        features = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        super().__init__(features, _head(16 * (height // 4) * (width // 4), 256, classes))
