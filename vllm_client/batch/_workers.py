"""The threads of a run: each takes a job, makes one attempt, and hands the job back."""

from __future__ import annotations

import contextlib
import queue
import threading
from time import perf_counter
from typing import List, Optional, Union

from .._http.payload import JSON, Payload
from .._http.transport import CallOptions, Transport
from ..exceptions import APIConnectionError, APIStatusError, VllmError
from ..timeouts import Timeout
from ..types._parsed import parse_choices
from ._rows import Job

_PROBE_TIMEOUT = Timeout(connect=5.0, read=10.0, total=15.0)


class Probe:
    """Asks whether the server is there; handed out and back as a job is."""

    def __init__(self) -> None:
        self.is_up = False


Work = Union[Job, Probe]


class Workers:
    """The threads of one run. All methods but :meth:`wake` are for the thread that decides.

    Args:
        transport: The server.
        options: Headers and time limits of each call.
    """

    def __init__(self, transport: Transport, options: CallOptions) -> None:
        # A copy of its own: closing it ends the calls of this run and no others.
        self._transport = transport.without_retries()
        self._options = options
        self._threads: List[threading.Thread] = []
        self._to_send: queue.SimpleQueue[Optional[Work]] = queue.SimpleQueue()
        self._handed_back: queue.SimpleQueue[Optional[Work]] = queue.SimpleQueue()

    @property
    def count(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    @property
    def has_more_ready(self) -> bool:
        """Whether something has been handed back already."""
        return not self._handed_back.empty()

    def add(self) -> bool:
        """Start another thread. Returns whether the system had one more.

        Raises:
            APIConnectionError: There can be none at all.
        """
        thread = threading.Thread(target=self._work, name="vllm_client-batch", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._threads:
                raise APIConnectionError(f"no thread can be started for the run: {error}") from None
            return False
        self._threads.append(thread)
        return True

    def hand_out(self, work: Work) -> None:
        """Have it done by the next thread that is free."""
        self._to_send.put(work)

    def take_back(self, timeout: Optional[float]) -> Optional[Work]:
        """Wait for what is done; None after ``timeout`` seconds, or :meth:`wake`."""
        try:
            return self._handed_back.get(timeout=timeout)
        except queue.Empty:
            return None

    def wake(self) -> None:
        """End a :meth:`take_back` that waits, from any thread."""
        self._handed_back.put(None)

    def close(self) -> None:
        """Close the connections of the requests in flight, and end the threads."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._to_send.get_nowait()
        for _ in self._threads:
            self._to_send.put(None)
        for thread in self._threads:
            while thread.is_alive():
                # Again and again: a thread may have been about to open its call.
                self._transport.session.close(self._transport)
                thread.join(0.02)
        self._threads.clear()

    def _work(self) -> None:
        while True:
            job = self._to_send.get()
            if job is None:
                return
            try:
                if isinstance(job, Probe):
                    job.is_up = self._is_up()
                else:
                    self._attempt(job)
            finally:
                self._handed_back.put(job)

    def _attempt(self, job: Job) -> None:
        job.sent_at = perf_counter()
        try:
            if job.perform is not None:
                job.response = job.perform(self._transport)
            else:
                self._request(job)
        except BaseException as error:  # noqa: BLE001 — raised by the iterator, or the row's error
            job.error = error
        job.ended_at = perf_counter()

    def _request(self, job: Job) -> None:
        route = job.route
        assert route is not None
        whole = self._transport.fetch(
            "POST",
            self._transport.url(route.path),
            Payload(job.content, JSON, job.body),
            options=self._options,
        )
        with whole.redacting():
            job.received = whole.content
            job.request_id = whole.headers.get("x-request-id")
            job.response = route.decode(job.received, job.body)
            if job.answer_type is not None:
                parse_choices(job.response, job.answer_type)

    def _is_up(self) -> bool:
        url = self._transport.url("/health")
        options = CallOptions(_PROBE_TIMEOUT, self._options.extra_headers)
        try:
            self._transport.open("GET", url, options=options).close()
        except APIStatusError as error:
            return error.status_code < 500  # A gateway may not have the route.
        except VllmError:
            return False
        return True
