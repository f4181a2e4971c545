"""VGG networks for CIFAR.

Architecture: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, as the tables of Y. Tian, D. Krishnan, P. Isola, "Contrastive
Representation Distillation", ICLR 2020 have it (https://github.com/HobbitLong/RepDistiller):
batch normalisation after each convolution, no pooling between the last two of five stages on
images of 32 pixels, and one linear layer on the averaged last map.

Initial weights: convolutions normal with variance 2 / fan-out and no bias, batch normalisation 1
and 0, the classifier normal with standard deviation 0.01.
"""

from torch import Tensor, nn

from kdbench.models.resnet import kaiming
from kdbench.registry import Paper

PAPER = Paper(
    key="simonyan2015very",
    authors="Simonyan, Karen and Zisserman, Andrew",
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    venue="ICLR",
    year=2015,
    arxiv="1409.1556",
)
CHANNELS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages of `convolutions` 3x3 convolutions each.

    `stageN` is the map after the stage's last ReLU, `stageN_pre` the one before it; 3x32x32
    images give 32, 16, 8, 4 and 4 positions a side. `embedding` is the averaged last stage.
    """

    block1: nn.Module
    block2: nn.Module
    block3: nn.Module
    block4: nn.Module
    block5: nn.Module
    relu1: nn.Module
    relu2: nn.Module
    relu3: nn.Module
    relu4: nn.Module
    relu5: nn.Module

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, convolutions: int):
        super().__init__()
        self.nodes = {"embedding": "flatten", "logits": "classifier"}
        self.norms = {}
        inputs = image_shape[0]
        for n, channels in enumerate(CHANNELS, 1):
            layers: list[nn.Module] = []
            for _ in range(convolutions):
                convolution = nn.Conv2d(inputs, channels, 3, padding=1)
                layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
                inputs = channels
            self.add_module(f"block{n}", nn.Sequential(*layers[:-1]))
            self.add_module(f"relu{n}", nn.ReLU())
            self.nodes[f"stage{n}"] = f"relu{n}"
            self.nodes[f"stage{n}_pre"] = self.norms[f"stage{n}_pre"] = (
                f"block{n}.{len(layers) - 2}"
            )
        self.pool = nn.MaxPool2d(2)
        # On larger images the last two stages are pooled apart too.
        self.last_pool = nn.MaxPool2d(2) if image_shape[1] >= 64 else nn.Identity()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(CHANNELS[-1], classes)
        kaiming(self)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.block1(x)))
        x = self.pool(self.relu2(self.block2(x)))
        x = self.pool(self.relu3(self.block3(x)))
        x = self.last_pool(self.relu4(self.block4(x)))
        x = self.relu5(self.block5(x))
        return self.classifier(self.average(x).flatten(1))
