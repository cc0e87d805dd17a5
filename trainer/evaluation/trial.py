"""Before training: can the model be sampled from, scored and saved here? Tried once, on a few tokens.

What loads is not what trains: an attention of another form, a cache of another kind, or a config that cannot
be written shows only when it is used, at the first rollouts or the first checkpoint, and a retry repeats it.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from trainer.data.items import Item
from trainer.errors import EngineFailed, InvalidSpec, TrainerError
from trainer.model.policy import Policy
from trainer.model.scoring import divided, prompts_of, score_groups
from trainer.objective.transfer import chosen, placed
from trainer.spec.modes import Mode
from trainer.steps.context import StepContext
from trainer.steps.generation import build_group, sample_groups
from trainer.types import Group

PROMPTS = 2
TOKENS = 16
#: Mean gap, nats a token, beyond which the sampled policy is another one than the trained one.
LIMIT = {torch.float32: 0.01, torch.bfloat16: 0.2}
NOTABLE = 0.25
DRY_RUN = ".step-dry-run.tmp-"
_NAMED_ELSEWHERE = (TrainerError, EngineFailed, OSError, MemoryError, torch.OutOfMemoryError)


@dataclass(frozen=True)
class Gap:
    """|log-prob when sampled - when scored| over the trial's tokens, nats."""

    mean: float
    largest: float
    tokens: int
    notable: bool
    """More than the rounding of most models, less than what cannot be trained."""


def try_rollout(context: StepContext, items: Sequence[Item]) -> Gap:
    """Sample a few tokens in each mode that the run samples, and score them.

    Raises InvalidSpec where that does not work, or the two disagree. Takes nothing from training's
    randomness; collective.
    """
    policy, rollout = context.policy, context.rollout
    short = rollout.model_copy(update={"max_response_tokens": min(TOKENS, rollout.max_response_tokens)})
    chosen = [items[place] for place in range(min(PROMPTS, len(items)))]
    groups = [build_group(policy, item, number, item.index, None) for number, item in enumerate(chosen)]
    modes = tuple(mode for mode, count in context.samples.items() if count)
    kind = type(policy.model).__name__
    limit = LIMIT.get(policy.dtype, LIMIT[torch.float32])
    try:
        # Held to no form: what was left in of the distribution is nothing that scoring could be compared to.
        free = replace(context, rollout=short, form=None)
        sample_groups(free, groups, dict.fromkeys(modes, 1), "trial")
        gap = _gap(context, groups, modes, limit)
    except _NAMED_ELSEWHERE:
        raise
    except Exception as error:
        raise InvalidSpec(
            f"{kind} loads, but it cannot be sampled from and scored by the {rollout.engine} engine here: "
            f"{type(error).__name__}: {error}. Train a model of another architecture, or try the other "
            "rollout.engine",
            "model.path",
        ) from error
    if not gap.mean <= limit:
        raise InvalidSpec(
            f"{kind} is a different policy when sampled (engine {rollout.engine}) than when scored: "
            f"log-probabilities differ by {gap.mean:.3g} nats per token on average ({gap.largest:.3g} at "
            f"most, {gap.tokens} tokens), and rounding explains only {limit:g}. It cannot be trained "
            "here; try the other rollout.engine, or a model of another architecture",
            "model.path",
        )
    return gap


@torch.no_grad()
def _gap(context: StepContext, groups: list[Group], modes: tuple[Mode, ...], limit: float) -> Gap:
    policy, temperature = context.policy, context.rollout.temperature
    prompted = [(group, prompts_of(group, modes)) for group in groups]
    gaps = []
    for micro in divided(prompted, policy.layout, context.positions):
        for group, scores in zip(micro, score_groups(policy, micro, modes, temperature), strict=True):
            sampled_T = torch.tensor([x for r in group.rollouts for x in r.logprobs], dtype=torch.float64)
            for mode in modes:
                own_T = chosen(group.produced_by(mode)[group.response_of_T], policy.device)
                gap_T = scores[mode].logp_T.double() - placed(sampled_T, policy.device)
                gaps.append(gap_T[own_T].abs())
    gap_T = torch.cat(gaps).cpu()
    mean = float(gap_T.mean())
    return Gap(mean, float(gap_T.max()), len(gap_T), notable=mean > NOTABLE * limit)


def try_checkpoint(policy: Policy, parent: Path) -> None:
    """Save a checkpoint to a temporary folder in ``parent``, read it back and remove it.

    Raises InvalidSpec where it cannot be written or is not what was saved, and OSError without room.
    """
    folder = parent / f"{DRY_RUN}0"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        policy.save(folder)
        _read_back(policy, folder)
    except _NAMED_ELSEWHERE:
        raise
    except Exception as error:
        raise InvalidSpec(
            f"a checkpoint of this model cannot be written and read back: {type(error).__name__}: "
            f"{error}. Repair the files that it names in the model folder",
            "model.path",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read_back(policy: Policy, folder: Path) -> None:
    AutoConfig.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.get_chat_template() != policy.tokenizer.get_chat_template():
        raise ValueError("the chat template changed when it was saved")
    named = GenerationConfig.from_pretrained(folder).eos_token_id
    named = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    if lost := policy.stop_ids - named:
        raise ValueError(f"the tokens {sorted(lost)}, which end a response, were lost when it was saved")
    saved = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            names: list[str] = opened.keys()
            saved += len(names)
    if not saved:
        raise ValueError("no weights were saved")
