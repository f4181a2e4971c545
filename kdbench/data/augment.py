"""The views of an image under the usual augmentations, as whole-batch tensor operations.

An augmentation is a finite set of views, so the outputs of a frozen network for all of them
can be cached. A view id counts them: for `crop-flip` it is
`(dy * 9 + dx) * 2 + flip`, where (dy, dx) is the crop's corner in the image padded by 4
pixels of value 0, and flip 1 mirrors left and right; for `crop` it is `dy * 9 + dx`, for
`flip` it is `flip`, and `none` has the view 0 only.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kdbench.registry import UnknownName, did_you_mean

PADDING = 4
SHIFTS = 2 * PADDING + 1

#: The number of views of each augmentation.
VIEWS = {"none": 1, "flip": 2, "crop": SHIFTS**2, "crop-flip": SHIFTS**2 * 2}


class Images(Protocol):
    """What `Views` reads of a data set: uint8 `images` (N x channels x height x width), the
    pixel value `scale` that counts as 1, and `mean` and `std` per channel of scaled images;
    int64 `labels` (N)."""

    @property
    def images(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...
    @property
    def scale(self) -> int: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...


def place_of_images(images: Tensor, device: torch.device) -> torch.device:
    """Where images are kept for a device: on a GPU, unless they would take more than half of its
    memory; then each batch is sent to it."""
    if device.type != "cuda":
        return device
    most = torch.cuda.get_device_properties(device).total_memory // 2
    return device if images.nbytes <= most else torch.device("cpu")


class Views:
    """Normalised batches of any view of any example on `device`, from one uint8 tensor.

    `count` is the number of views of `augment`, `plain` the id of the one that is the image
    itself, `labels` the labels (int64, N) on `device`. Raises `UnknownName` for an
    augmentation that is not in `VIEWS`.
    """

    def __init__(self, data: Images, augment: str = "none", device: torch.device | str = "cpu"):
        if augment not in VIEWS:
            raise UnknownName(f"unknown augmentation {augment!r}{did_you_mean(augment, VIEWS)}")
        self.augment = augment
        self.count = VIEWS[augment]
        self.device = torch.device(device)
        self.labels = data.labels.to(self.device)
        self._flips = augment.endswith("flip")
        self._crops = augment.startswith("crop")
        middle = PADDING * SHIFTS + PADDING if self._crops else 0
        self.plain = middle * 2 if self._flips else middle
        # Kept as N x height x width x channels, so that a batch comes out channels_last and
        # rows of pixels are copied in one piece; where they are mapped from a file, in the file.
        place = place_of_images(data.images, self.device)
        self._store = data.images.to(place).permute(0, 2, 3, 1).contiguous()
        height, width, channels = self._store.shape[1:]

        # Constants of an image's full size: broadcasting over 3 channels alone is slow, and
        # CUDA divides by a Python number as by its reciprocal, which rounds differently.
        def whole(values: tuple[float, ...]) -> Tensor:
            row = torch.tensor(values, dtype=torch.float32, device=self.device)
            return row.expand(height, width, channels).contiguous()

        self._scale = whole((float(data.scale),) * channels)
        self._mean = whole(data.mean)
        self._std = whole(data.std)

    def __len__(self) -> int:
        return len(self._store)

    def draw(self, count: int, generator: np.random.Generator) -> Tensor:
        """`count` view ids (int64, on `device`), each view equally likely."""
        return torch.from_numpy(generator.integers(self.count, size=count)).to(self.device)

    def take(
        self,
        position: Tensor,
        view: Tensor | int | None = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The examples at `position` (int64, B) in the views `view` (int64, B; one id for all;
        None for the plain image), normalised: float32, B x channels x height x width,
        channels_last, on the views' device. `change` is made to the scaled images before.

        A value depends on its example and view only, never on the rest of the batch: it is
        ((pixel / scale) - mean) / std in float32, one rounding each, as torchvision's
        `ToTensor` and `Normalize` give.
        """
        pixels = self._pixels(self._beside(position), self.plain if view is None else view)
        pixels = pixels.to(self.device, non_blocking=True)
        batch = pixels.to(torch.float32).div_(self._scale)
        if change is not None:
            batch = change(batch.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
        return batch.sub_(self._mean).div_(self._std).permute(0, 3, 1, 2)

    def _beside(self, ids: Tensor) -> Tensor:
        """`ids` where the images are kept. On their way from a GPU to the host they are waited for:
        else the host would read them before they are there."""
        return ids.to(self._store.device, non_blocking=self._store.device.type != "cpu")

    def _pixels(self, position: Tensor, view: Tensor | int) -> Tensor:
        """uint8, B x height x width x channels, where the images are kept."""
        pixels = self._store.index_select(0, position)
        if self.count == 1:
            return pixels
        if isinstance(view, int):
            view = torch.full_like(position, view)
        view = self._beside(view)
        flip = view % 2 if self._flips else None
        if self._crops:
            pixels = _cropped(pixels, view if flip is None else view // 2)
        return pixels if flip is None else _mirrored(pixels, flip)


def _cropped(pixels: Tensor, shift: Tensor) -> Tensor:
    """The windows of padded images whose corners are `shift` (B)."""
    count, height, width, channels = pixels.shape
    padded = functional.pad(pixels, (0, 0, PADDING, PADDING, PADDING, PADDING))
    every, dy, dx = torch.arange(count, device=shift.device), shift // SHIFTS, shift % SHIFTS
    if pixels.device.type != "cpu":
        # B x dy x dx x height x width x channels, without a copy.
        windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        return windows[every, dy, dx]
    # The same for numpy, a row of pixels in one piece, which it copies ten times faster.
    rows = padded.numpy().reshape(count, padded.shape[1], -1)
    image, row, pixel = rows.strides[0], rows.strides[1], channels
    spans = np.lib.stride_tricks.as_strided(
        rows,
        (count, SHIFTS, SHIFTS, height, width * channels),
        (image, row, pixel, row, 1),
        writeable=False,
    )
    cut = spans[every.numpy(), dy.numpy(), dx.numpy()]
    return torch.from_numpy(cut).view(pixels.shape)


def _mirrored(pixels: Tensor, flip: Tensor) -> Tensor:
    """Those with flip 1 mirrored left and right."""
    if pixels.device.type != "cpu":
        return torch.where(flip.bool()[:, None, None, None], pixels.flip(2), pixels)
    # Only those that are to be mirrored; on a GPU their number would have to be waited for.
    chosen = flip.nonzero().flatten()
    source = torch.arange(len(pixels))
    source[chosen] = torch.arange(len(pixels), len(pixels) + len(chosen))
    mirrored = pixels.index_select(0, chosen).flip(2)
    return torch.cat([pixels, mirrored]).index_select(0, source)
