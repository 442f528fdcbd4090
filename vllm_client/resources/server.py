"""``client.server``: the server itself: is it there, how is it, what shall it do."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Literal,
    Mapping,
    Optional,
    Sequence,
    Type,
    TypeVar,
    Union,
    overload,
)

from .._http.payload import Payload
from .._request import split, takes
from ..exceptions import APIConnectionError, APIStatusError
from ..params import CallParams
from ..types._json import JsonObject
from ._base import Query, Resource
from ._metrics import families
from ._ready import ShowProgress, brief, wait_until_ready

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Server"]

K = TypeVar("K")
PauseMode = Literal["abort", "wait", "keep"]


class Server(Resource):
    """``/health``, ``/version``, ``/metrics``, ``/sleep`` and their like.

    From :meth:`info` on, the server must run with ``VLLM_SERVER_DEV_MODE=1``.
    """

    @takes(CallParams)
    def health(self, **params: Unpack[CallParams]) -> bool:
        """Whether the server is there and its engine lives; ``GET /health``. Asks only once.

        Returns:
            False for 5xx, and if nothing answers (within 15 s, unless ``timeout`` is set).

        Args:
            **params: ``extra_headers`` and ``timeout`` of this call.

        Raises:
            APIStatusError: Something else answers there, with another error.
            APIConnectionError: The client is closed, or its settings fit no server there, such as
                a certificate that it does not trust.
        """
        params.setdefault("timeout", brief(self._transport.timeout))
        try:
            self._once("/health", params)
        except APIConnectionError as error:
            if self._transport.session.is_closed or not error.is_retryable:
                raise
            return False
        except APIStatusError as error:
            if error.status_code < 500:
                raise
            return False
        return True

    def wait_until_ready(
        self,
        timeout: Optional[float] = 600.0,
        *,
        pid: Optional[int] = None,
        progress: ShowProgress = None,
    ) -> None:
        """Wait until the server can answer, for scripts that have just started it.

        Args:
            timeout: Seconds to wait, above 0; None for no limit.
            pid: The process of the server: when it has ended, so does the waiting, also if another
                server answers at the address. Not on Windows.
            progress: True prints to stderr what it waits for, whenever that changes; or a function
                that takes this text.

        Raises:
            APITimeoutError: The server was not ready in time; the message says what it waited for.
            APIConnectionError: The process ``pid`` has ended, the client was closed, or no
                connection is possible with its settings, such as its certificates.
            ValueError: ``timeout`` or ``pid`` is out of range.
            APIStatusError: Something answers that will not become ready, such as with 401 or 404.
        """
        wait_until_ready(self._transport, timeout, pid, progress)

    @takes(CallParams)
    def version(self, **params: Unpack[CallParams]) -> str:
        """VLLM's version, such as ``"0.32.0"``; ``GET /version``.

        Args:
            **params: ``extra_headers`` and ``timeout`` of this call.

        Raises:
            VllmError: The server refused the request, or no complete response arrived.
        """
        return self._field("version", "/version", "version", str, params)

    @takes(CallParams)
    def load(self, **params: Unpack[CallParams]) -> int:
        """How many requests the server works on; ``GET /load``.

        Always 0 unless the server runs with ``--enable-server-load-tracking``.

        Args:
            **params: As for :meth:`version`.
        """
        return self._field("load", "/load", "server_load", int, params)

    @overload
    def metrics(
        self, *, raw: Literal[False] = ..., **params: Unpack[CallParams]
    ) -> Mapping[str, Any]: ...

    @overload
    def metrics(self, *, raw: Literal[True], **params: Unpack[CallParams]) -> str: ...

    @takes(CallParams)
    def metrics(self, *, raw: bool = False, **params: Any) -> Union[str, Mapping[str, Any]]:
        """The server's metrics; ``GET /metrics``.

        Args:
            raw: Return the text in Prometheus' format, which needs no extra.
            **params: As for :meth:`version`.

        Returns:
            The families by name, as prometheus_client parses them (``.samples``, ``.type``, …).

        Raises:
            ImportError: prometheus_client is missing: ``pip install vllm-sync-client[metrics]``.
            VllmError: As :meth:`version` does.
        """
        _, options = split("metrics", params, CallParams)
        content, _ = self._content("GET", "/metrics", Payload(), options, accept="text/plain")
        text = content.decode("utf-8", "replace")
        return text if raw else families(text)

    @takes(CallParams)
    def info(self, **params: Unpack[CallParams]) -> Dict[str, Any]:
        """The server's settings, as JSON; ``GET /server_info``.

        Args:
            **params: As for :meth:`version`.
        """
        _, options = split("info", params, CallParams)
        return self._get("/server_info", options, dict, params={"config_format": "json"})

    @takes(CallParams)
    def sleep(
        self,
        level: int = 1,
        *,
        mode: Optional[PauseMode] = None,
        **params: Unpack[CallParams],
    ) -> None:
        """Free the memory of the GPU; ``POST /sleep``.

        Args:
            level: 0 only pauses; 1 keeps the weights in the memory of the host; 2 drops them.
            mode: What happens to running requests: ``"abort"``, ``"wait"`` for their end, or
                ``"keep"`` them for later. The default is the server's.
            **params: As for :meth:`version`.
        """
        self._command("sleep", "/sleep", {"level": level, "mode": mode}, params)

    @takes(CallParams)
    def wake_up(self, tags: Sequence[str] = (), **params: Unpack[CallParams]) -> None:
        """End the sleep; ``POST /wake_up``.

        Args:
            tags: What to wake, such as ``["weights"]`` or ``["kv_cache"]``; nothing means all.
            **params: As for :meth:`version`.
        """
        self._command("wake_up", "/wake_up", {"tags": list(tags) or None}, params)

    @takes(CallParams)
    def is_sleeping(self, **params: Unpack[CallParams]) -> bool:
        """Whether the server sleeps; ``GET /is_sleeping``.

        Args:
            **params: As for :meth:`version`.
        """
        return self._field("is_sleeping", "/is_sleeping", "is_sleeping", bool, params)

    @takes(CallParams)
    def pause(self, *, mode: Optional[PauseMode] = None, **params: Unpack[CallParams]) -> None:
        """Stop generating, without freeing memory; ``POST /pause``, since vLLM 0.12.

        Args:
            mode: As for :meth:`sleep`.
            **params: As for :meth:`version`.
        """
        self._command("pause", "/pause", {"mode": mode}, params)

    @takes(CallParams)
    def resume(self, **params: Unpack[CallParams]) -> None:
        """Go on generating; ``POST /resume``.

        Args:
            **params: As for :meth:`version`.
        """
        self._command("resume", "/resume", {}, params)

    @takes(CallParams)
    def is_paused(self, **params: Unpack[CallParams]) -> bool:
        """Whether the server is paused; ``GET /is_paused``.

        Args:
            **params: As for :meth:`version`.
        """
        return self._field("is_paused", "/is_paused", "is_paused", bool, params)

    @takes(CallParams)
    def abort(self, request_ids: Sequence[str], **params: Unpack[CallParams]) -> None:
        """Abort requests of any client; ``POST /abort_requests``, since vLLM 0.16.

        Args:
            request_ids: Their ids with prefix and prompt number, such as ``"cmpl-abc-0"``. The
                server takes an empty list for all requests, so this method refuses one.
            **params: As for :meth:`version`.

        Raises:
            ValueError: There are no ids.
        """
        if isinstance(request_ids, str) or not request_ids:
            raise ValueError(
                "request_ids must be a list of ids: without any, the server aborts all requests"
            )
        _, options = split("abort", params, CallParams)
        payload = Payload.of_json({"request_ids": list(request_ids)})
        self._content("POST", "/abort_requests", payload, options, accept="*/*")

    @takes(CallParams)
    def reset_prefix_cache(self, **params: Unpack[CallParams]) -> bool:
        """Empty the prefix cache; ``POST /reset_prefix_cache``.

        Args:
            **params: As for :meth:`version`.

        Returns:
            Whether it was emptied; it is not while requests run.
        """
        content = self._command("reset_prefix_cache", "/reset_prefix_cache", {}, params)
        return b"false" not in content  # Older servers answer with an empty body.

    @takes(CallParams)
    def reset_mm_cache(self, **params: Unpack[CallParams]) -> None:
        """Empty the cache of images and other media; ``POST /reset_mm_cache``.

        Args:
            **params: As for :meth:`version`.
        """
        self._command("reset_mm_cache", "/reset_mm_cache", {}, params)

    def _once(self, path: str, params: Any) -> None:
        _, options = split(path.strip("/"), params, CallParams)
        self._without_retries()._content("GET", path, Payload(), options, accept="*/*")

    def _without_retries(self) -> Server:
        return type(self)(self._transport.without_retries())

    def _field(self, method: str, path: str, name: str, kind: Type[K], params: Any) -> K:
        _, options = split(method, params, CallParams)

        def from_raw(raw: JsonObject) -> K:
            value = raw[name]
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be {kind.__name__}, not {value!r}")
            return value

        return self._get(path, options, from_raw)

    def _command(self, method: str, path: str, query: Query, params: Any) -> bytes:
        _, options = split(method, params, CallParams)
        given = {name: value for name, value in query.items() if value is not None}
        content, _ = self._content("POST", path, Payload(), options, accept="*/*", params=given)
        return content
