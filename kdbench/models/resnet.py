"""Residual networks for CIFAR.

Architecture: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image
Recognition", CVPR 2016, section 4.2, with basic blocks; depth 6n + 2. As in the tables of
Y. Tian, D. Krishnan, P. Isola, "Contrastive Representation Distillation", ICLR 2020
(https://github.com/HobbitLong/RepDistiller), a shortcut that changes the shape is a 1x1
convolution with batch normalisation (He's option B; option A, zero padding, has no
parameters there), and `resnet8x4`, `resnet32x4` have 32, 64, 128, 256 channels in place
of 16, 16, 32, 64.

Initial weights: normal, variance 2 / fan-out (K. He et al., "Delving Deep into Rectifiers",
ICCV 2015); batch normalisation 1 and 0; the classifier as PyTorch's `Linear`.
"""

from torch import Tensor, nn

from kdbench.registry import Paper

PAPER = Paper(
    key="he2016deep",
    authors="He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
    title="Deep Residual Learning for Image Recognition",
    venue="CVPR",
    year=2016,
    arxiv="1512.03385",
)
X4_PAPER = Paper(
    key="tian2020contrastive",
    authors="Tian, Yonglong and Krishnan, Dilip and Isola, Phillip",
    title="Contrastive Representation Distillation",
    venue="ICLR",
    year=2020,
    arxiv="1910.10699",
)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def kaiming(model: nn.Module) -> None:
    """Initialise the convolutions of `model` with He's normal distribution, in module order."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the sum passes a ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(out + self.shortcut(x))


class ResNet(nn.Module):
    """A CIFAR ResNet of `depth` = 6n + 2 layers with three stages of n blocks.

    `channels` are those of the first convolution and the three stages. `stageN` is the
    feature map after the stage's last ReLU, `stageN_pre` the sum before that ReLU (same
    shape); 3x32x32 images give 32x32, 16x16 and 8x8 positions. `embedding` is the
    average-pooled last stage.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: int,
        channels: tuple[int, int, int, int] = (16, 16, 32, 64),
    ):
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"a CIFAR ResNet has depth 6n + 2 with n >= 1, not {depth}")
        self.nodes = {"embedding": "flatten", "logits": "classifier"}
        self.norms = {}
        for n in (1, 2, 3):
            self.norms[f"stage{n}_pre"] = f"stage{n}.{blocks - 1}.bn2"
            self.nodes[f"stage{n}_pre"] = f"stage{n}.{blocks - 1}.add"
            self.nodes[f"stage{n}"] = f"stage{n}.{blocks - 1}.relu2"

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            first = Block(inputs, outputs, stride)
            return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))

        stem, first, second, third = channels
        self.conv = conv3x3(image_shape[0], stem)
        self.bn = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.stage1 = stage(stem, first, 1)
        self.stage2 = stage(first, second, 2)
        self.stage3 = stage(second, third, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(third, classes)
        kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn(self.conv(images)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.classifier(self.pool(x).flatten(1))
