"""The review of early stages by late ones: attention-based fusion from the deepest level up."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench.methods.projections import conv_bn

#: The greatest number of channels that the levels share.
WIDEST = 512


class Fusion(nn.Module):
    """One level: its map is reduced to the shared channels, mixed position by position with
    what the deeper level hands on, and expanded to the teacher's channels.

    `size` is the height and width of the teacher's map; the deepest level has nothing to mix.
    """

    def __init__(
        self, source: int, shared: int, target: int, size: tuple[int, ...], deepest: bool
    ) -> None:
        super().__init__()
        self.size = size
        self.reduce = conv_bn(source, shared)
        self.expand = conv_bn(shared, target, kernel=3)
        self.attend = None if deepest else nn.Conv2d(2 * shared, 2, 1)
        for part in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(part.get_parameter("0.weight"), a=1)

    def forward(self, maps: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The prediction of the teacher's map, and what the next level gets."""
        x = self.reduce(maps)
        if self.attend is not None and deeper is not None:
            y = F.interpolate(deeper, x.shape[2:], mode="nearest")
            share = self.attend(torch.cat([x, y], dim=1)).sigmoid()
            x = x * share[:, :1] + y * share[:, 1:]
        if tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode="nearest")
        return self.expand(x), x


class Review(nn.Module):
    """The fusions of all levels, the shallowest first; vectors are maps of one position.

    `sources` and `targets` are the shapes of the student's and the teacher's features.
    """

    def __init__(
        self, sources: Sequence[tuple[int, ...]], targets: Sequence[tuple[int, ...]]
    ) -> None:
        super().__init__()
        shared = min(WIDEST, sources[-1][0])
        self.fusions = nn.ModuleList(
            Fusion(s[0], shared, t[0], t[1:] or (1, 1), deepest=level == len(sources))
            for level, (s, t) in enumerate(zip(sources, targets, strict=True), 1)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The predictions of the teacher's maps, the shallowest first."""
        predicted, deeper = [], None
        for fusion, feature in zip(reversed(self.fusions), reversed(features), strict=True):
            output, deeper = fusion(as_maps(feature), deeper)
            predicted.append(output)
        return predicted[::-1]


def as_maps(feature: Tensor) -> Tensor:
    """Vectors (B, D) as maps of one position (B, D, 1, 1); maps as they are."""
    return feature[:, :, None, None] if feature.dim() == 2 else feature
