"""The shape of what `edgeship model compare --json` prints."""

from __future__ import annotations

from pydantic import Field

from edgeship.cli.shapes import Record


class ComparedModel(Record):
    """One of the two models."""

    path: str
    format: str
    precision: str
    bytes: int
    sha256: str
    operators: dict[str, int]
    parameters: int | None
    int8_share: float = Field(description="of the elements of all weight matrices, 0 to 1")


class WorstPart(Record):
    """The channel of a tensor that came out worst."""

    axis: int
    index: int
    sqnr_db: float = Field(description="against the channel's variance")
    share: float = Field(
        description="how much the channel varies (standard deviation), of what the one that varies most does; far "
        "below 1 it is nearly constant, and its SQNR says little"
    )


class LayerError(Record):
    """How far a tensor of b lies from that of a."""

    cosine: float
    sqnr_db: float = Field(description="signal to quantization noise, within ±200; 200: no difference")
    noise: float = Field(description="sum of squared differences over sum of squares of a")
    added: float = Field(
        description="part of the noise that this layer makes: its float form on b's own inputs is the measure"
    )
    max_abs: float
    range: list[float] = Field(description="least and greatest value of a")
    relative: float = Field(description="max_abs over the width of that range")
    worst_part: WorstPart | None
    nan_a: int = Field(description="numbers of a that are NaN or infinite")
    nan_b: int


class ComparedLayer(Record):
    """A layer of a and its partner in b."""

    name: str = Field(description="first tensor that it writes")
    label: str = Field(description="short name for people")
    operator: str
    shape: list[int] | None = Field(description="0 where a dimension is open")
    partner: str | None = Field(description="layer of b, null where there is none")
    partner_operator: str | None
    weight_bytes_a: int
    weight_bytes_b: int | None
    rank: int | None = Field(description="1 is the layer that adds most error; null where it was not measured")
    error: LayerError | None


class OnlyLayer(Record):
    """A layer of b without a partner in a."""

    name: str
    operator: str
    weight_bytes: int


class ClassChange(Record):
    """Samples that a took for one class and b for another."""

    a: int
    b: int
    samples: int
    right_a: int | None = Field(description="of them right in a; null without labels")
    right_b: int | None


class ComparedAnswers(Record):
    """What came of the same samples."""

    samples: int
    agreement: float
    right_a: float | None = Field(description="share of right answers; null without labels or class scores")
    right_b: float | None
    changes: list[ClassChange] = Field(description="most frequent first, at most 50")
    confusion_a: list[list[int]] | None = Field(description="[true class][answer]")
    confusion_b: list[list[int]] | None


class ModelCompare(Record):
    """Two models beside each other: sizes, layers, errors, answers."""

    a: ComparedModel
    b: ComparedModel
    looked_at_as: str | None = Field(description="format that layers were matched in; null: formats differ")
    samples: int = Field(description="0 without data")
    traced_samples: int = Field(description="whose inner tensors were looked at")
    layers: list[ComparedLayer] = Field(description="in the order of a")
    only_in_b: list[OnlyLayer]
    answers: ComparedAnswers | None
