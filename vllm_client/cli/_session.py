"""Typing with prompt_toolkit (extra ``cli``): several lines, completion, search in the history."""

from __future__ import annotations

from typing import Iterable, Optional

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import History as PromptHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from ._history import History

__all__ = ["SessionReader"]

_WITH_PATH = ("/image ", "/save ")


class SessionReader:
    """Enter sends; Alt-Enter begins a new line; Tab completes commands and paths."""

    def __init__(self, history: History, commands: Iterable[str]) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=_Remembered(history),
            completer=_Commands(commands),
            complete_while_typing=False,
            key_bindings=_keys(),
            multiline=True,
            prompt_continuation="... ",
        )

    def read(self, prompt: str) -> Optional[str]:
        """The next text; None after Ctrl-D."""
        try:
            return self._session.prompt(prompt)
        except EOFError:
            return None


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


class _Remembered(PromptHistory):
    """Our history, as prompt_toolkit reads it."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def load_history_strings(self) -> Iterable[str]:
        return reversed(self._history.load())

    def store_string(self, string: str) -> None:
        self._history.add(string)


class _Commands(Completer):
    """Completes the names of commands, and paths behind those that take one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = [f"/{name}" for name in names]
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        typed = document.text_before_cursor
        if typed.startswith(_WITH_PATH):
            path = typed.partition(" ")[2]
            yield from self._paths.get_completions(Document(path, len(path)), complete_event)
        elif typed.startswith("/"):
            for name in self._names:
                if name.startswith(typed):
                    yield Completion(name, start_position=-len(typed))
