"""The test images of a study that was made up, and a test set that belongs to its records."""

import base64
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from support.fake_study import IMAGES

from kdbench.records.galleries import Gallery, ImageGroup, Predictor, ShownImage, Vote
from kdbench.records.licences import Licence

LICENCE = Licence("CC BY 4.0", "https://licence.example/by", "Ada & Bob", "https://source.example")


def png(seed, side=8):
    """A grey image of noise as the base64 of a PNG."""
    pixels = np.random.default_rng(seed).integers(256, size=(side, side), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def shown(position, label, *votes, content=None):
    """A test image on which each predictor votes for a class with so many runs."""
    return ShownImage(
        position, label, tuple(Vote(*vote) for vote in votes), content or png(position)
    )


def fake_gallery():
    """A teacher of one run, and two methods of five: classes 0 to 3."""
    seeds = tuple(f"{k}" * 12 for k in range(5))
    predictors = (
        Predictor("teacher", "teacher", ("t" * 12,)),
        Predictor("kd", "tuned", seeds),
        Predictor("ce", "only", tuple(run[::-1] + "x" for run in seeds)),
    )
    groups = (
        ImageGroup("teacher right", 7, (shown(3, 3, (3, 1), (2, 4), (0, 5)),)),
        ImageGroup("both wrong", 1, (shown(5, 1, (2, 1), (2, 3), (1, 4)),)),
        ImageGroup("disagree", 0, ()),
    )
    return Gallery(LICENCE, 1000, predictors, groups)


def fake_test_set(channels=1, side=8, checksum="t" * 64):
    """Images whose pixels say which they are; the labels are never asked for."""
    images = torch.arange(IMAGES, dtype=torch.int64) % 17
    images = images.to(torch.uint8)[:, None, None, None].expand(-1, channels, side, side)
    return SimpleNamespace(name="digits", images=images, scale=16, checksum=checksum)


def finished(study, **changes):
    """Write that all runs of a made-up study have ended; its plan."""
    plan = replace(study.plan, complete=True, **changes)
    plan.dump(study.store.plan_path(plan.study))
    return plan
