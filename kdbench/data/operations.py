"""Operations that change the colours or the geometry of images, each image by an amount of its own.

Each takes float32 images in [0, 1] (B x channels x height x width) and amounts (B), and gives
images in [0, 1]. What an image becomes depends on itself and its amount alone. They are
torchvision's operations of the same names, whose amount is one for the whole batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Operation = Callable[[Tensor, Tensor], Tensor]


def apply(names: tuple[str, ...], which: Tensor, images: Tensor, amounts: Tensor) -> Tensor:
    """Change each image by the operation `names[which]` (`which`: B, int64), by its amount."""
    for index, name in enumerate(names):
        if name == "identity":
            continue
        operation, chosen = OPERATIONS[name], which == index
        if images.device.type != "cpu":
            # All images, since their number would have to be waited for.
            mask = chosen.view(-1, 1, 1, 1)
            images = torch.where(mask, operation(images, amounts), images)
        elif len(rows := chosen.nonzero().flatten()):
            images = images.index_copy(0, rows, operation(images[rows], amounts[rows]))
    return images


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Black at factor 0, the image at 1."""
    return _blend(images, torch.zeros_like(images), factor)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Grey at factor 0, the image at 1; nothing for images that are no RGB."""
    return _blend(images, _grey(images), factor) if images.shape[1] == 3 else images


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """The mean grey at factor 0, the image at 1."""
    mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
    return _blend(images, mean, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Smoothed at factor 0, the image at 1; the border stays as it is."""
    inner = images[..., 1:-1, 1:-1]
    smooth = (9 * F.avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    blurred = images.clone()
    blurred[..., 1:-1, 1:-1] = smooth
    return _blend(images, blurred, factor)


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """The darkest value of each channel becomes 0, the brightest 1; one value alone stays."""
    low, high = (pick(images, dim=(2, 3), keepdim=True) for pick in (torch.amin, torch.amax))
    flat = low == high
    return (images - low.masked_fill(flat, 0)) / (high - low).masked_fill(flat, 1)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """A flat histogram for each channel; nothing for images of fewer than 256 pixels."""
    from torchvision.transforms.v2 import functional as transforms

    return transforms.equalize(images)


def invert(images: Tensor, _: Tensor) -> Tensor:
    """The negative."""
    return 1 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """The highest `bits` (rounded) of the eight bits of a value."""
    step = 2 ** (8 - _each(bits).round())
    return ((images * 255).round() / step).floor() * step / 255


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """The negative of values from the threshold on."""
    return torch.where(images >= _each(threshold), 1 - images, images)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise about the centre."""
    angle, aspect = degrees.deg2rad(), images.shape[2] / images.shape[3]
    sin, cos = angle.sin(), angle.cos()
    return _moved(images, (cos, -sin * aspect, None), (sin / aspect, cos, None))


def shear_x(images: Tensor, tangent: Tensor) -> Tensor:
    """Rows move to the left by `tangent` pixels for each row below the centre."""
    aspect = images.shape[2] / images.shape[3]
    return _moved(images, (None, tangent * aspect, None), (None, None, None))


def shear_y(images: Tensor, tangent: Tensor) -> Tensor:
    """Columns move up by `tangent` pixels for each column right of the centre."""
    aspect = images.shape[2] / images.shape[3]
    return _moved(images, (None, None, None), (tangent / aspect, None, None))


def translate_x(images: Tensor, share: Tensor) -> Tensor:
    """To the left by a share of the width."""
    return _moved(images, (None, None, 2 * share), (None, None, None))


def translate_y(images: Tensor, share: Tensor) -> Tensor:
    """Up by a share of the height."""
    return _moved(images, (None, None, None), (None, None, 2 * share))


OPERATIONS: dict[str, Operation] = {
    "autocontrast": autocontrast,
    "brightness": brightness,
    "color": color,
    "contrast": contrast,
    "equalize": equalize,
    "invert": invert,
    "posterize": posterize,
    "rotate": rotate,
    "sharpness": sharpness,
    "shear-x": shear_x,
    "shear-y": shear_y,
    "solarize": solarize,
    "translate-x": translate_x,
    "translate-y": translate_y,
}


def _each(amounts: Tensor) -> Tensor:
    return amounts.view(-1, 1, 1, 1)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (_each(factor) * images + (1 - _each(factor)) * other).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    """B x 1 x height x width."""
    if images.shape[1] == 3:
        from torchvision.transforms.v2 import functional as transforms

        return transforms.rgb_to_grayscale(images)
    return images.mean(dim=1, keepdim=True)


Row = tuple[Tensor | None, Tensor | None, Tensor | None]


def _moved(images: Tensor, x: Row, y: Row) -> Tensor:
    """Bilinear samples of the images, 0 outside of them, at places that are linear in x, y and 1
    (from -1 to 1 across the image); None stands for the identity's value."""
    rows = []
    for row, identity in ((x, (1, 0, 0)), (y, (0, 1, 0))):
        entries = zip(row, identity, strict=True)
        full = [images.new_full((len(images),), i) if v is None else v for v, i in entries]
        rows.append(torch.stack(full, dim=1))
    # Written out: the matrix product of `affine_grid` rounds otherwise in other batches.
    down, across = (
        (2 * torch.arange(size, device=images.device) + 1) / size - 1 for size in images.shape[2:]
    )
    places = [
        r[:, 0, None, None] * across + r[:, 1, None, None] * down[:, None] + r[:, 2, None, None]
        for r in rows
    ]
    return F.grid_sample(images, torch.stack(places, dim=-1), align_corners=False)
