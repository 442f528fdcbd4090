"""The responses of ``POST /classify``, ``POST /score`` and ``POST /rerank``."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

from attrs import define, field

from .._shown import shown
from ._answer import ListAnswer
from .shared import JSONValue, Usage

__all__ = [
    "Classification",
    "ClassificationResponse",
    "RerankDocument",
    "RerankResponse",
    "RerankResult",
    "Score",
    "ScoreResponse",
]


@shown
@define
class Classification:
    """The class of one input.

    Attributes:
        index: The place of the input in the request, from 0.
        label: The name of the most likely class; None if the model names none.
        probs: The probability of each class.
        num_classes: The number of classes.
    """

    index: int
    label: Optional[str]
    probs: List[float]
    num_classes: int

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> Classification:
        """Read one object of ``data``.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: It is not a classification.
        """
        probs = [float(each) for each in raw["probs"]]
        if len(probs) != raw["num_classes"]:
            raise ValueError(f"{len(probs)} probabilities of {raw['num_classes']} classes")
        return cls(int(raw["index"]), raw["label"], probs, len(probs))


@shown
@define
class ClassificationResponse(ListAnswer):
    """The response of ``client.classify.create()``.

    Attributes:
        data: One classification for each input, in the order of the inputs.
        model: The name of the model.
        usage: The token counts.
        id: The id of the response.
        created: When the server answered, in seconds since 1970.
        raw: The decoded JSON as the server sent it.
    """

    data: List[Classification]
    model: str
    usage: Optional[Usage]
    id: str = ""
    created: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> ClassificationResponse:
        """Read a response.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: It has not the shape of its route.
        """
        data = [Classification.from_raw(each) for each in raw["data"]]
        return cls(
            sorted(data, key=lambda each: each.index),
            raw["model"],
            Usage.from_raw(raw.get("usage")),
            raw.get("id") or "",
            raw.get("created") or 0,
            dict(raw),
        )


@shown
@define
class Score:
    """How similar or relevant one pair is.

    Attributes:
        index: The place of the pair in the request, from 0.
        score: The score, greater for a better match. Its range depends on the model.
    """

    index: int
    score: float

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> Score:
        """Read one object of ``data``.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: It is not a score.
        """
        return cls(int(raw["index"]), float(raw["score"]))


@shown
@define
class ScoreResponse(ListAnswer):
    """The response of ``client.score.create()``.

    Attributes:
        data: One score for each pair, in the order of the pairs.
        model, usage, id, created, raw: As in :class:`ClassificationResponse`.
    """

    data: List[Score]
    model: str
    usage: Optional[Usage]
    id: str = ""
    created: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> ScoreResponse:
        """Read a response.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: It has not the shape of its route.
        """
        data = [Score.from_raw(each) for each in raw["data"]]
        return cls(
            sorted(data, key=lambda each: each.index),
            raw["model"],
            Usage.from_raw(raw.get("usage")),
            raw.get("id") or "",
            raw.get("created") or 0,
            dict(raw),
        )


@shown
@define
class RerankDocument:
    """A document as it was sent.

    Attributes:
        text: Its text; None if it has other media.
        multi_modal: Its parts, if it is more than a text.
    """

    text: Optional[str] = None
    multi_modal: Optional[List[JSONValue]] = None


@shown
@define
class RerankResult:
    """One document in the order of relevance.

    Attributes:
        index: The place of the document in the request, from 0.
        relevance_score: Its score, greater for a better match. Its range depends on the model.
        document: The document.
    """

    index: int
    relevance_score: float
    document: RerankDocument

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> RerankResult:
        """Read one object of ``results``.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: It is not a result.
        """
        document = raw.get("document") or {}
        return cls(
            int(raw["index"]),
            float(raw["relevance_score"]),
            RerankDocument(document.get("text"), document.get("multi_modal")),
        )


@shown
@define
class RerankResponse(ListAnswer):
    """The response of ``client.rerank.create()``.

    Attributes:
        results: The documents, best first.
        model: The name of the model.
        usage: The token counts.
        id: The id of the response.
        raw: The decoded JSON as the server sent it.
    """

    _list_name = "results"

    results: List[RerankResult]
    model: str
    usage: Optional[Usage]
    id: str = ""
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> RerankResponse:
        """Read a response.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: It has not the shape of its route.
        """
        results = [RerankResult.from_raw(each) for each in raw["results"]]
        return cls(
            sorted(results, key=lambda each: -each.relevance_score),
            raw["model"],
            Usage.from_raw(raw.get("usage")),
            raw.get("id") or "",
            dict(raw),
        )
