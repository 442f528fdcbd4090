"""This client as a model of lm-evaluation-harness, exact in tokens; see ``docs/lm-eval.md``.

``python -m vllm_client.contrib.lm_eval`` is the harness's own command ``lm-eval`` with this model,
``--model vllm-client``. Needs the extra ``lm-eval``.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ModuleNotFoundError as error:
    raise ImportError(
        "lm-evaluation-harness is not installed: pip install 'vllm-sync-client[lm-eval]'"
    ) from error

from ..batch._engine import Settings
from ..client import VllmClient
from ..timeouts import Timeout
from ._evaluation import Evaluation, Options, Tell
from ._scorers import Scorers

__all__ = ["VllmClientLM"]


@register_model("vllm-client")
class VllmClientLM(LM):
    """A vLLM server as a model of lm-evaluation-harness.

    Args:
        base_url: As of :class:`~vllm_client.VllmClient`; a URL of completions will do too.
        model: A served model or adapter; None for the default one.
        max_concurrency: Requests in flight at once, at most.
        boundary: ``"joint"`` or ``"tokens"``, as of ``client.evaluate.loglikelihood``.
        truncate: ``"left"`` cuts contexts that are too long and tells how many; None refuses them.
        output: Where results are kept, such as ``results.jsonl``: a run that was killed goes on.
        max_length: The length of the context, in tokens; None for that of the server.
        max_gen_toks: The most tokens to generate where the task does not tell.
        add_bos_token: Whether the tokenizer puts its special tokens in front of a text.
        bos_token_id: What precedes a text whose tokenizer adds nothing.
        seed: Of sampling. A request that is repeated gets the next one each time.
        api_key: As of ``VllmClient``. Better set ``VLLM_API_KEY``: the harness logs its arguments.
        timeout: Seconds of silence that end an attempt; 0 for no limit.
        max_retries: As of ``VllmClient``.
        patience: Seconds to wait for a server that is away.
        progress: Whether to show how far the run is.
        batch_size, max_batch_size, device: What the harness gives every model; of no use here.

    Raises:
        ValueError: An argument is invalid.
        VllmError: The server does not answer, or refused a request.
    """

    def __init__(
        self,
        base_url: Optional[str] = None,
        model: Optional[str] = None,
        *,
        max_concurrency: int = 64,
        boundary: str = "joint",
        truncate: Optional[str] = None,
        output: Optional[str] = None,
        max_length: Optional[int] = None,
        max_gen_toks: int = 256,
        add_bos_token: bool = True,
        bos_token_id: Optional[int] = None,
        seed: int = 1234,
        api_key: Optional[str] = None,
        timeout: float = 600.0,
        max_retries: int = 2,
        patience: float = 600.0,
        progress: bool = True,
        batch_size: object = 1,
        max_batch_size: object = None,
        device: object = None,
    ) -> None:
        super().__init__()
        del batch_size, max_batch_size, device
        self._client = _client(base_url, api_key, timeout, max_retries)
        self.model = self._client.models.default().id if model is None else model
        self._scorers = Scorers(
            self._client,
            self.model,
            add_bos_token=add_bos_token,
            bos_token_id=bos_token_id,
            max_length=max_length,
        )
        options = Options(self.model, boundary, truncate, max_length, max_gen_toks, seed, output)
        settings = Settings(max_concurrency, max_retries, patience).checked()
        self._progress = progress
        self._evaluation = Evaluation(self._client, self._scorers, options, settings)

    def loglikelihood(
        self, requests: List[Any], disable_tqdm: bool = False
    ) -> List[Tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether each token of it is the likeliest.

        Raises:
            ValueError: A continuation is empty.
            EvaluationError: There is no exact score.
            VllmError: The server refused a request, or no complete response arrived.
        """
        pairs = [each.args for each in requests]
        self._show_progress(disable_tqdm)
        return self._evaluation.loglikelihoods(pairs, self._tell("loglikelihood", pairs))

    def loglikelihood_rolling(self, requests: List[Any], disable_tqdm: bool = False) -> List[float]:
        """The log-likelihood of each text, in windows if it is longer than the context.

        Raises:
            VllmError: As for :meth:`loglikelihood`.
        """
        texts = [each.args for each in requests]
        self._show_progress(disable_tqdm)
        tell = self._tell("loglikelihood_rolling", texts)
        return self._evaluation.rolling([text for (text,) in texts], tell)

    def generate_until(self, requests: List[Any], disable_tqdm: bool = False) -> List[str]:
        """The text that the model writes after each context.

        Raises:
            TypeError: A setting of the task is no request field of vLLM.
            ValueError: A request has images or sounds.
            VllmError: As for :meth:`loglikelihood`.
        """
        prompts = [each.args for each in requests]
        if any(len(prompt) > 2 for prompt in prompts):
            raise ValueError("vllm-client completes texts only: this task has images or sounds")
        self._show_progress(disable_tqdm)
        return self._evaluation.generations(prompts, self._tell("generate_until", prompts))

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the server's chat template writes it.

        Raises:
            VllmError: The template cannot be written exactly, or the server refused a request.
        """
        return self._scorers.render(chat_history, add_generation_prompt=add_generation_prompt)

    def chat_template(self, chat_template: Any = False) -> str:
        """Nothing: the template is the server's.

        Raises:
            ValueError: Another template is asked for by its name.
        """
        if isinstance(chat_template, str):
            raise ValueError(
                f"the server has one chat template, so there is no {chat_template!r}: use "
                "--apply_chat_template without a name, and vllm serve --chat-template"
            )
        return ""

    @property
    def tokenizer_name(self) -> str:
        """What tells requests apart that the harness keeps with ``--cache_requests``."""
        return f"{self._client.base_url}/{self.model}".replace("/", "__")

    def _show_progress(self, disable: bool) -> None:
        self._evaluation.progress = self._progress and not disable

    def _tell(self, method: str, requests: Sequence[Tuple[Any, ...]]) -> Tell:
        """Hands results to the harness's own cache."""
        return lambda index, value: self.cache_hook.add_partial(method, requests[index], value)


def _client(
    base_url: Optional[str], api_key: Optional[str], timeout: float, max_retries: int
) -> VllmClient:
    if base_url is not None:
        base_url = base_url.rstrip("/").removesuffix("/completions").removesuffix("/chat")
    read = Timeout(read=timeout or None)
    return VllmClient(base_url, api_key=api_key, timeout=read, max_retries=max_retries)


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
