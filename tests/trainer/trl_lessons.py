"""TRL's own losses on rows, to compare ours with. A file of its own, as ``trl_loss`` is."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl.import_utils as trl_parts
from accelerate import Accelerator
from torch import nn

with pytest.MonkeyPatch.context() as patch:
    # Where it finds vLLM TRL imports it, and vLLM changes torch for the whole process.
    patch.setattr(trl_parts, "is_vllm_available", lambda **_: False)
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.sft_trainer import SFTTrainer


class _Plain(nn.Module):
    """A model that gives TRL what its fused output layer gives, from plain logits."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        self.is_gradient_checkpointing = False

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any, **_: Any) -> SimpleNamespace:
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1]
        target, log_p = labels[:, 1:], torch.log_softmax(logits, dim=-1)
        mask = target != -100
        chosen = target.clamp(min=0)[..., None]
        return SimpleNamespace(
            log_probs=log_p.gather(-1, chosen).squeeze(-1) * mask,
            label_mask=mask,
            entropy=-(log_p.exp() * log_p).sum(-1) * mask,
            is_top1=(logits.argmax(-1) == target) & mask,
            mean_logits=logits.mean(-1),
        )


class _Lists(dict):
    def __missing__(self, key: str) -> list:
        return self.setdefault(key, [])


class PlainSft(SFTTrainer):
    """TRL's trainer with the attributes that its loss reads, and nothing else built."""

    def __init__(self, model: Any):
        self.model = _Plain(model).train()
        self.accelerator = Accelerator(cpu=True)
        self.aux_loss_enabled, self.compute_loss_func, self.label_smoother = False, None, None
        self.args: Any = SimpleNamespace(loss_type="nll", average_tokens_across_devices=False)
        self._metrics: Any = {"train": _Lists(), "eval": _Lists()}
        self._total_train_tokens, self._tp_size = 0, 1

    def loss(self, rows: list[tuple[list[int], list[bool]]]) -> tuple[torch.Tensor, float]:
        """Loss and token accuracy of rows: token ids, and whether each is learnt."""
        ids, mask = padded([row for row, _ in rows])
        labels = padded([[t if one else -100 for t, one in zip(*row, strict=True)] for row in rows], -100)[0]
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        loss = self.compute_loss(self.model, batch, num_items_in_batch=(labels[:, 1:] != -100).sum())
        return loss, self._metrics["train"]["mean_token_accuracy"][-1]  # type: ignore[return-value]


class PlainDpo(DPOTrainer):
    """The same of pairs."""

    def __init__(self, model: Any, reference: Any, beta: float):
        self.model, self.ref_model = _Plain(model).train(), _Plain(reference)
        self.accelerator = Accelerator(cpu=True)
        self.aux_loss_enabled = self.precompute_ref_logps = self.use_weighting = False
        self.ld_alpha, self.f_divergence_type, self.beta = None, "reverse_kl", beta
        self.loss_types, self.loss_weights = ["sigmoid"], [1.0]
        self.args: Any = SimpleNamespace(gradient_checkpointing_kwargs=None)
        self._metrics: Any = {"train": _Lists(), "eval": _Lists()}
        self._total_train_tokens, self._tp_size = 0, 1

    def loss(self, rows: list[tuple[list[int], list[bool]]]) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and metrics of rows: all preferred ones, then the others in the same order."""
        ids, mask = padded([row for row, _ in rows])
        learnt, _ = padded([[int(one) for one in which] for _, which in rows])
        batch = {"input_ids": ids, "attention_mask": mask, "completion_mask": learnt}
        loss = self._compute_loss(self.model, batch, return_outputs=False)
        return loss, {name: values[-1] for name, values in self._metrics["train"].items()}  # type: ignore[return-value]


def padded(rows: list[list[int]], filler: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows side by side, filled up at their ends, and where they are."""
    width = max(map(len, rows))
    values = torch.tensor([row + [filler] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return values, mask
