"""Random changes of images, against torchvision's operations for one image at a time."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as T

from kdbench.data import Views
from kdbench.data.changes import (
    POLICIES,
    RANDAUGMENT,
    STRONG_CHANGES,
    AutoAugment,
    Cutout,
    Erasing,
    RandAugment,
)
from kdbench.data.operations import OPERATIONS, apply
from kdbench.data.random_views import RandomViews

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 12, 20)]
BILINEAR = {"interpolation": InterpolationMode.BILINEAR}


def affine(image, angle=0.0, shift=(0, 0), shear=(0.0, 0.0)):
    return T.affine(image, angle=angle, translate=shift, scale=1.0, shear=shear, **BILINEAR)


def by_torchvision(name, image, amount):
    height, width = image.shape[1:]
    return {
        "brightness": lambda: T.adjust_brightness(image, amount),
        "color": lambda: T.adjust_saturation(image, amount),
        "contrast": lambda: T.adjust_contrast(image, amount),
        "sharpness": lambda: T.adjust_sharpness(image, amount),
        "autocontrast": lambda: T.autocontrast(image),
        "equalize": lambda: T.equalize(image),
        "invert": lambda: T.invert(image),
        "solarize": lambda: T.solarize(image, amount),
        "posterize": lambda: T.posterize((image * 255).round().byte(), round(amount)).float() / 255,
        "rotate": lambda: T.rotate(image, amount, **BILINEAR),
        "translate-x": lambda: affine(image, shift=(-amount * width, 0)),
        "translate-y": lambda: affine(image, shift=(0, -amount * height)),
        # Its axis is the middle of the image, as here, and its sign the other.
        "shear-x": lambda: affine(image, shear=(math.degrees(math.atan(amount)), 0.0)),
        "shear-y": lambda: affine(image, shear=(0.0, math.degrees(math.atan(amount)))),
    }[name]()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(name, shape):
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4, *shape), generator=g) / 255
    images[3] = 0.4  # of one value
    low, high = RANDAUGMENT.get(name, (0.0, 0.0))
    amounts = torch.linspace(low, high, 4)
    got = OPERATIONS[name](images, amounts)
    for image, amount, changed in zip(images, amounts.tolist(), got, strict=True):
        torch.testing.assert_close(changed, by_torchvision(name, image, amount), rtol=0, atol=3e-5)
    assert got.min() >= 0
    assert got.max() <= 1


class Set:
    def __init__(self, channels, height, width, count=40):
        rng = np.random.default_rng(0)
        self.images = torch.from_numpy(
            rng.integers(256, size=(count, channels, height, width), dtype=np.uint8)
        )
        self.labels = torch.zeros(count, dtype=torch.int64)
        self.scale, self.mean, self.std = 255, (0.4,) * channels, (0.2,) * channels


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "changes", [STRONG_CHANGES, (*POLICIES["autoaugment"], Erasing(0.5, (0.4,)))]
)
def test_a_view_depends_on_its_own_numbers_alone(shape, changes):
    views = RandomViews(Views(Set(*shape), "flip"), changes)
    state = torch.get_rng_state()
    drawn = views.draw(40, np.random.default_rng(1))
    position = torch.arange(40)
    every = views.take(position, drawn)
    assert every.shape == (40, *shape)
    assert every.is_contiguous(memory_format=torch.channels_last)
    assert every.isfinite().all()
    for index in (0, 7, 39):
        alone = views.take(position[index : index + 1], drawn[index : index + 1])
        assert torch.equal(alone[0], every[index])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn, views.draw(40, np.random.default_rng(1)))
    assert not torch.equal(every, views.views.take(position, drawn[:, 0].long()))


def test_all_at_once_and_only_the_chosen_give_the_same():
    """A GPU changes all images and selects, the CPU changes those that are chosen."""
    images, names = torch.rand(30, 3, 16, 16), tuple(RANDAUGMENT)
    which = torch.arange(30) % len(names)
    low, high = (torch.tensor(ends)[which] for ends in zip(*RANDAUGMENT.values(), strict=True))
    amounts = (low + high) / 2
    got = apply(names, which, images, amounts)
    for index, image in enumerate(images):
        name = names[which[index]]
        expected = image
        if name != "identity":
            expected = OPERATIONS[name](images, amounts)[index]
        assert torch.equal(got[index], expected)


def test_operations_and_amounts_are_drawn_alike():
    change, images = RandAugment(count=1), torch.rand(1, 1, 8, 8)
    rotation = tuple(RANDAUGMENT).index("rotate")
    share = (rotation + 0.5) / len(RANDAUGMENT)
    for u in (0.0, 0.25, 0.999):
        expected = OPERATIONS["rotate"](images, torch.tensor([-30 + 60 * u]))
        torch.testing.assert_close(change(images, torch.tensor([[share, u]])), expected)
    first = change(images, torch.tensor([[0.0, 0.3]]))
    assert torch.equal(first, images)  # the identity
    change(images, torch.tensor([[1 - 2**-24, 1 - 2**-24]]))  # the largest number that is drawn


def test_cutout_covers_a_square_of_up_to_half_the_side():
    images = torch.ones(3, 1, 8, 8)
    drawn = torch.tensor([[0.5, 0.5, 1.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])
    covered = (Cutout()(images, drawn) == 0.5).squeeze(1)
    expected = torch.zeros(3, 8, 8, dtype=torch.bool)
    expected[0, 2:6, 2:6] = True
    expected[1, :2, :2] = True
    assert torch.equal(covered, expected)


def test_autoaugment_is_torchvisions(monkeypatch):
    """The same pair, both operations with either sign, by torchvision on 8-bit images."""
    from torchvision.transforms import AutoAugment as Theirs
    from torchvision.transforms import AutoAugmentPolicy

    g = torch.Generator().manual_seed(0)
    theirs = Theirs(AutoAugmentPolicy.CIFAR10)
    image = torch.randint(256, (3, 331, 331), generator=g, dtype=torch.uint8)
    count = len(theirs.policies)
    for pair in range(count):
        for sign in (0, 1):
            drawn = torch.tensor([[(pair + 0.5) / count, 0.0, sign / 2, 0.0, sign / 2]])
            got = AutoAugment()(image[None] / 255, drawn)[0]
            never = any(probability == 0 for _, probability, _ in theirs.policies[pair])
            monkeypatch.setattr(
                theirs,
                "get_params",
                lambda _, p=pair, s=sign, n=never: (p, torch.tensor([0.0, float(n)]), [s, s]),
            )
            expected = theirs(image).float() / 255
            # Theirs takes the nearest pixel, which the operations' own tests do not.
            names = {name for name, _, _ in theirs.policies[pair]}
            if names & {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}:
                continue
            # And it rounds to 8 bits after each operation.
            far = (got - expected).abs() > 3 / 255
            assert far.float().mean() < 0.02, (theirs.policies[pair], sign)


def test_autoaugment_applies_an_operation_with_its_probability():
    change, image = AutoAugment(), torch.rand(1, 3, 16, 16)
    # The first pair: negative at 0.1, contrast at 0.2.
    untouched = change(image, torch.tensor([[0.0, 0.1, 0.0, 0.2, 0.0]]))
    assert torch.equal(untouched, image)
    negative = change(image, torch.tensor([[0.0, 0.0999, 0.0, 0.2, 0.0]]))
    assert torch.equal(negative, 1 - image)


def test_erasing_is_torchvisions_in_area_and_shape():
    drawn = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0))
    erased = (Erasing(1.0, (0.25,))(torch.zeros(4000, 1, 32, 32), drawn) == 0.25).squeeze(1)
    share = erased.float().mean(dim=(1, 2))
    assert abs(share.mean() - (0.02 + 0.33) / 2) < 0.01
    assert share.max() < 0.40
    height, width = erased.any(2).sum(1), erased.any(1).sum(1)
    assert torch.equal(erased.sum(dim=(1, 2)), height * width)  # rectangles
    ratio = (height / width).log()
    assert abs(ratio.mean()) < 0.05
    assert erased.any(0).all()  # anywhere
    some = Erasing(0.25, (0.25,))(torch.zeros(4000, 1, 32, 32), drawn)
    assert abs(some.flatten(1).any(1).float().mean() - 0.25) < 0.03


def test_erased_pixels_are_zero_once_they_are_normalised():
    images = Set(3, 32, 32)
    images.mean = (0.1, 0.5, 0.7)
    views = RandomViews(Views(images), (Erasing(1.0, images.mean),))
    got = views.take(torch.arange(40), views.draw(40, np.random.default_rng(0)))
    assert (got == 0).all(1).float().mean() > 0.1
