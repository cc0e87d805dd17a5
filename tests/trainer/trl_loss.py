"""TRL's own loss, to compare ours with. A file of its own, which the tests import when they run: TRL brings
mlflow and wandb along, and to import them takes seconds in every process that collects tests."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl.import_utils as trl_parts
from accelerate import Accelerator

with pytest.MonkeyPatch.context() as patch:
    # Where it finds vLLM TRL imports it, and vLLM changes torch for the whole process.
    patch.setattr(trl_parts, "is_vllm_available", lambda **_: False)
    from trl.trainer.grpo_trainer import GRPOTrainer


class PlainTrl(GRPOTrainer):
    """TRL's trainer with the attributes that its loss reads, and nothing else built."""

    def __init__(
        self,
        model: Any,
        max_length: int,
        loss_type: str,
        level: str,
        low: float,
        high: float,
        beta: float,
        top_quantile: float,
    ):
        self.model = model
        self.loss_type, self.importance_sampling_level = loss_type, level
        self.epsilon_low, self.epsilon_high, self.beta = low, high, beta
        self.top_entropy_quantile = top_quantile
        self.max_completion_length = max_length
        self.accelerator = Accelerator(cpu=True)
        self.aux_loss_enabled = self.use_vllm = self._entropy_bonus_enabled = False
        self.vllm_importance_sampling_correction = False
        self.off_policy_mask_threshold = None
        self.args: Any = SimpleNamespace(
            delta=None, use_bias_correction_kl=False, steps_per_generation=1, report_to=[]
        )
        self.state: Any = SimpleNamespace(global_step=0)
        self._metrics: Any = {"train": _Lists(), "eval": _Lists()}

    def _get_per_token_logps_and_entropies(  # type: ignore[override]
        self, model, input_ids, attention_mask, logits_to_keep, **_
    ):
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, -logits_to_keep - 1 : -1]
        log_p = torch.log_softmax(logits, dim=-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        chosen = input_ids[:, -logits_to_keep:, None]
        return log_p.gather(-1, chosen).squeeze(-1), entropy, None


class _Lists(dict):
    def __missing__(self, key: str) -> list:
        return self.setdefault(key, [])
