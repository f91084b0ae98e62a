"""What the API takes and answers, as its OpenAPI describes it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

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


class Activations(BaseModel):
    """What each layer of the network gave."""

    hidden: list[list[float]] = Field(description="Of each hidden layer, after ReLU: 0 or above.")
    logits: Annotated[list[float], Ten] = Field(description="Before softmax.")


class Evidence(BaseModel):
    """Which pixels spoke for a digit and which against it: gradient × input."""

    label: Digit = Field(description="The most probable digit, also when it is rejected.")
    rival: Digit | None = Field(description="Null: the mean of the other nine.")
    pixels: Annotated[list[Annotated[list[float], Side]], Side] = Field(
        description="What each pixel adds to the difference; below 0 it speaks for the rival."
    )
    bias: float = Field(description="What the biases add.")
    difference: float = Field(description="Of the logits: the sum of all pixels and the bias.")


class Answer(BaseModel):
    """What was read from one picture."""

    status: Literal["ok", "rejected"]
    label: Digit | None = Field(description="Null if rejected.")
    confidence: Share = Field(description="The largest probability.")
    probabilities: Annotated[list[Share], Ten] = Field(description="Of 0 … 9.")
    reason: str = Field(description="Why it is rejected, or what to know of it; or empty.")
    width: int = Field(ge=1, description="Of the picture, upright.")
    height: int = Field(ge=1)
    pixels: Annotated[list[Annotated[list[Level], Side]], Side] = Field(
        description="What the network saw: white ink on black."
    )
    activations: Activations | None = Field(None, description="There if asked for.")
    evidence: Evidence | None = Field(None, description="There if asked for.")


class Model(BaseModel):
    """Which network reads here, and what its weights file says of it."""

    layer_sizes: list[int]
    parameters: int = Field(description="How many weights and biases it has.")
    dataset: str
    recipe: str
    seed: int
    created: str
    validation_accuracy: Share | None
    test_accuracy: Share | None
    preprocessing_version: int
    temperature: float
    threshold: Share = Field(description="What is read with less confidence is rejected.")
    nnpipe: str = Field(description="The version of nnpipe.")


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """Why a request was refused, in a sentence."""

    detail: str


REFUSALS = {
    400: "The body is no JSON.",
    408: "The body did not arrive in time.",
    413: "The body or the picture is too large.",
    415: "The body is not a picture in a format that is read.",
    421: "The Host header has a name that the server does not answer to.",
    422: "A damaged picture, an array that is none, or a parameter out of its range.",
    429: "Too many requests are under way; come again.",
    503: "All readers are busy; come again.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why} for status, why in REFUSALS.items()
}

KINDS = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
BODY = {
    "required": True,
    "description": "A picture's bytes, whatever type is declared; or, as JSON, rows of brightness, "
    "0 to 255, or 784 such numbers as 28 rows.",
    "content": {
        "application/json": {"schema": TypeAdapter(Rows | Flat).json_schema()},
        **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in KINDS},
    },
}
