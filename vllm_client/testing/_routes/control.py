"""The routes that change the server: sleep, pause, adapters, caches."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from urllib.parse import parse_qs

from .._engine.engine import Engine
from .._wire.json_types import JsonObject
from .._wire.refusals import RefusalError, field_error, validation_error
from .._wire.replies import Reply, json_reply
from .._wire.request_fields import decode_body
from ..recorded import RecordedRequest
from .running import Running

__all__ = ["Control"]

_MODES = ("abort", "wait", "keep")
_STEP = 0.05


class Control:
    """Whether the server sleeps or is paused, and the requests that it works on.

    While it sleeps or is paused, new requests for text wait, as in vLLM 0.32.
    """

    def __init__(self) -> None:
        self.is_sleeping = False
        self.is_paused = False
        self._running: list[Running] = []
        self._changed = threading.Condition()

    def admit(self, closing: threading.Event) -> Running:
        """A request for text begins, as soon as the server neither sleeps nor is paused."""
        running = Running()
        with self._changed:
            while (self.is_sleeping or self.is_paused) and not closing.is_set():
                self._changed.wait(_STEP)
            self._running.append(running)
        return running

    def leave(self, running: Running) -> None:
        """The request has ended."""
        with self._changed:
            self._running.remove(running)
            self._changed.notify_all()

    def sleep(self, request: RecordedRequest) -> Reply:
        """``POST /sleep``."""
        query = _query(request)
        level = int(query.get("level", ["1"])[0])
        mode = _checked_mode(query)
        with self._changed:
            self.is_sleeping = True
            self._stop(mode)
        return json_reply({"status": "sleeping", "level": level})

    def wake_up(self, request: RecordedRequest) -> Reply:
        """``POST /wake_up``."""
        with self._changed:
            self.is_sleeping = False
            self._go_on()
        return json_reply({"status": "awake", "tags": _query(request).get("tags")})

    def pause(self, request: RecordedRequest) -> Reply:
        """``POST /pause``."""
        mode = _checked_mode(_query(request))
        with self._changed:
            self.is_paused = True
            self._stop(mode)
        return json_reply({"status": "paused"})

    def resume(self, _: RecordedRequest) -> Reply:
        """``POST /resume``."""
        with self._changed:
            self.is_paused = False
            self._go_on()
        return json_reply({"status": "resumed"})

    def state(self, name: str) -> Reply:
        """``GET /is_sleeping`` and ``GET /is_paused``."""
        return json_reply({name: getattr(self, name)})

    def abort(self, request: RecordedRequest) -> Reply:
        """``POST /abort_requests``. Without ids, all requests are aborted."""
        body = request.json
        ids = body.get("request_ids") if isinstance(body, Mapping) else None
        with self._changed:
            for running in self._running:
                if not ids or any(running.has_id(str(id_)) for id_ in ids):
                    running.is_aborted = True
        return Reply()

    def _stop(self, mode: str) -> None:
        if mode == "wait":
            self._changed.wait_for(lambda: not self._running)
        for running in self._running:
            running.is_aborted = running.is_aborted or mode == "abort"
            running.is_held = mode == "keep"

    def _go_on(self) -> None:
        if not (self.is_sleeping or self.is_paused):
            for running in self._running:
                running.is_held = False
        self._changed.notify_all()


def load_adapter(engine: Engine, request: RecordedRequest) -> Reply:
    """``POST /v1/load_lora_adapter``."""
    body = _fields(request, "lora_name", "lora_path")
    name, path = str(body["lora_name"]), str(body["lora_path"])
    if name in engine.adapters and not body.get("load_inplace"):
        message = f"The lora adapter '{name}' has already been loaded."
        raise RefusalError(message, error_type="InvalidUserInput")
    if "no-such" in path:
        message = f"Loading lora {name} failed: No adapter found for {path}"
        raise RefusalError(message, status=404)
    engine.adapters[name] = path
    return _plain(f"Success: LoRA adapter '{name}' added successfully.")


def unload_adapter(engine: Engine, request: RecordedRequest) -> Reply:
    """``POST /v1/unload_lora_adapter``."""
    name = str(_fields(request, "lora_name")["lora_name"])
    if engine.adapters.pop(name, None) is None:
        raise RefusalError(f"The lora adapter '{name}' cannot be found.", status=404)
    return _plain(f"Success: LoRA adapter '{name}' removed successfully.")


def _plain(text: str) -> Reply:
    return Reply(200, text.encode(), None)


def _fields(request: RecordedRequest, *names: str) -> JsonObject:
    body = decode_body(request.headers.get("Content-Type", ""), request.body)
    shown = f"<dict of {len(body)} items>"
    missing = [name for name in names if name not in body]
    if missing:
        errors = [
            field_error("missing", f"body.{name}", "Field required", shown) for name in missing
        ]
        raise validation_error(errors)
    return body


def _query(request: RecordedRequest) -> dict[str, list[str]]:
    return parse_qs(request.query)


def _checked_mode(query: Mapping[str, list[str]]) -> str:
    mode = query.get("mode", ["abort"])[0]
    if mode not in _MODES:
        raise RefusalError(f"Invalid pause mode '{mode}'")
    return mode
