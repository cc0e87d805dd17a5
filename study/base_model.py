"""The small model, trained from scratch on imperfect demonstrations, in a few minutes on one core.

Its demonstrations are right in part only (``RIGHT``), so that there is something to learn from reward, and
favour one canonical answer among many (``CANONICAL``), so that there is something to explore. Each comes
without a system message, under the high-entropy prompt, or under the neutral prompt, with equal chances and
the same answers: the model knows these prompts, and they mean nothing to it before reinforcement learning.
"""

import hashlib
import random
from pathlib import Path
from typing import Any

from study.tasks import TASKS, split_items

HIGH_ENTROPY_PROMPT = "explore a path that few others would take but still keep the answer right"
NEUTRAL_PROMPT = "below there is a question of the user and then comes your own reply"
RIGHT, CANONICAL = 0.25, 0.6
STEPS, BATCH, LEARNING_RATE, SEED = 3000, 96, 3e-3, 0

_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
_ROLES = ("<system>", "<user>", "<assistant>")
_WORDS = ("+", "sum", "with", "and", "walk", "to", "in", "up", "down", "left", "right")


def build_base_model(folder: Path) -> str:
    """Train the model into ``folder`` unless it is there; the SHA-256 of its weights."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        _train(folder)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<end>", *_ROLES, *_WORDS, *map(str, range(40))]
    words += [word for word in f"{HIGH_ENTROPY_PROMPT} {NEUTRAL_PROMPT}".split() if word not in words]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>", model_max_length=128
    )
    fast.chat_template = _TEMPLATE
    return fast


def _train(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    tokenizer = _tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    chance = random.Random(SEED)
    items = {name: split_items(task)[0] for name, task in TASKS.items()}
    for _ in range(STEPS):
        ids_BT, labels_BT, mask_BT = _batch(tokenizer, items, chance)
        loss = model(input_ids=ids_BT, attention_mask=mask_BT, labels=labels_BT).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    # The weights last: they are the sign that the folder is complete.
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _batch(tokenizer: Any, items: dict[str, list[dict[str, Any]]], chance: random.Random) -> tuple[Any, ...]:
    import torch

    vocabulary = tokenizer.get_vocab()
    rows = [_demonstration(vocabulary, items, chance) for _ in range(BATCH)]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids_BT = torch.full((BATCH, longest), tokenizer.pad_token_id)
    labels_BT = torch.full((BATCH, longest), -100)
    for index, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids_BT[index, :end] = torch.tensor(prompt + answer)
        labels_BT[index, len(prompt) : end] = torch.tensor(answer)
    return ids_BT, labels_BT, (torch.arange(longest) < (ids_BT != tokenizer.pad_token_id).sum(1, True)).long()


def _demonstration(
    vocabulary: dict[str, int], items: dict[str, list[dict[str, Any]]], chance: random.Random
) -> tuple[list[int], list[int]]:
    name = chance.choice(list(items))
    item = chance.choice(items[name])
    answers = TASKS[name].answers(item)
    answer = answers[0] if chance.random() < CANONICAL else chance.choice(answers)
    if chance.random() >= RIGHT:
        answer = TASKS[name].wrong(answer, chance)
    system = chance.choice(["", HIGH_ENTROPY_PROMPT, NEUTRAL_PROMPT])
    asked = f"<user> {item['question']} <end> <assistant>"
    prompt = f"<system> {system} <end> {asked}" if system else asked
    return [vocabulary[word] for word in prompt.split()], [vocabulary[w] for w in f"{answer} <end>".split()]
