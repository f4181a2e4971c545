"""ShuffleNet for CIFAR, versions 1 and 2.

Architectures: X. Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
Mobile Devices", CVPR 2018, with 3 groups; N. Ma et al., "ShuffleNet V2: Practical Guidelines for
Efficient CNN Architecture Design", ECCV 2018, of size 1. Both as the tables of Y. Tian,
D. Krishnan, P. Isola, "Contrastive Representation Distillation", ICLR 2020 have them
(https://github.com/HobbitLong/RepDistiller): a 1x1 convolution and no pooling at the start.

Initial weights are PyTorch's.
"""

import torch
from torch import Tensor, nn

from kdbench.models.mobilenet import conv_bn
from kdbench.registry import Paper

PAPER = Paper(
    key="zhang2018shufflenet",
    authors="Zhang, Xiangyu and Zhou, Xinyu and Lin, Mengxiao and Sun, Jian",
    title="ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
    venue="CVPR",
    year=2018,
    arxiv="1707.01083",
)
V2_PAPER = Paper(
    key="ma2018shufflenet",
    authors="Ma, Ningning and Zhang, Xiangyu and Zheng, Hai-Tao and Sun, Jian",
    title="ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
    venue="ECCV",
    year=2018,
    arxiv="1807.11164",
)
STEM = 24
GROUPS, V1_CHANNELS, V1_BLOCKS = 3, (240, 480, 960), (4, 8, 4)
V2_CHANNELS, V2_BLOCKS, V2_LAST = (116, 232, 464), (3, 7, 3), 1024


class V1Block(nn.Module):
    """Grouped 1x1, 3x3 of each channel, grouped 1x1; with stride 2 the input's average comes
    beside the result, else it is added."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        outputs -= inputs if stride == 2 else 0
        narrow = outputs // 4
        # The first convolution of all has too few channels for groups.
        groups = 1 if inputs == STEM else GROUPS
        self.first = nn.Sequential(*conv_bn(inputs, narrow, 1, groups=groups), nn.ReLU())
        self.shuffle = nn.ChannelShuffle(groups)
        self.second = nn.Sequential(*conv_bn(narrow, narrow, 3, stride, groups=narrow), nn.ReLU())
        self.third = nn.Sequential(*conv_bn(narrow, outputs, 1, groups=GROUPS))
        self.average = nn.AvgPool2d(3, stride=2, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.third(self.second(self.shuffle(self.first(x))))
        if self.stride == 2:
            return self.relu(torch.cat([out, self.average(x)], 1))
        return self.relu(out + x)


class ShuffleNetV1(nn.Module):
    """`stageN` is the map after a stage's last ReLU, `stageN_pre` the sum before it; `embedding`
    is the averaged last stage."""

    stage1: nn.Module
    stage2: nn.Module
    stage3: nn.Module

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        self.first = nn.Sequential(*conv_bn(image_shape[0], STEM, 1), nn.ReLU())
        self.nodes = {"embedding": "flatten", "logits": "classifier"}
        inputs = STEM
        for n, (channels, count) in enumerate(zip(V1_CHANNELS, V1_BLOCKS, strict=True), 1):
            blocks = [V1Block(inputs, channels, 2)]
            blocks += [V1Block(channels, channels, 1) for _ in range(count - 1)]
            self.add_module(f"stage{n}", nn.Sequential(*blocks))
            self.nodes[f"stage{n}"] = f"stage{n}.{count - 1}.relu"
            self.nodes[f"stage{n}_pre"] = f"stage{n}.{count - 1}.add"
            inputs = channels
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.first(x))))
        return self.classifier(self.average(x).flatten(1))


class V2Block(nn.Module):
    """Half of the channels pass three convolutions, the other half nothing; with stride 2 both
    halves are made from all channels."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride, half = stride, outputs // 2
        source = inputs if stride == 2 else half
        left = [*conv_bn(source, source, 3, stride, groups=source), *conv_bn(source, half, 1)]
        self.left = nn.Sequential(*left, nn.ReLU()) if stride == 2 else nn.Identity()
        self.right = nn.Sequential(
            *conv_bn(source, half, 1), nn.ReLU(),
            *conv_bn(half, half, 3, stride, groups=half),
            *conv_bn(half, half, 1), nn.ReLU(),
        )  # fmt: skip
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (x, x) if self.stride == 2 else x.chunk(2, 1)
        return self.shuffle(torch.cat([self.left(first), self.right(second)], 1))


class ShuffleNetV2(nn.Module):
    """`stageN` is the map after a stage's last block; `embedding` is the averaged map after the
    last convolution. Activations lie before the last concatenation, so there are no
    `stageN_pre`."""

    stage1: nn.Module
    stage2: nn.Module
    stage3: nn.Module

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        self.first = nn.Sequential(*conv_bn(image_shape[0], STEM, 1), nn.ReLU())
        self.nodes = {"embedding": "flatten", "logits": "classifier"}
        inputs = STEM
        for n, (channels, count) in enumerate(zip(V2_CHANNELS, V2_BLOCKS, strict=True), 1):
            blocks = [V2Block(inputs, channels, 2)]
            blocks += [V2Block(channels, channels, 1) for _ in range(count)]
            self.add_module(f"stage{n}", nn.Sequential(*blocks))
            self.nodes[f"stage{n}"] = f"stage{n}.{count}.shuffle"
            inputs = channels
        self.last = nn.Sequential(*conv_bn(inputs, V2_LAST, 1), nn.ReLU())
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(V2_LAST, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.stage3(self.stage2(self.stage1(self.first(x)))))
        return self.classifier(self.average(x).flatten(1))
