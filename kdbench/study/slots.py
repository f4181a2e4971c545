"""The networks that a study names: its student, its teacher, and those of single methods."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kdbench.methods.networks import TEACHER
from kdbench.study.model_names import MODEL_KEYS
from kdbench.study.part import MethodKey, ModelName, Number, Part, Positive, Seed, WeightsFile
from kdbench.study.pretrained import pretrained


class Slot(Part):
    """A model for one of the study's slots; in a file, `options` and `layers` stand beside it."""

    model: ModelName

    @model_validator(mode="before")
    @classmethod
    def _whole_name(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or not MODEL_KEYS & set(raw):
            return raw
        rest = {key: value for key, value in raw.items() if key not in MODEL_KEYS}
        return {**rest, "model": {key: raw[key] for key in raw if key in MODEL_KEYS}}


class Normalise(Part):
    """What is taken from each channel of images from 0 to 1, and what it is then divided by."""

    mean: Annotated[tuple[Number, ...], Field(min_length=1)]
    std: Annotated[tuple[Positive, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_for_each(self) -> "Normalise":
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} values in mean and {len(self.std)} in std")
        return self


class Teacher(Slot):
    """The teacher: a run like any other. `seed: per-seed` gives each seed its own. It learns
    from the labels that the students have; with `labelled: all` from those of all images. With
    `weights`, a file or `pretrained`, it is not trained here, and `normalise` says how its images
    were. It sees images of `size` pixels a side, where that is given."""

    method: MethodKey = TEACHER.method
    seed: Seed | Literal["per-seed"] = 0
    weights: WeightsFile | None = None
    labelled: Literal["all"] | None = None
    size: Annotated[int, Field(ge=4, le=1024, strict=True)] | None = None
    normalise: Normalise | None = None

    @model_validator(mode="before")
    @classmethod
    def _published(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or raw.get("weights") != "pretrained":
            return raw
        given = pretrained(raw.get("model"))
        own = {"mean": given.mean, "std": given.std}
        return {"normalise": own, **raw, "weights": str(given.path)}
