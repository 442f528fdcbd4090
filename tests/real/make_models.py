"""Make small models of random weights, which download nothing.

Runs in the environment of vLLM, which has the libraries, as
``python make_models.py FOLDER``. Writes three folders: ``text`` generates, ``embedding`` is the
same model without its output layer, ``adapter`` is a LoRA adapter of it. The seed is fixed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKERS = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
VOCABULARY = 600
"""Number of tokens, without the markers; these have the ids from here on."""
LENGTH = 1024
RANK = 8
MODULES = {"q_proj": "num_attention_heads", "v_proj": "num_key_value_heads"}

# The tokenizer learns from these: words, code, JSON, and scripts whose characters need many bytes.
TEXTS = [
    "The quick test sends one prompt, waits for the answer and reads every token of the stream.",
    "One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, twenty.",
    "Weather in Paris is mild today, in Oslo there is snow, and in Rome the sun shines all day.",
    "A client that closes its connection early wants the server to stop writing at once.",
    "Which city has the longest bridge, the oldest library and the smallest railway station?",
    "Numbers: 3.14159, 2.71828, 1e-9, 0xff, 1,000,000 and 50 percent of 42 apples.",
    '{"name": "get_weather", "arguments": {"city": "Paris"}} {"city": "Oslo", "days": 3}',
    "for item in items:\n    if item is None:\n        continue\n    print(item, end='')\n",
    "Größe, façade, œuvre, niño, žlutý kůň, Ωμέγα, Москва, 東京の天気, 你好世界, 서울, नमस्ते, مرحبا",
    "😀 😎 🚀 🌍 🎉 👍🏽 👩‍🔬 🏳️‍🌈 ❤️ ✅",
]

CHAT = """\
{%- if tools -%}
<|im_start|>system
Functions: {% for tool in tools %}{{ tool | tojson }} {% endfor %}<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}\
</tool_call>
{%- endfor -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking -%}
<think>

</think>

{% endif -%}
{%- endif -%}
"""


def main(folder: str) -> None:
    """Write the three models into the folder, unless they are there."""
    out = Path(folder)
    if (out / "adapter" / "adapter_config.json").exists():
        return
    import torch  # type: ignore[import-not-found] # noqa: PLC0415 — in the environment of vLLM
    from transformers import LlamaForCausalLM, LlamaModel  # type: ignore # noqa: PLC0415, PGH003

    config = _config()
    for name, kind in (("text", LlamaForCausalLM), ("embedding", LlamaModel)):
        torch.manual_seed(0)
        kind(config).to(torch.bfloat16).save_pretrained(out / name)
        _tokenizer().save_pretrained(out / name)
    _write_adapter(config.to_dict(), out / "adapter")


def _config() -> Any:
    from transformers import LlamaConfig  # noqa: PLC0415

    return LlamaConfig(
        vocab_size=VOCABULARY + len(MARKERS),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,  # vLLM's kernels for the CPU need heads of 64.
        num_key_value_heads=1,
        max_position_embeddings=LENGTH,
        initializer_range=0.2,  # A small one makes all tokens almost equally likely.
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=SPECIAL.index("<|im_end|>"),
        pad_token_id=SPECIAL.index("<|endoftext|>"),
    )


def _tokenizer() -> Any:
    import tokenizers as hf  # type: ignore[import-not-found] # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    bytes_of = hf.pre_tokenizers.ByteLevel
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = bytes_of(add_prefix_space=False)
    tokenizer.decoder = hf.decoders.ByteLevel()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        special_tokens=SPECIAL,
        initial_alphabet=bytes_of.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY, "the texts are too short for the vocabulary"
    tokenizer.add_tokens([hf.AddedToken(marker, normalized=False) for marker in MARKERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=CHAT,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:],
        model_max_length=LENGTH,
        clean_up_tokenization_spaces=False,
    )


def _write_adapter(config: Dict[str, Any], folder: Path) -> None:
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # type: ignore[import-not-found] # noqa: PLC0415

    torch.manual_seed(1)
    weights = {
        name: torch.randn(size, dtype=torch.bfloat16) * 0.05
        for name, size in _sizes(config).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(folder / "adapter_model.safetensors"))
    scale = {"r": RANK, "lora_alpha": 2 * RANK, "bias": "none", "target_modules": [*MODULES]}
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", **scale}
    (folder / "adapter_config.json").write_text(json.dumps(about), encoding="utf-8")


def _sizes(config: Dict[str, Any]) -> Dict[str, Any]:
    hidden = config["hidden_size"]
    width = hidden // config["num_attention_heads"]
    sizes: Dict[str, Any] = {}
    for layer in range(config["num_hidden_layers"]):
        for module, heads in MODULES.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            sizes[f"{name}.lora_A.weight"] = (RANK, hidden)
            sizes[f"{name}.lora_B.weight"] = (width * config[heads], RANK)
    return sizes


if __name__ == "__main__":
    main(*sys.argv[1:])
