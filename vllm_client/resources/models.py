"""``client.models``: what the server serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, List

from .._request import split, takes
from ..exceptions import InvalidResponseError, ModelNotFoundError
from ..params import CallParams
from ..types._json import JsonObject
from ..types.model import Model
from ._base import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Models"]


class Models(Resource):
    """``GET /v1/models``."""

    @takes(CallParams)
    def list(self, **params: Unpack[CallParams]) -> List[Model]:
        """All served models and loaded adapters, in the server's order.

        Args:
            **params: ``extra_headers`` and ``timeout`` of this call.

        Raises:
            APIStatusError: The server refused the request.
            APIConnectionError: No complete response arrived.
            InvalidResponseError: The response is not one of ``GET /v1/models``.
        """
        _, options = split("list", params, CallParams)
        return self._get("models", options, _models)

    @takes(CallParams)
    def retrieve(self, id: str, **params: Unpack[CallParams]) -> Model:  # noqa: A002 — as elsewhere
        """The model or adapter of this name, looked up in the list: vLLM has no route for one.

        Args:
            id: Its name.
            **params: As for :meth:`list`.

        Raises:
            ModelNotFoundError: The server serves none of this name; the message lists the names.
            VllmError: As for :meth:`list`.
        """
        models = self.list(**params)
        for model in models:
            if model.id == id:
                return model
        names = ", ".join(repr(model.id) for model in models)
        raise ModelNotFoundError(
            f"the server has no model {id!r}; it serves {names}", status_code=404, param="model"
        )

    @takes(CallParams)
    def default(self, **params: Unpack[CallParams]) -> Model:
        """The model that answers a request without ``model``: the first of the list.

        Args:
            **params: As for :meth:`list`.

        Raises:
            VllmError: As for :meth:`list`.
        """
        models = self.list(**params)
        if not models:
            raise InvalidResponseError("the server lists no model")
        return models[0]


# Not ``list``: inside the class that name is the method.
def _models(raw: JsonObject) -> List[Model]:
    return [Model.from_raw(each) for each in raw["data"]]
