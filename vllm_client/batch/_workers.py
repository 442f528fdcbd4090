"""How the jobs of a run are sent: one attempt at each, by the thread that decides or by others."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from time import perf_counter
from typing import Deque, List, Optional, Set, Union

from attrs import define

from .._http.launched import Launched, Poller
from .._http.payload import JSON, Payload
from .._http.response import WholeResponse
from .._http.transport import CallOptions, Transport
from ..exceptions import APIConnectionError, APIStatusError, VllmError
from ..timeouts import Timeout
from ..types._answer import timed
from ..types._parsed import parse_choices
from ._rows import Job

_PROBE_TIMEOUT = Timeout(connect=5.0, read=10.0, total=15.0)


class Probe:
    """Asks whether the server is there; handed out and back as a job is."""

    def __init__(self) -> None:
        self.is_up = False


@define(eq=False)
class _Connecting:
    """A job that can be launched once there is another connection.

    Attributes:
        times: How often one was opened for it, with this time.
        is_connected: Whether there is one; else the request is made in the longer way.
    """

    job: Job
    times: int
    is_connected: bool = False


Done = Union[Job, Probe]
Work = Union[Job, Probe, Launched, _Connecting]
_MOST_CONNECTING = 16
"""Connections that are opened at once. More threads would only wait for the interpreter."""
_MOST_TIMES = 3
"""Connections opened for one job, if other jobs take them."""
_LONGEST_LAUNCHED = 1 << 15
"""Bytes of a request; more may not fit into the buffer of its socket, so that sending waits."""
_MOST_IN_VAIN = 16
"""Connections opened one after the other for nothing; then all requests have threads."""
_TICK = 0.1
"""Seconds. What arrives is read by another thread if the program has been away for so long."""


class Workers:
    """What a run sends with. All methods but :meth:`wake` are for the thread that decides.

    That thread sends and reads the requests that need no waiting. Each of the others has a thread
    while it is in progress: those that open a connection, and those whose response does not arrive
    in one piece.

    Args:
        transport: The server.
        options: Headers and time limits of each call.
    """

    def __init__(self, transport: Transport, options: CallOptions) -> None:
        # A copy of its own: closing it ends the calls of this run and no others.
        self._transport = transport.without_retries()
        self._options = options
        self._threads: List[threading.Thread] = []
        self._in_threads = 0
        self._connecting = 0
        self._launched: Set[Launched] = set()  # All whose connection has not been given back.
        self._connected_in_vain = 0
        self._to_send: queue.SimpleQueue[Optional[Work]] = queue.SimpleQueue()
        self._handed_back: queue.SimpleQueue[Union[Done, _Connecting, None]] = queue.SimpleQueue()
        self._poller: Optional[Poller] = None
        self._is_polling = False
        self._arrived: Deque[Launched] = deque()
        self._done: Deque[Done] = deque()
        # While the program is away, a thread reads what arrives: its time limits go on.
        self._lock = threading.Lock()
        self._turns = 0
        self._closed = threading.Event()
        self._reader = threading.Thread(
            target=self._read_meanwhile, name="vllm_client-batch-reader", daemon=True
        )

    @property
    def has_more_ready(self) -> bool:
        """Whether something has been handed back already."""
        return bool(self._done or self._arrived) or not self._handed_back.empty()

    def hand_out(self, work: Done) -> bool:
        """Have it done. Returns False if it must wait for a thread, because there are no more.

        Raises:
            APIConnectionError: There can be none at all.
        """
        with self._lock:
            if isinstance(work, Probe) or work.perform is not None or not self._can_launch(work):
                return self._give_to_thread(work)
            return self._launch(work) or self._connect_for(work)

    def _can_launch(self, job: Job) -> bool:
        is_in_vain = self._connected_in_vain >= _MOST_IN_VAIN
        is_long = len(job.content) > _LONGEST_LAUNCHED
        may = not (is_in_vain or is_long)
        return may and self._transport.can_launch("POST", self._url(job))

    def _url(self, job: Job) -> str:
        assert job.route is not None
        return self._transport.url(job.route.path)

    def _launch(self, job: Job) -> bool:
        job.sent_at = perf_counter()
        payload = Payload(job.content, JSON, job.body)
        launched = self._transport.launch(
            "POST", self._url(job), payload, options=self._options, subject=job
        )
        if launched is None:
            return False
        self._connected_in_vain = 0
        self._launched.add(launched)
        self._start_reader().add(launched)
        return True

    def _connect_for(self, job: Job, times: int = 1) -> bool:
        self._start_reader()  # While the program is away, it launches what a connection is for.
        self._connecting += 1
        self._to_send.put(_Connecting(job, times))
        return self._has_threads()

    def _start_reader(self) -> Poller:
        if self._poller is None:
            self._poller = Poller()
            with contextlib.suppress(RuntimeError):  # No thread can be started.
                self._reader.start()
        return self._poller

    def _give_to_thread(self, work: Work) -> bool:
        self._in_threads += 1
        has_thread = self._has_threads()
        self._to_send.put(work)
        return has_thread

    def _has_threads(self) -> bool:
        needed = self._in_threads + min(self._connecting, _MOST_CONNECTING)
        return needed <= len(self._threads) or self._add()

    def _add(self) -> bool:
        thread = threading.Thread(target=self._work, name="vllm_client-batch", daemon=True)
        self._threads.append(thread)  # First: Ctrl-C may come while it starts.
        try:
            thread.start()
        except RuntimeError as error:
            self._threads.remove(thread)
            if not self._threads:
                raise APIConnectionError(f"no thread can be started for the run: {error}") from None
            return False
        return True

    def take_back(self, timeout: Optional[float]) -> Optional[Done]:
        """Take what is done, or wait for it; None if something else is to be done first.

        That is so after ``timeout`` seconds, or :meth:`wake`, and may be so earlier.
        """
        with self._lock:
            self._turns += 1
            if self._done:
                return self._done.popleft()
            if not self._arrived and self._is_launched:
                self._poll(timeout)
                timeout = 0
            if self._arrived and self._handed_back.empty():
                return self._landed(self._arrived.popleft())
            return self._from_thread(timeout)

    @property
    def _is_launched(self) -> bool:
        return self._poller is not None and not self._poller.is_empty

    def _poll(self, timeout: Optional[float]) -> None:
        assert self._poller is not None
        self._is_polling = True  # From now on, what is handed back wakes it.
        self._arrived.extend(self._poller.wait(timeout if self._handed_back.empty() else 0))
        self._is_polling = False

    def _from_thread(self, timeout: Optional[float]) -> Optional[Done]:
        try:
            done = self._handed_back.get(timeout=timeout)
        except queue.Empty:
            return None
        return self._noted(done)

    def _noted(self, done: Union[Done, _Connecting, None]) -> Optional[Done]:
        """Note that a thread has handed this back; a job that was connected for is launched."""
        if isinstance(done, _Connecting):
            self._connecting -= 1
            self._after_connecting(done)
            return None
        self._in_threads -= done is not None
        return done

    def _after_connecting(self, work: _Connecting) -> None:
        if not work.is_connected:
            self._give_to_thread(work.job)
        elif not self._launch(work.job):
            # Another job may have taken the connection, or there is no sending in this way, because
            # of a header of the request for example. Do not open a connection for each row then.
            self._connected_in_vain += 1
            if work.times < _MOST_TIMES and self._can_launch(work.job):
                self._connect_for(work.job, work.times + 1)
            else:
                self._give_to_thread(work.job)

    def _landed(self, launched: Launched) -> Optional[Job]:
        """The job of a request whose response has begun to arrive; None if it needs a thread."""
        job: Job = launched.subject
        try:
            whole = launched.content_now()
            if whole is None:
                self._give_to_thread(launched)
                return None
            self._launched.discard(launched)
            _fill(job, whole)
        except BaseException as error:  # noqa: BLE001 — raised by the iterator, or the row's error
            job.error = error
        job.ended_at = perf_counter()
        return job

    def _read_meanwhile(self) -> None:
        seen = -1
        while not self._closed.wait(_TICK):
            if self._turns == seen and self._lock.acquire(blocking=False):
                try:
                    self._poll(0)
                    while self._arrived:
                        job = self._landed(self._arrived.popleft())
                        if job is not None:
                            self._done.append(job)
                    self._take_in()
                finally:
                    self._lock.release()
            seen = self._turns

    def _take_in(self) -> None:
        """Note what threads have handed back, and launch what they have opened connections for."""
        for _ in range(self._handed_back.qsize()):
            handed_back = self._handed_back.get()
            if handed_back is None:
                self._handed_back.put(None)  # It is meant for the next take_back.
                continue
            done = self._noted(handed_back)
            if done is not None:
                self._done.append(done)

    def wake(self) -> None:
        """End a :meth:`take_back` that waits, from any thread."""
        self._hand_back(None)

    def _hand_back(self, done: Union[Done, _Connecting, None]) -> None:
        self._handed_back.put(done)
        poller = self._poller
        if self._is_polling and poller is not None:
            poller.wake()

    def close(self) -> None:
        """Close the connections of the requests in flight, and end the threads."""
        self._closed.set()
        self._transport.session.close(self._transport)
        if self._reader.ident is not None:
            self._reader.join()
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
        for launched in self._launched:
            launched.abandon()
        self._launched.clear()
        if self._poller is not None:
            self._poller.close()
            self._poller = None

    def _work(self) -> None:
        while True:
            work = self._to_send.get()
            if work is None:
                return
            try:
                if isinstance(work, Probe):
                    work.is_up = self._is_up()
                elif isinstance(work, _Connecting):
                    self._connect(work)
                else:
                    self._attempt(work)
            finally:
                self._hand_back(work.subject if isinstance(work, Launched) else work)

    def _connect(self, work: _Connecting) -> None:
        url = self._url(work.job)
        with contextlib.suppress(VllmError):  # The client is closed: the attempt will tell.
            work.is_connected = self._transport.connect("POST", url, self._options)

    def _attempt(self, work: Union[Job, Launched]) -> None:
        job: Job = work.subject if isinstance(work, Launched) else work
        try:
            if isinstance(work, Launched):
                whole = work.finish()
                self._launched.discard(work)
                _fill(job, whole)
            else:
                self._request(job)
        except BaseException as error:  # noqa: BLE001 — raised by the iterator, or the row's error
            job.error = error
        job.ended_at = perf_counter()

    def _request(self, job: Job) -> None:
        job.sent_at = perf_counter()
        if job.perform is not None:
            job.response = job.perform(self._transport)
            return
        route = job.route
        assert route is not None
        whole = self._transport.fetch(
            "POST",
            self._transport.url(route.path),
            Payload(job.content, JSON, job.body),
            options=self._options,
        )
        _fill(job, whole)

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


def _fill(job: Job, whole: WholeResponse) -> None:
    assert job.route is not None
    with whole.redacting():
        job.received = whole.content
        job.request_id = whole.request_id
        job.response = job.route.decode(job.received, job.body)
        timed(job.response, whole.started, whole.ended, job.sent_at)
        if job.answer_type is not None:
            parse_choices(job.response, job.answer_type)
