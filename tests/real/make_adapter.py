"""Make a LoRA adapter of random weights. Runs in the environment of vLLM, not in the tests'."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict

RANK = 8
MODULES = ("q_proj", "v_proj")


def main(model: str, out: str) -> None:
    """Write the adapter of the model in folder ``model`` to folder ``out``."""
    import torch  # type: ignore[import-not-found] # noqa: PLC0415 — in the environment of vLLM
    from safetensors.torch import save_file  # type: ignore[import-not-found] # noqa: PLC0415

    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    torch.manual_seed(0)
    weights = {
        name: torch.randn(size, dtype=torch.bfloat16) * 0.05
        for name, size in _sizes(config).items()
    }
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(folder / "adapter_model.safetensors"))
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none"}
    about = {**told, "target_modules": MODULES, "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(about), encoding="utf-8")


def _sizes(config: Dict[str, Any]) -> Dict[str, Any]:
    hidden = config["hidden_size"]
    width = hidden // config["num_attention_heads"]
    heads = {"q_proj": "num_attention_heads", "v_proj": "num_key_value_heads"}
    sizes: Dict[str, Any] = {}
    for layer in range(config["num_hidden_layers"]):
        for module in MODULES:
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            sizes[f"{name}.lora_A.weight"] = (RANK, hidden)
            sizes[f"{name}.lora_B.weight"] = (width * config[heads[module]], RANK)
    return sizes


if __name__ == "__main__":
    main(*sys.argv[1:])
