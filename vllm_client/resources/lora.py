"""``client.lora``: the LoRA adapters of a running server."""

from __future__ import annotations

from typing import TYPE_CHECKING, List

from .._http.payload import Payload
from .._request import split, takes
from ..params import CallParams, RequestOptions
from ..types.model import Model
from ._base import Resource
from .models import Models

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Lora"]


class Lora(Resource):
    """``POST /v1/load_lora_adapter`` and ``POST /v1/unload_lora_adapter``.

    The server must run with ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``.
    """

    @takes(RequestOptions)
    def load(
        self,
        name: str,
        path: str,
        *,
        load_inplace: bool = False,
        **params: Unpack[RequestOptions],
    ) -> None:
        """Load an adapter. Then ``model=name`` uses it.

        Args:
            name: The name to serve it under.
            path: Its folder on the server, or its hub name.
            load_inplace: Replace a loaded adapter of this name.
            **params: ``extra_body``, ``extra_headers`` and ``timeout`` of this call.

        Raises:
            NotFoundError: There is no adapter at ``path``, or the route is not served.
            BadRequestError: An adapter of this name is loaded already.
            VllmError: The server refused the request, or no complete response arrived.
        """
        body, options = split("load", params, RequestOptions)
        body.update(lora_name=name, lora_path=path)
        if load_inplace:
            body["load_inplace"] = True
        self._content("POST", "load_lora_adapter", Payload.of_json(body), options, accept="*/*")

    @takes(RequestOptions)
    def unload(self, name: str, **params: Unpack[RequestOptions]) -> None:
        """Unload an adapter.

        Args:
            name: The name it is served under.
            **params: As for :meth:`load`.

        Raises:
            NotFoundError: No adapter of this name is loaded, or the route is not served.
            VllmError: As :meth:`load` does.
        """
        body, options = split("unload", params, RequestOptions)
        body["lora_name"] = name
        self._content("POST", "unload_lora_adapter", Payload.of_json(body), options, accept="*/*")

    @takes(CallParams)
    def list(self, **params: Unpack[CallParams]) -> List[Model]:
        """The loaded adapters: the models that have a parent.

        Args:
            **params: ``extra_headers`` and ``timeout`` of this call.

        Raises:
            VllmError: As ``client.models.list`` does.
        """
        models = Models(self._transport).list(**params)
        return [model for model in models if model.parent is not None]
