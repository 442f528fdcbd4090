"""``client.batch``: many prompts from one loop, or from a file to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional, Tuple, Union

from attrs import evolve

from .._http.transport import UNSET, CallOptions, Transport
from .._request import answer_type_of, takes
from ..exceptions import BatchInputError
from ..params.batch import (
    BatchChatParams,
    BatchCompletionParams,
    BatchEmbeddingParams,
    BatchRerankParams,
    BatchScoreParams,
)
from ..resources._base import Resource
from ..timeouts import Timeout, TimeoutTypes
from ._engine import Settings, positive
from ._progress import Progress
from ._rows import check_common, check_rows
from ._runs import BatchRows, FileOptions, Run, run_to_file
from .routes import CHAT, COMPLETIONS, EMBEDDINGS, RERANK, SCORE, Route, named_route
from .rows import BatchReport

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Batch"]

_SETTINGS = {"max_concurrency", "patience", "stop_after_failures", "adaptive", "buffer_bytes"}
_RUN = {"strict", "progress", "timeout", "extra_headers", "extra_body"}


_DEFAULT_READ = Timeout().read
"""A client has this read limit unless the program chose another one."""


class Batch(Resource):
    """Many requests at once. One failed row never ends a run; see ``docs/batch.md``."""

    @takes(BatchCompletionParams)
    def completions(
        self,
        prompts: Iterable[Any],
        *,
        ordered: bool = True,
        input_thread: bool = False,
        **params: Unpack[BatchCompletionParams],
    ) -> BatchRows:
        """Complete many prompts.

        Args:
            prompts: Any iterable, also an endless one: texts, lists of token ids, dicts of request
                fields, or pairs ``(custom_id, row)``. It is read in the thread that iterates, no
                further ahead than there is room.
            ordered: Whether rows come in the order of the input.
            input_thread: Whether a thread of its own reads the input, one row when there is room,
                so that rows come while the next prompt is waited for.
            **params: The fields of every row, which a row may override, and the settings of
                :class:`~vllm_client.params.batch.BatchParams`.

        Returns:
            An iterator of :class:`BatchRow`, each with a response or an error. Break off, or use
            ``with``, and the requests in flight are cancelled.

        Raises:
            BatchInputError: A field of all rows is misspelt; with ``strict`` also: a row cannot be
                sent.
            BatchStoppedError: While it is read: the first rows all failed alike, or the server was
                away for longer than ``patience``.
        """
        return self._rows(COMPLETIONS, prompts, ordered, input_thread, dict(params))

    @takes(BatchChatParams)
    def chat(
        self,
        conversations: Iterable[Any],
        *,
        ordered: bool = True,
        input_thread: bool = False,
        **params: Unpack[BatchChatParams],
    ) -> BatchRows:
        """Continue many conversations.

        Args:
            conversations: As for :meth:`completions`: lists of messages, texts (one message of the
                user), dicts of request fields, or pairs ``(custom_id, row)``.
            ordered: As for :meth:`completions`.
            input_thread: As for :meth:`completions`.
            **params: As for :meth:`completions`.

        Returns:
            As for :meth:`completions`.

        Raises:
            BatchError: As for :meth:`completions`.
        """
        return self._rows(CHAT, conversations, ordered, input_thread, dict(params))

    @takes(BatchEmbeddingParams)
    def embeddings(
        self,
        inputs: Iterable[Any],
        *,
        ordered: bool = True,
        input_thread: bool = False,
        **params: Unpack[BatchEmbeddingParams],
    ) -> BatchRows:
        """Compute the embeddings of many inputs, one request a row.

        Args:
            inputs: As for :meth:`completions`: texts, lists of token ids or of texts, dicts of
                request fields, or pairs ``(custom_id, row)``.
            ordered: As for :meth:`completions`.
            input_thread: As for :meth:`completions`.
            **params: As for :meth:`completions`. Vectors come as JSON; ``client.embeddings`` has
                the cheaper encodings.

        Returns:
            As for :meth:`completions`.

        Raises:
            BatchError: As for :meth:`completions`.
        """
        return self._rows(EMBEDDINGS, inputs, ordered, input_thread, dict(params))

    @takes(BatchScoreParams)
    def score(
        self,
        pairs: Iterable[Any],
        *,
        ordered: bool = True,
        input_thread: bool = False,
        **params: Unpack[BatchScoreParams],
    ) -> BatchRows:
        """Score many pairs of inputs.

        Args:
            pairs: Dicts of request fields, such as ``{"queries": …, "documents": […]}``, or pairs
                ``(custom_id, dict)``.
            ordered: As for :meth:`completions`.
            input_thread: As for :meth:`completions`.
            **params: As for :meth:`completions`.

        Returns:
            As for :meth:`completions`.

        Raises:
            BatchError: As for :meth:`completions`.
        """
        return self._rows(SCORE, pairs, ordered, input_thread, dict(params))

    @takes(BatchRerankParams)
    def rerank(
        self,
        queries: Iterable[Any],
        *,
        ordered: bool = True,
        input_thread: bool = False,
        **params: Unpack[BatchRerankParams],
    ) -> BatchRows:
        """Order documents for many queries.

        Args:
            queries: Dicts of request fields, such as ``{"query": …, "documents": […]}``, or pairs
                ``(custom_id, dict)``.
            ordered: As for :meth:`completions`.
            input_thread: As for :meth:`completions`.
            **params: As for :meth:`completions`.

        Returns:
            As for :meth:`completions`.

        Raises:
            BatchError: As for :meth:`completions`.
        """
        return self._rows(RERANK, queries, ordered, input_thread, dict(params))

    def run(
        self,
        source: Union[str, Path, Iterable[Any]],
        output: Union[str, Path],
        *,
        route: Optional[str] = None,
        ordered: bool = False,
        retry_failed: bool = False,
        sync_every: int = 1000,
        prompts: bool = False,
        shard: Tuple[int, int] = (0, 1),
        **params: Any,
    ) -> BatchReport:
        """Send the rows of a file, or of any iterable, and append each response to a file.

        Killed at any moment, the same call goes on where it was: a row is in the output file at
        most once, and once the call returns, exactly once or among the failed ones.

        Args:
            source: A path (``-`` for standard input, ``.gz`` is decompressed) of lines in OpenAI's
                batch format, of lines such as ``{"prompt": …}`` or ``{"messages": …}``, or of
                prompts; or an iterable as for :meth:`completions`.
            output: The file to write. Beside it: ``….errors.jsonl`` with the failed rows, and
                ``….meta`` with the settings.
            route: ``"completions"``, ``"chat"``, ``"embeddings"``, ``"score"``, ``"rerank"``, or a
                URL; without, each row tells by its ``url``, or its ``prompt``, ``messages``, ….
            ordered: Whether the file is put into the order of the input at the end.
            retry_failed: Whether rows that failed for good in an earlier run are tried again.
            sync_every: Rows after which the file is forced to the disk, 1 or more.
            prompts: Whether each line of the source is a prompt as it stands.
            shard: ``(3, 8)`` takes the rows whose number leaves 3 when divided by 8.
            **params: The fields of every row, and those of ``BatchParams``.

        Raises:
            BatchError: The run cannot begin or go on; the subclasses tell why.
            OSError: A file cannot be read or written.
        """
        known = None if route is None else named_route(route)
        run = self._new_run(known, params)
        files = FileOptions(
            ordered, retry_failed, positive("sync_every", sync_every), prompts, _shard(shard)
        )
        return run_to_file(run, source, _output(output), files)

    def _rows(
        self,
        route: Route,
        rows: Any,
        ordered: bool,
        input_thread: bool,
        params: Dict[str, Any],
    ) -> BatchRows:
        check_rows(rows)
        run = self._new_run(route, params)
        return BatchRows(run, rows, ordered=ordered, input_thread=input_thread)

    def _new_run(self, route: Optional[Route], params: Dict[str, Any]) -> Run:
        settings = {name: params.pop(name) for name in _SETTINGS & params.keys()}
        rest: Dict[str, Any] = {name: params.pop(name) for name in _RUN & params.keys()}
        check_common(params, route)
        common = {**params, **(rest.get("extra_body") or {})}
        answer_type = answer_type_of(common)
        timeout = rest.get("timeout", _timeout_of(self._transport))
        options = CallOptions(timeout, rest.get("extra_headers"))
        progress: Progress = rest.get("progress")
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise TypeError(f"progress must be True, or a function, not {progress!r}")
        return Run(
            self._transport,
            Settings(max_retries=self._transport.max_retries, **settings).checked(),
            options,
            common,
            answer_type,
            route,
            bool(rest.get("strict", False)),
            progress,
            frozenset(params),
        )


def _timeout_of(transport: Transport) -> TimeoutTypes:
    """The limits of a run that was given none: time in the server's queue is no failure."""
    limits = transport.timeout
    if limits.read != _DEFAULT_READ or not transport.session.notices_lost_peers:
        return UNSET
    return evolve(limits, read=None)


def _output(path: Union[str, Path]) -> Path:
    if str(path).endswith(".gz"):
        raise BatchInputError(
            f"the output is not compressed: choose a name without .gz, not {path}"
        )
    return Path(path)


def _shard(shard: Tuple[int, int]) -> Tuple[int, int]:
    given: Any = shard
    if isinstance(given, (tuple, list)) and [type(each) for each in given] == [int, int]:
        remainder, divisor = given
        if 0 <= remainder < divisor:
            return remainder, divisor
    raise ValueError(f"shard must be (k, n) with 0 <= k < n, not {given!r}")
