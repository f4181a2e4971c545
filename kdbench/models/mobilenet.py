"""MobileNetV2 of half the width for CIFAR.

Architecture: M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR
2018, as the tables of Y. Tian, D. Krishnan, P. Isola, "Contrastive Representation Distillation",
ICLR 2020 have it (https://github.com/HobbitLong/RepDistiller): width 0.5 but for the last
convolution, a stride of 1 in the second group, ReLU without an upper end, an expanding
convolution in every block.

Initial weights: convolutions normal with variance 2 / fan-out, batch normalisation 1 and 0, the
classifier normal with standard deviation 0.01.
"""

from torch import Tensor, nn

from kdbench.models.resnet import kaiming
from kdbench.registry import Paper

PAPER = Paper(
    key="sandler2018mobilenetv2",
    authors="Sandler, Mark and Howard, Andrew and Zhu, Menglong and Zhmoginov, Andrey and "
    "Chen, Liang-Chieh",
    title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    venue="CVPR",
    year=2018,
    arxiv="1801.04381",
)
#: Expansion, channels at width 1, blocks and stride of each group.
GROUPS = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2),
    (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
#: The last group of each resolution.
STAGES = {"stage1": 1, "stage2": 2, "stage3": 4, "stage4": 6}
WIDTH, LAST = 0.5, 1280


def conv_bn(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution without bias and its batch normalisation."""
    convolution = nn.Conv2d(
        inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, and project without an activation, beside a shortcut where
    the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = nn.Sequential(*conv_bn(inputs, wide, 1), nn.ReLU())
        self.filter = nn.Sequential(*conv_bn(wide, wide, 3, stride, groups=wide), nn.ReLU())
        self.project = nn.Sequential(*conv_bn(wide, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.filter(self.expand(x)))
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """`stage1..4` are the maps after the last block of each resolution; no activation follows
    them, so there are no `stageN_pre`. `embedding` is the averaged last map."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        inputs = int(32 * WIDTH)
        self.first = nn.Sequential(*conv_bn(image_shape[0], inputs, 3, 2), nn.ReLU())
        self.groups = nn.Sequential()
        ends = []
        for number, (expansion, channels, count, stride) in enumerate(GROUPS):
            outputs = int(channels * WIDTH)
            blocks = []
            for index in range(count):
                blocks.append(InvertedResidual(inputs, outputs, 1 if index else stride, expansion))
                inputs = outputs
            self.groups.append(nn.Sequential(*blocks))
            ends.append((f"groups.{number}.{count - 1}", blocks[-1].residual))
        self.last = nn.Sequential(*conv_bn(inputs, LAST, 1), nn.ReLU())
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(LAST, classes)
        self.nodes = {"embedding": "flatten", "logits": "classifier"}
        for stage, number in STAGES.items():
            block, residual = ends[number]
            self.nodes[stage] = f"{block}.add" if residual else f"{block}.project.1"
        kaiming(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.groups(self.first(x)))
        return self.classifier(self.average(x).flatten(1))
