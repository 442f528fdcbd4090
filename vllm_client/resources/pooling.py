"""``client.pooling``, ``client.classify``: what pooling models make of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, NoReturn, Optional

from .._request import refuse_positional, split, takes
from ..exceptions import InvalidResponseError
from ..params.pooling import ClassifyParams, PoolingParams
from ..types._json import JsonObject
from ..types.embedding import PoolingOutput, PoolingResponse
from ..types.scoring import ClassificationResponse
from ._base import Resource
from ._vectors import VectorResource, check_inputs, input_count, joined_usage

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Classify", "Pooling"]


class Pooling(VectorResource):
    """``POST /pooling``."""

    _PATH = "/pooling"
    _MEMBER = "data"
    # Base64 has no shape: the vectors of several tokens would come as one.
    _FORMATS = ("bytes", "float")

    @takes(PoolingParams)
    def create(
        self, *_: NoReturn, batch_size: Optional[int] = None, **params: Unpack[PoolingParams]
    ) -> PoolingResponse:
        """Compute the raw output of a pooling model for one or more inputs.

        Encodings and ``batch_size`` are as for :meth:`Embeddings.create`, but base64 is not
        requested by itself.

        Args:
            batch_size: The most inputs in one request, 1 or more.
            **params: The fields of :class:`~vllm_client.params.pooling.PoolingParams`, which
                documents each. The server's defaults apply to omitted fields.

        Returns:
            The outputs, one for each input in the order of the inputs. With
            ``encoding_format="base64"`` or ``"bytes_only"`` each is a flat list.

        Raises:
            TypeError: An argument is not a field, or there is no input.
            ValueError: The list of inputs is empty, ``batch_size`` is below 1, or a value cannot
                be JSON.
            APIStatusError: The server refused a request. A server without a pooling model has no
                such route: ``NotFoundError``.
            APIConnectionError: No complete response arrived.
            InvalidResponseError: An output is missing or cut off, or the response is not one of
                ``POST /pooling``.
        """
        if _:
            refuse_positional("create", "input=[…]")
        body, options = split("create", params, PoolingParams)
        check_inputs(body)
        answers = self._vectors(body, options, batch_size)
        values = [vector for answer in answers for vector in answer.values]
        raw = answers[0].raw
        return PoolingResponse(
            [PoolingOutput(index, vector) for index, vector in enumerate(values)],
            answers[0].model,
            joined_usage(answers),
            raw.get("id") or "",
            raw.get("created") or 0,
            raw,
        )


class Classify(Resource):
    """``POST /classify``."""

    @takes(ClassifyParams)
    def create(self, *_: NoReturn, **params: Unpack[ClassifyParams]) -> ClassificationResponse:
        """Classify one or more inputs.

        Args:
            **params: The fields of :class:`~vllm_client.params.pooling.ClassifyParams`, which
                documents each. The server's defaults apply to omitted fields.

        Returns:
            The classes, one for each input in the order of the inputs.

        Raises:
            TypeError: An argument is not a field, or there is no input.
            ValueError: The list of inputs is empty, or a value cannot be JSON.
            APIStatusError: The server refused the request. A server whose model does not classify
                has no such route: ``NotFoundError``.
            APIConnectionError: No complete response arrived.
            InvalidResponseError: A class is missing, or the response is not one of
                ``POST /classify``.
        """
        if _:
            refuse_positional("create", "input=[…]")
        body, options = split("create", params, ClassifyParams)
        check_inputs(body)
        answer = self._post("/classify", body, options, ClassificationResponse.from_raw)
        check_indexes([each.index for each in answer.data], input_count(body), answer.raw)
        return answer


def check_indexes(indexes: List[int], count: int, raw: JsonObject) -> None:
    """Check that a response has exactly one item for each input.

    Raises:
        InvalidResponseError: It has not.
    """
    if sorted(indexes) != list(range(count)):
        raise InvalidResponseError(
            f"the response has items for the inputs {indexes}, but there are {count} inputs",
            body=raw,
        )
