"""``show()``: streams, live, in a notebook or in a terminal."""

from __future__ import annotations

import sys
import threading
from time import perf_counter
from typing import Any, List, Optional, Sequence, TypeVar, Union, overload

from .._tracebacks import shorten_interrupt
from ..streams import Stream
from ._notebook import NotebookScreen
from ._reading import Frame, Reading
from ._screens import Screen, terminal_screen

__all__ = ["show"]

R = TypeVar("R")

_SHORTEST_PAUSE = 0.05
"""Seconds between two drawings: about 20 a second."""
_LARGEST_SHARE = 0.2
"""The largest share of the time that drawing may take: each drawing is of the whole answer."""


@overload
def show(streams: Stream[Any, R], *, markdown: bool = False, titles: Sequence[str] = ()) -> R: ...


@overload
def show(
    streams: Sequence[Stream[Any, R]], *, markdown: bool = False, titles: Sequence[str] = ()
) -> List[R]: ...


def show(
    streams: Union[Stream[Any, R], Sequence[Stream[Any, R]]],
    *,
    markdown: bool = False,
    titles: Sequence[str] = (),
) -> Union[R, List[R]]:
    """Show a stream while it arrives, or several side by side, and return the whole answer.

    Below the text stand the number of tokens, tokens per second and the time to the first token
    (TTFT). Reasoning is folded; tool calls are cards. In a notebook the output is HTML without
    scripts, and the words of the model are escaped. In a terminal rich draws it, if installed.

    An interrupt (Ctrl-C, the stop button of the notebook) closes the streams, leaves on the screen
    what had arrived, and raises ``KeyboardInterrupt``, which has it as ``partial`` too.

    Args:
        streams: An open stream of any route, or several, of several prompts, parameters or
            models. ``show()`` reads them at the same time and closes them.
        markdown: Whether to render the text as Markdown. Needs the extra ``notebook`` in a
            notebook, and rich in a terminal; without rich the text is printed as it is.
        titles: What to write above each of several streams; by default their numbers.

    Returns:
        The whole answer, as ``collect()`` returns it; of several streams a list.

    Raises:
        VllmError: The answer is not complete; what arrived is shown and is in ``partial``. Of
            several streams the others are read to their end first.
        TypeError: It is no stream.
        ValueError: There are titles, but not one for each stream.
        ImportError: ``markdown`` needs the extra ``notebook``.
    """
    several = [streams] if isinstance(streams, Stream) else list(streams)
    _check(several, titles)
    numbers = [str(number) for number in range(1, len(several) + 1)] if len(several) > 1 else [""]
    answers = _Watch(several, titles or numbers, _screen(markdown)).answers()
    return answers[0] if isinstance(streams, Stream) else answers


def _check(streams: Sequence[object], titles: Sequence[str]) -> None:
    for stream in streams:
        if not isinstance(stream, Stream):
            raise TypeError(
                f"show() takes an open stream, such as client.completions.stream(…), or a list of "
                f"them, not {type(stream).__name__}"
            )
    if len(set(map(id, streams))) < len(streams):
        raise ValueError("show() got the same stream twice; open one for each place")
    if titles and len(titles) != len(streams):
        raise ValueError(f"there are {len(titles)} titles for {len(streams)} streams")


def _screen(markdown: bool) -> Screen:
    """The notebook, if the program runs in one; else a terminal with rich, or plain text."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if hasattr(shell, "kernel"):
        return NotebookScreen(markdown)
    return terminal_screen(sys.stdout, markdown)


def pause_after(drawing: float, least: float) -> float:
    """How long to wait until the next drawing, in seconds.

    Args:
        drawing: How long the last one took.
        least: What the screen asks for.
    """
    return max(_SHORTEST_PAUSE, least, drawing / _LARGEST_SHARE)


class _Watch:
    """Draws until all streams have ended.

    Args:
        streams: They are read at the same time.
        titles: One for each.
        screen: Where to draw.
    """

    def __init__(
        self, streams: Sequence[Stream[Any, Any]], titles: Sequence[str], screen: Screen
    ) -> None:
        self._news = threading.Event()
        self._ended = threading.Semaphore(0)
        self._readings = [
            Reading(stream, title, self._news, self._ended)
            for stream, title in zip(streams, titles)
        ]
        self._screen = screen

    def answers(self) -> List[Any]:
        """Show the streams, and return their answers.

        Raises:
            VllmError: One of them is not complete.
        """
        try:
            for reading in self._readings:
                reading.start()
            self._draw_until_end()
        except KeyboardInterrupt as interrupt:
            self._stop()
            partial = [reading.stream.snapshot for reading in self._readings]
            vars(interrupt)["partial"] = partial if len(partial) > 1 else partial[0]
            shorten_interrupt(interrupt)
            raise
        finally:
            self._stop()
            self._screen.close(self._frames())
        return [_answer(reading) for reading in self._readings]

    def _draw_until_end(self) -> None:
        running = len(self._readings)
        while running:
            self._news.wait(1.0)  # At least once a second, for the figures.
            self._news.clear()
            begun = perf_counter()
            pause = self._screen.draw(self._frames())
            drawn = perf_counter()
            deadline = drawn + pause_after(drawn - begun, pause)
            while running and self._ended.acquire(timeout=max(0.0, deadline - perf_counter())):
                running -= 1

    def _frames(self) -> List[Frame]:
        return [reading.frame() for reading in self._readings]

    def _stop(self) -> None:
        for reading in self._readings:
            reading.stop()


def _answer(reading: Reading) -> Any:
    failure: Optional[BaseException] = reading.failure
    if failure is not None:
        raise failure
    return reading.stream.collect()
