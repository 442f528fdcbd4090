"""Streams that are read in threads of their own, so that the program's thread can draw."""

from __future__ import annotations

import threading
from typing import Any, List, Optional

from attrs import frozen

from ..streams import Stream
from ._answers import LiveAnswer, Shown
from ._words import counted

__all__ = ["Frame", "Reading"]


@frozen
class Frame:
    """An answer at one moment.

    Attributes:
        title: What to write above it; may be empty.
        choices: What has arrived.
        figures: Counts and speed, in words.
        ended: Whether no more follows.
        fault: Why the answer is not whole; None if it is, or may still become so.
    """

    title: str
    choices: List[Shown]
    figures: str
    ended: bool
    fault: Optional[str]


class Reading(threading.Thread):
    """Reads one stream to its end.

    Args:
        stream: Nobody else may read it.
        title: What to write above the answer.
        news: Set whenever something has arrived.
        ended: Released once when the stream has ended.
    """

    def __init__(
        self,
        stream: Stream[Any, Any],
        title: str,
        news: threading.Event,
        ended: threading.Semaphore,
    ) -> None:
        super().__init__(name="vllm-client-show", daemon=True)
        self.stream = stream
        self.failure: Optional[BaseException] = None
        self.over = False
        self.stopped = False
        self._title = title
        self._answer = LiveAnswer()
        self._was_read = stream.timings.chunks > 0
        """Whether somebody else has read a part of the stream, or all of it."""
        if self._was_read:
            self._answer.replace(stream.snapshot)
        self._news = news
        self._ended = ended

    def run(self) -> None:
        """Read; called by ``start()``."""
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 — raised by show(), in the program's thread
            self.failure = error
        finally:
            self.over = True
            self._ended.release()
            self._news.set()

    def _read(self) -> None:
        if self._was_read and self.stream._decoder.complete:
            return  # It has been closed since, and iterating over it would be an error.
        try:
            for event in self.stream:
                self._answer.add(event)
                if getattr(event, "type", None) == "error":
                    self.failure = event.error
                self._news.set()
        finally:
            if self._was_read:
                # The first snapshot may have had more than the events that were read by then.
                self._answer.replace(self.stream.snapshot)

    def stop(self) -> None:
        """Close the stream, and wait for the end of the thread."""
        self.stopped = self.stopped or not self.over
        self.stream.close()
        if self.ident is not None:
            self.join()

    def frame(self) -> Frame:
        """What has arrived so far."""
        ended = self.over or self.stopped
        choices = self._answer.choices()
        return Frame(self._title, choices, self._figures(ended), ended, self._fault())

    def _fault(self) -> Optional[str]:
        if self.stopped:
            return "stopped: this is what had arrived"
        return None if self.failure is None else str(self.failure) or repr(self.failure)

    def _figures(self, ended: bool) -> str:
        timings = self.stream.timings
        duration, speed = timings.duration, timings.output_tokens_per_second
        figures = [counted(timings.chunks, "chunk"), f"{timings.chunks / duration:.1f} chunks/s"]
        if timings.output_tokens is not None:
            figures = [counted(timings.output_tokens, "token"), f"{speed:.1f} tok/s"]
        if timings.ttft is not None:
            figures.append(f"TTFT {timings.ttft:.2f} s")
        return " · ".join([*figures, f"{duration:.1f} s{'' if ended else ' …'}"])
