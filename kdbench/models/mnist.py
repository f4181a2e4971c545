"""The MNIST pair: a small CNN teaches a multilayer perceptron.

The architectures are kdbench's own, of the usual size for MNIST; both have a hidden layer
of 128 units before the classifier, so their embeddings are comparable. Weights start as in
PyTorch's layers.
"""

from typing import ClassVar

from torch import Tensor, nn


class MnistCNN(nn.Module):
    """Two convolutions (16 and 32 channels, 3x3, padding 1), each with ReLU and 2x2 max
    pooling, then 128 hidden units: 206,922 parameters for 1x28x28 images and 10 classes.

    Stages end after the poolings; `_pre` is the convolution before ReLU and pooling;
    `embedding` is the hidden layer after its ReLU.
    """

    nodes: ClassVar[dict[str, str]] = {
        "stage1_pre": "features.0",
        "stage1": "features.2",
        "stage2_pre": "features.3",
        "stage2": "features.5",
        "embedding": "relu",
        "logits": "classifier",
    }

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, height, width = image_shape
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.hidden = nn.Linear(32 * (height // 4) * (width // 4), 128)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.relu(self.hidden(self.features(images).flatten(1))))


class MnistMLP(nn.Module):
    """784-128-10 with a ReLU: 101,770 parameters for 1x28x28 images and 10 classes.

    It has no feature maps, so no stage layers; `embedding` is the hidden layer after its
    ReLU.
    """

    nodes: ClassVar[dict[str, str]] = {"embedding": "relu", "logits": "classifier"}

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, height, width = image_shape
        self.hidden = nn.Linear(channels * height * width, 128)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.relu(self.hidden(images.flatten(1))))
