"""ResNet-50 with a stem for CIFAR.

Architecture: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR
2016, with bottleneck blocks (3, 4, 6, 3), as the tables of Y. Tian, D. Krishnan, P. Isola,
"Contrastive Representation Distillation", ICLR 2020 have it
(https://github.com/HobbitLong/RepDistiller): a 3x3 convolution of stride 1 and no pooling at the
start.

Initial weights: convolutions normal with variance 2 / fan-out, batch normalisation 1 and 0; the
classifier as PyTorch's `Linear`.
"""

from torch import Tensor, nn

from kdbench.models.mobilenet import conv_bn
from kdbench.models.resnet import kaiming

BLOCKS, CHANNELS, EXPANSION = (3, 4, 6, 3), (64, 128, 256, 512), 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the sum passes a ReLU."""

    def __init__(self, inputs: int, narrow: int, stride: int):
        super().__init__()
        outputs = narrow * EXPANSION
        self.first = nn.Sequential(*conv_bn(inputs, narrow, 1), nn.ReLU())
        self.second = nn.Sequential(*conv_bn(narrow, narrow, 3, stride), nn.ReLU())
        self.third = nn.Sequential(*conv_bn(narrow, outputs, 1))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(*conv_bn(inputs, outputs, 1, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.third(self.second(self.first(x))) + self.shortcut(x))


class ResNet50(nn.Module):
    """`stageN` is the map after a stage's last ReLU, `stageN_pre` the sum before it; `embedding`
    is the averaged last stage."""

    stage1: nn.Module
    stage2: nn.Module
    stage3: nn.Module
    stage4: nn.Module

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        inputs = CHANNELS[0]
        self.first = nn.Sequential(*conv_bn(image_shape[0], inputs, 3), nn.ReLU())
        self.nodes = {"embedding": "flatten", "logits": "classifier"}
        self.norms = {}
        for n, (narrow, count) in enumerate(zip(CHANNELS, BLOCKS, strict=True), 1):
            blocks = []
            for index in range(count):
                blocks.append(Bottleneck(inputs, narrow, 1 if index or n == 1 else 2))
                inputs = narrow * EXPANSION
            self.add_module(f"stage{n}", nn.Sequential(*blocks))
            last = f"stage{n}.{count - 1}"
            self.nodes |= {f"stage{n}": f"{last}.relu", f"stage{n}_pre": f"{last}.add"}
            self.norms[f"stage{n}_pre"] = f"{last}.third.1"
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage4(self.stage3(self.stage2(self.stage1(self.first(x)))))
        return self.classifier(self.average(x).flatten(1))
