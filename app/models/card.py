"""The model card of an exported checkpoint: what it learned, how, how well, and what switches its modes."""

import json

import yaml

from app.core.strict_json import JsonObject
from trainer.spec.manifest import Manifest
from trainer.spec.modes import Mode

#: Row label, metric of the evaluation, decimals; {m} is the mode's label.
_PER_MODE = [
    ("reward", "eval/{m}/reward", 3),
    ("entropy, nats per token", "eval/{m}/entropy_nats", 3),
    ("length, tokens", "eval/{m}/length", 1),
]
_BETWEEN = [
    ("KL(H‖N) on high-entropy answers, nats", "eval/kl_H_N/prefix_H", 3),
    ("KL(N‖H) on normal answers, nats", "eval/kl_N_H/prefix_N", 3),
]
#: What the hub calls methods that learn from rows.
_KINDS = {"supervised": "sft", "dpo": "dpo"}
_LEARNING = {"sft": "supervised fine-tuning", "dpo": "direct preference optimization"}
_SPDX = {"Apache-2.0": "apache-2.0", "MIT": "mit"}


def model_card(name: str, manifest: Manifest, base: str, license_name: str | None) -> str:
    """The card of the checkpoint called ``name``, in Markdown with the hub's front matter."""
    front: dict[str, object] = {
        "base_model": base,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": [_KINDS.get(manifest.algorithm, "reinforcement-learning"), "policysplit", manifest.algorithm],
    }
    if license_name is not None:
        front["license"] = _SPDX.get(license_name, "other")
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {name}",
        f"`{base}` after step {manifest.step} of {_learning(manifest)}.",
        _task(manifest),
        _training(manifest),
        _results(manifest),
        _modes(manifest),
        _use(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _learning(manifest: Manifest) -> str:
    kind = _KINDS.get(manifest.algorithm)
    return f"reinforcement learning with `{manifest.algorithm}`" if kind is None else _LEARNING[kind]


def _task(manifest: Manifest) -> str:
    if manifest.algorithm in _KINDS:
        return ""
    spec = manifest.spec
    data, grader = spec.get("training_data") or {}, spec.get("grader")
    lines = ["## Task", ""]
    if data.get("task"):
        lines.append(
            f"Items of the task `{data['task']}`, generated with {_inline(data.get('parameters') or {})}."
        )
    else:
        lines.append("Prompts from a file uploaded by the job's owner.")
    lines.append(
        "Rewards, from 0 to 1, came from " + ("this grader:" if grader else "a function of the caller.")
    )
    if grader:
        lines += ["", "```json", json.dumps(_given(grader), indent=2, ensure_ascii=False), "```"]
    return "\n".join(lines)


def _training(manifest: Manifest) -> str:
    spec = manifest.spec
    settings = {
        key: spec[key]
        for key in ("algorithm", "rollout", "optimizer", "lora", "total_steps", "seed")
        if spec.get(key) and not (key == "rollout" and manifest.algorithm in _KINDS)
    }
    if not settings:
        return ""
    text = json.dumps(_given(settings), indent=2, ensure_ascii=False)
    return f"## Training\n\n```json\n{text}\n```"


def _results(manifest: Manifest) -> str:
    """Both modes on validation items, as measured when the checkpoint was saved."""
    if (loss := manifest.metrics.get("eval/loss")) is not None:
        accuracy = _number(manifest.metrics.get("eval/token_accuracy"), 3)
        return (
            f"## Results\n\nOn validation rows, at step {manifest.step}: loss {_number(loss, 4)}, token "
            f"accuracy {accuracy}."
        )
    modes = [mode for mode in Mode if f"eval/{mode.label}/reward" in manifest.metrics]
    if not modes:
        return ""
    lines = [
        "## Results",
        "",
        f"On validation items, at step {manifest.step}:",
        "",
        "| | " + " | ".join(f"{mode.value} mode" for mode in modes) + " |",
        "|---" * (len(modes) + 1) + "|",
    ]
    for label, metric, decimals in _PER_MODE:
        values = [manifest.metrics.get(metric.format(m=mode.label)) for mode in modes]
        if any(value is not None for value in values):
            lines.append(f"| {label} | " + " | ".join(_number(value, decimals) for value in values) + " |")
    between = [(label, manifest.metrics[name], n) for label, name, n in _BETWEEN if name in manifest.metrics]
    if between:
        lines.append("")
        lines += [f"- {label}: {_number(value, decimals)}" for label, value, decimals in between]
    return "\n".join(lines)


def _modes(manifest: Manifest) -> str:
    if not manifest.high_entropy_prompt:
        return "## Modes\n\nOne: it was trained without a prompt that switches to a second mode."
    if manifest.high_entropy_placement == "user_prefix":
        where = "before the first user message, followed by a blank line"
    else:
        where = "as the system message, or at the end of your own after a blank line"
    return (
        "## Modes\n\nThe same weights behave in two ways. The *normal* mode answers as well as it can: "
        "use the model like any other. The *high-entropy* mode explores: put exactly this text "
        f"{where}:\n\n```text\n{manifest.high_entropy_prompt}\n```"
    )


def _use(manifest: Manifest) -> str:
    variables = ""
    if manifest.chat_template_kwargs:
        variables = (
            f"\n\nIn training the chat template was given {_inline(manifest.chat_template_kwargs)}; pass "
            "it the same."
        )
    return (
        "## Use\n\n"
        "```sh\n"
        "vllm serve .                            # or: transformers serve .\n"
        "python convert_hf_to_gguf.py . --outfile model.gguf    # llama.cpp\n"
        "```\n\n"
        "```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model, tokenizer = AutoModelForCausalLM.from_pretrained("."), AutoTokenizer.from_pretrained(".")\n'
        "```\n\n"
        f"{_sampling(manifest)}{variables}"
    )


def _sampling(manifest: Manifest) -> str:
    if manifest.algorithm in _KINDS:
        return "Nothing was sampled in training."
    return (
        "Sampling in training was at temperature "
        f"{(manifest.spec.get('rollout') or {}).get('temperature', 1.0)}, from the whole distribution: "
        "restricting top-p or top-k changes how the modes differ."
    )


def _given(settings: JsonObject) -> JsonObject:
    """Without what was left open."""
    return {
        key: _given(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if value is not None
    }


def _inline(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
