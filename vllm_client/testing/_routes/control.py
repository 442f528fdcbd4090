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

__all__ = ["Control"]

_MODES = ("abort", "wait", "keep")
_STEP = 0.05


class Control:
    """Whether the server sleeps or is paused. Meanwhile requests for text wait."""

    def __init__(self) -> None:
        self.is_sleeping = False
        self.is_paused = False
        self._changed = threading.Condition()

    def wait_until_running(self, closing: threading.Event) -> None:
        """Wait until the server neither sleeps nor is paused, or closes."""
        with self._changed:
            while (self.is_sleeping or self.is_paused) and not closing.is_set():
                self._changed.wait(_STEP)

    def _set(self, *, sleeping: bool | None = None, paused: bool | None = None) -> None:
        with self._changed:
            self.is_sleeping = self.is_sleeping if sleeping is None else sleeping
            self.is_paused = self.is_paused if paused is None else paused
            self._changed.notify_all()

    def sleep(self, request: RecordedRequest) -> Reply:
        """``POST /sleep``."""
        query = _query(request)
        level = int(query.get("level", ["1"])[0])
        _check_mode(query)
        self._set(sleeping=True)
        return json_reply({"status": "sleeping", "level": level})

    def wake_up(self, request: RecordedRequest) -> Reply:
        """``POST /wake_up``."""
        self._set(sleeping=False)
        return json_reply({"status": "awake", "tags": _query(request).get("tags")})

    def pause(self, request: RecordedRequest) -> Reply:
        """``POST /pause``."""
        _check_mode(_query(request))
        self._set(paused=True)
        return json_reply({"status": "paused"})

    def resume(self, _: RecordedRequest) -> Reply:
        """``POST /resume``."""
        self._set(paused=False)
        return json_reply({"status": "resumed"})

    def state(self, name: str) -> Reply:
        """``GET /is_sleeping`` and ``GET /is_paused``."""
        return json_reply({name: getattr(self, name)})


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


def _check_mode(query: Mapping[str, list[str]]) -> None:
    mode = query.get("mode", ["abort"])[0]
    if mode not in _MODES:
        raise RefusalError(f"Invalid pause mode '{mode}'")
