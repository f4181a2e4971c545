"""What all parts of a study file have in common, and the types of their values."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from kdbench.methods import METHODS
from kdbench.study.fields import cite_key, number, one_of, readable, safe_name, seeds
from kdbench.study.model_names import model_name
from kdbench.study.weights_files import weights_file

Name = Annotated[str, BeforeValidator(safe_name)]
Number = Annotated[float, BeforeValidator(number)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0)]
NotNegative = Annotated[float, BeforeValidator(number), Field(ge=0)]
BelowOne = Annotated[float, BeforeValidator(number), Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(seeds)]
Count = Annotated[int, Field(ge=1, lt=2**31, strict=True)]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]
Prose = Annotated[str, AfterValidator(readable)]
NOT_BLANK = r"\S"
Text = Annotated[Prose, Field(pattern=NOT_BLANK)]
CiteKey = Annotated[str, BeforeValidator(cite_key)]
ModelName = Annotated[str, BeforeValidator(model_name)]
WeightsFile = Annotated[str, BeforeValidator(weights_file)]
Precision = Annotated[str, one_of("precision", ("fp32", "bf16"))]
MethodKey = Annotated[str, one_of("method", METHODS)]


class Part(BaseModel):
    """A part of a study file. Unknown keys are errors; a part cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
