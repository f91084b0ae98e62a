"""What the API takes and returns, for its OpenAPI description."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from nnpipe.errors import SettingError
from nnpipe.numbers.constraints import MOST_DIGITS, wanted
from nnpipe.preprocess import SIDE

Digit = Annotated[int, Field(ge=0, le=9)]
Share = Annotated[float, Field(ge=0, le=1)]
Ten = Field(min_length=10, max_length=10)
Side = Field(min_length=SIDE, max_length=SIDE)
Some = Field(min_length=1)
Level = Annotated[int, Field(ge=0, le=255)]
Brightness = Annotated[float, Field(ge=0, le=255)]
Rows = Annotated[list[Annotated[list[Brightness], Some]], Some]
Flat = Annotated[list[Brightness], Field(min_length=SIDE * SIDE, max_length=SIDE * SIDE)]


def _check_length(text: str) -> str:
    try:
        wanted(text)
    except SettingError:
        expected = f"expected any, 4 or 2-6, and at most {MOST_DIGITS} digits"
        raise PydanticCustomError("digits", expected) from None
    return text


Length = Annotated[
    str,
    AfterValidator(_check_length),
    Field(json_schema_extra={"pattern": r"^\s*(any|[0-9]+(-[0-9]+)?)\s*$"}),
]


class Options(BaseModel):
    """What a request asks for."""

    digits: Length | None = Field(
        None,
        description="Read a number with this many digits: any, 4 or 2-6. By default, read one "
        "digit. The other options are for one digit.",
    )
    activations: bool = Field(False, description="Add the output of each layer.")
    evidence: bool = Field(False, description="Add the pixels for and against.")
    rival: Digit | None = Field(
        None, description="Compare with this digit; by default, with all others."
    )


class Activations(BaseModel):
    """The outputs of the layers."""

    hidden: list[list[float]] = Field(description="Of each hidden layer, after ReLU; at least 0.")
    logits: Annotated[list[float], Ten] = Field(description="Before softmax.")


class Evidence(BaseModel):
    """The pixels for and against a digit: gradient × input."""

    label: Digit = Field(description="The most probable digit, also when it is rejected.")
    rival: Digit | None = Field(description="Null: the mean of the other nine.")
    pixels: Annotated[list[Annotated[list[float], Side]], Side] = Field(
        description="What each pixel adds to the difference; negative values are for the rival."
    )
    bias: float = Field(description="What the biases add to the difference.")
    difference: float = Field(description="Between the logits: the sum of the pixels and the bias.")


class Answer(BaseModel):
    """The reading of a picture."""

    status: Literal["ok", "rejected"]
    label: Digit | None = Field(description="Null if rejected.")
    confidence: Share = Field(description="The largest probability.")
    probabilities: Annotated[list[Share], Ten] = Field(description="Of 0 … 9.")
    reason: str = Field(description="Why it is rejected, or a note; or empty.")
    width: int = Field(ge=1, description="Of the upright picture.")
    height: int = Field(ge=1)
    pixels: Annotated[list[Annotated[list[Level], Side]], Side] = Field(
        description="What the network sees: white ink on black."
    )
    activations: Activations | None = Field(None, description="If requested.")
    evidence: Evidence | None = Field(None, description="If requested.")


class NumberDigit(BaseModel):
    """A digit of a number, and the box around its ink, in pixels of the upright picture."""

    digit: Digit
    probability: Share = Field(description="Of this digit alone.")
    left: float
    top: float
    right: float
    bottom: float


class NumberAnswer(BaseModel):
    """The reading of a number, if the request has `digits`."""

    status: Literal["ok", "rejected"]
    label: str | None = Field(description='The digits, such as "007". Null if rejected.')
    confidence: Share = Field(description="Of the whole number.")
    second: str | None = Field(description="The second most probable number.")
    second_confidence: Share | None
    reason: str = Field(description="Why it is rejected, or a note; or empty.")
    width: int = Field(ge=1, description="Of the upright picture.")
    height: int = Field(ge=1)
    digits: list[NumberDigit] = Field(description="From left to right. Empty if rejected.")


class ServedNetwork(BaseModel):
    """The network that reads the pictures, as its weights file describes it."""

    layer_sizes: list[int]
    parameters: int = Field(description="Number of weights and biases.")
    dataset: str
    recipe: str
    seed: int
    created: str
    validation_accuracy: Share | None
    test_accuracy: Share | None
    preprocessing_version: int
    temperature: float
    threshold: Share = Field(description="Answers with less confidence are rejected.")
    nnpipe: str = Field(description="The version of nnpipe.")


class Health(BaseModel):
    """The server is running."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """Why a request is refused, in one sentence."""

    detail: str


REFUSALS = {
    400: "The body is not JSON, or incomplete.",
    408: "The body did not arrive in time.",
    413: "The body or the picture is too large.",
    415: "The body is not a picture in a known format.",
    421: "The server does not answer to the name in the Host header.",
    422: "The picture is damaged, the array is not valid, or a parameter is out of its range.",
    429: "The server has too many requests; try again.",
    503: "All readers are busy; try again.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why} for status, why in REFUSALS.items()
}

KINDS = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
BODY = {
    "required": True,
    "description": "The bytes of a picture, with any declared type; or, as JSON, rows of "
    "brightness from 0 to 255, or 784 such numbers for 28 rows.",
    "content": {
        "application/json": {"schema": TypeAdapter(Rows | Flat).json_schema()},
        **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in KINDS},
    },
}
