"""Wide residual networks.

Architecture: S. Zagoruyko, N. Komodakis, "Wide Residual Networks", BMVC 2016,
WRN-depth-width without dropout: pre-activation blocks of two 3x3 convolutions, depth
6n + 4, channels 16 and 16, 32, 64 times the width. Initial weights as there: convolutions
normal with variance 2 / fan-out, batch normalisation 1 and 0, classifier bias 0.
"""

from torch import Tensor, nn

from kdbench.models.resnet import conv3x3, kaiming
from kdbench.registry import Paper

PAPER = Paper(
    key="zagoruyko2016wide",
    authors="Zagoruyko, Sergey and Komodakis, Nikos",
    title="Wide Residual Networks",
    venue="BMVC",
    year=2016,
    arxiv="1605.07146",
)


class Block(nn.Module):
    """Batch normalisation, ReLU, convolution, twice, beside a shortcut.

    Where the channels change, the shortcut is a 1x1 convolution of the activated input,
    otherwise the input itself.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = conv3x3(outputs, outputs)
        self.shortcut: nn.Module | None = None
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        out = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-`depth`-`width` with three stages of n = (depth - 4) / 6 blocks.

    A stage ends in a sum that the *next* batch normalisation and ReLU activate, so the
    layers are taken there: `stageN_pre` is the stage's sum after that batch normalisation
    (the first of the next stage, or the network's last), `stageN` is its ReLU. Thus
    `stageN` = ReLU(`stageN_pre`) with the shape of the stage's output, as in every model
    here. (RepDistiller takes the same point for `_pre`, but the bare sum as the stage's
    feature map.) `embedding` is the average-pooled last stage.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, depth: int, width: int):
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"a WRN has depth 6n + 4 with n >= 1, not {depth}")
        self.nodes = {
            "stage1_pre": "stage2.0.bn1",
            "stage1": "stage2.0.relu1",
            "stage2_pre": "stage3.0.bn1",
            "stage2": "stage3.0.relu1",
            "stage3_pre": "bn",
            "stage3": "relu",
            "embedding": "flatten",
            "logits": "classifier",
        }
        self.norms = {f"stage{n}_pre": self.nodes[f"stage{n}_pre"] for n in (1, 2, 3)}

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            first = Block(inputs, outputs, stride)
            return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))

        self.conv = conv3x3(image_shape[0], 16)
        self.stage1 = stage(16, 16 * width, 1)
        self.stage2 = stage(16 * width, 32 * width, 2)
        self.stage3 = stage(32 * width, 64 * width, 2)
        self.bn = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64 * width, classes)
        kaiming(self)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.conv(images))))
        return self.classifier(self.pool(self.relu(self.bn(x))).flatten(1))
