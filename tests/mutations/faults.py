"""The faults: mistakes that a person would make, each a line of source and the line in its place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """``old`` stands exactly once in ``file``; ``new`` takes its place."""

    subject: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]
    """Files in ``tests/trainer`` to run, without ``test_`` and ``.py``."""


FAULTS = [
    # --- advantage
    Fault(
        "advantage",
        "trainer/objective/advantage.py",
        "advantage_G = (rewards_G - pool.mean()) / (pool.std() + EPSILON)",
        "advantage_G = rewards_G / (pool.std() + EPSILON)",
        "no baseline",
        ("advantage", "tree"),
    ),
    Fault(
        "advantage",
        "trainer/objective/advantage.py",
        "advantage_G = (rewards_G - pool.mean()) / (pool.std() + EPSILON)",
        "advantage_G = (rewards_G - pool.mean()) / (pool.std(correction=0) + EPSILON)",
        "population in place of sample deviation",
        ("advantage", "tree"),
    ),
    Fault(
        "advantage",
        "trainer/objective/advantage.py",
        "pool = rewards_G[graded_G if baseline_G is None else graded_G & baseline_G]",
        "pool = rewards_G[graded_G]",
        "the baseline of a mode's own group is ignored",
        ("advantage", "mode_gradients", "objective_properties"),
    ),
    # --- loss
    Fault(
        "loss",
        "trainer/objective/loss.py",
        "loss_T = -torch.minimum(ratio_T * advantage_T, clipped_T * advantage_T)",
        "loss_T = -torch.maximum(ratio_T * advantage_T, clipped_T * advantage_T)",
        "optimistic clip",
        ("loss",),
    ),
    Fault(
        "loss",
        "trainer/objective/loss.py",
        "clipped_T = torch.clamp(ratio_T, 1.0 - clip_low, 1.0 + clip_high)",
        "clipped_T = torch.clamp(ratio_T, 1.0 - clip_high, 1.0 + clip_low)",
        "clip bounds exchanged",
        ("loss",),
    ),
    Fault(
        "loss",
        "trainer/objective/loss.py",
        "return torch.exp(torch.clamp(logp_T - old_logp_T, -MAX_LOG_RATIO, MAX_LOG_RATIO))",
        "return torch.exp(logp_T - old_logp_T)",
        "ratios overflow",
        ("loss", "objective_properties"),
    ),
    Fault(
        "loss",
        "trainer/objective/loss.py",
        "return ones_T * (mode_weight / max(counts.tokens, 1))",
        "return ones_T * (mode_weight / max(counts.rows, 1))",
        "a mode's mean over rows in place of tokens",
        ("loss", "reductions"),
    ),
    Fault(
        "loss",
        "trainer/steps/group_loss.py",
        "total = total + (loss_T * onto(factor_T, logp_T))[kept_T].sum()",
        "total = total + (loss_T * onto(factor_T, logp_T)).sum()",
        "rows that do not train are not masked",
        ("reductions", "objective_properties"),
    ),
    # --- regularizer
    Fault(
        "regularizer",
        "trainer/objective/regularizer.py",
        "return -(alpha * logp_own_T.detach() + (1.0 - alpha) * logp_other_T.detach())",
        "return -(alpha * logp_other_T.detach() + (1.0 - alpha) * logp_own_T.detach())",
        "alpha and 1 - alpha exchanged",
        ("regularizer", "bandit"),
    ),
    Fault(
        "regularizer",
        "trainer/objective/regularizer.py",
        "return -(alpha * logp_own_T.detach() + (1.0 - alpha) * logp_other_T.detach())",
        "return alpha * logp_own_T.detach() + (1.0 - alpha) * logp_other_T.detach()",
        "entropy is punished",
        ("regularizer", "bandit"),
    ),
    Fault(
        "regularizer",
        "trainer/objective/regularizer.py",
        "z_T = (b_T - b_T.mean()) / (b_T.std() + 1e-6)",
        "z_T = b_T / (b_T.std() + 1e-6)",
        "the z-score is not centred",
        ("regularizer", "tree"),
    ),
    Fault(
        "regularizer",
        "trainer/objective/regularizer.py",
        "bound_T = advantage_T.abs() / kappa",
        "bound_T = advantage_T.abs() * kappa",
        "the bonus can turn the advantage's sign",
        ("regularizer", "bandit"),
    ),
    Fault(
        "regularizer",
        "trainer/objective/regularizer.py",
        'if clip_order == "inside":',
        'if clip_order == "outside":',
        "clip orders exchanged",
        ("regularizer", "bandit"),
    ),
    Fault(
        "regularizer",
        "trainer/algorithms/policy_split.py",
        "eta = self.spec.eta if mode is Mode.HIGH_ENTROPY else self.spec.eta_normal",
        "eta = self.spec.eta if mode is Mode.NORMAL else self.spec.eta_normal",
        "the bonus goes to the wrong mode",
        ("reductions", "mode_gradients"),
    ),
    Fault(
        "regularizer",
        "trainer/algorithms/policy_split.py",
        "return advantage_T + bonus_T",
        "return advantage_T - bonus_T",
        "the bonus is taken off",
        ("tree", "mode_gradients"),
    ),
    # --- mixing
    Fault(
        "mixing",
        "trainer/objective/mixing.py",
        'shared = sharing == "both" or sharing == ("n_to_h" if behavior is Mode.NORMAL else "h_to_n")',
        'shared = sharing == "both" or sharing == ("h_to_n" if behavior is Mode.NORMAL else "n_to_h")',
        "one-way sharing runs the other way",
        ("mixing", "objective_properties"),
    ),
    Fault(
        "mixing",
        "trainer/objective/mixing.py",
        "rows.append(Row(response, behavior.other, behavior))",
        "rows.append(Row(response, behavior, behavior))",
        "cross rows are trained under their own prompt",
        ("mixing", "reductions"),
    ),
    Fault(
        "mixing",
        "trainer/algorithms/policy_split.py",
        "return group.produced_by(mode)",
        "return group.produced_by(mode.other)",
        "without sharing a mode is compared with the other's responses",
        ("mode_gradients", "objective_properties"),
    ),
    Fault(
        "mixing",
        "trainer/algorithms/policy_split.py",
        "return torch.where(own, torch.ones_like(ratio_T), ratio_T).detach()",
        "return torch.where(own, ratio_T, torch.ones_like(ratio_T)).detach()",
        "own rows are reweighed in place of cross rows",
        ("reductions",),
    ),
    # --- entropy and log-probabilities
    Fault(
        "entropy",
        "trainer/model/logprobs.py",
        "entropy_T[part] = log_sum.squeeze(-1) - p.mul_(below).sum(-1)",
        "entropy_T[part] = log_sum.squeeze(-1) - p.mul_(below).mean(-1)",
        "mean over the vocabulary in place of the expectation",
        ("entropy",),
    ),
    Fault(
        "entropy",
        "trainer/model/logprobs.py",
        "log_p.clamp_(min=torch.finfo(log_p.dtype).min).add_(entropy[place])",
        "log_p.clamp_(min=torch.finfo(log_p.dtype).min)",
        "dH/dz without its + H",
        ("entropy",),
    ),
    Fault(
        "entropy",
        "trainer/model/logprobs.py",
        "own, scale = torch.expm1(logp), grad_logp / ctx.temperature",
        "own, scale = torch.expm1(logp), grad_logp * ctx.temperature",
        "the gradient forgets the temperature's direction",
        ("entropy",),
    ),
    Fault(
        "entropy",
        "trainer/model/packing.py",
        "position_T += [trees[-1].first - 1, *range(len(ids), len(ids) + len(response) - 1)]",
        "position_T += [len(ids) - 1, *range(len(ids), len(ids) + len(response) - 1)]",
        "a response's first token is predicted at the end of the response before it",
        ("packing", "tree"),
    ),
    # --- fast paths
    Fault(
        "fast paths",
        "trainer/model/trees_on_cpu.py",
        "own.clear_padding([kept[0] for kept in rectangles])",
        "pass",
        "padding positions pass the first token's gradient on",
        ("attention",),
    ),
    Fault(
        "fast paths",
        "trainer/model/trees_on_cpu.py",
        "of_key[prompt] += of_prompt[1].sum(dim=0).transpose(0, 1)",
        "of_key[prompt] -= of_prompt[1].sum(dim=0).transpose(0, 1)",
        "responses' gradient of the prompt's keys has the wrong sign",
        ("attention",),
    ),
    Fault(
        "fast paths",
        "trainer/model/trees.py",
        "grad_k[shared] += across[1]",
        "grad_k[shared] -= across[1]",
        "the same where a GPU computes it",
        ("spans",),
    ),
    Fault(
        "fast paths",
        "trainer/rollout/prefix_cache.py",
        "found.view(heads, prompts, -1, found.shape[-1]).add_(plus_PL[:, None])",
        "pass",
        "rows attend to the padding of shorter prompts",
        ("decoders",),
    ),
    Fault(
        "fast paths",
        "trainer/model/optim.py",
        "torch.autograd.graph.increment_version(masters)",
        "pass",
        "packed weights stay as they were before the step",
        ("packed_linear",),
    ),
    Fault(
        "fast paths",
        "trainer/model/dense_layers.py",
        "of_x.add_(grad_x)",
        "pass",
        "a norm drops the gradient of what it hands on",
        ("dense_layers",),
    ),
    Fault(
        "fast paths",
        "trainer/model/dense_layers.py",
        "of_gate.copy_(torch.ops.aten.silu_backward(grad_BLI * up, gate))",
        "of_gate.copy_(torch.ops.aten.silu_backward(grad_BLI, gate))",
        "a gate's gradient forgets what it is multiplied with",
        ("dense_layers",),
    ),
    Fault(
        "fast paths",
        "trainer/model/rotation.py",
        "return self._turned(x_BLHD, heads, 1.0)",
        "return self._turned(x_BLHD, heads, -1.0)",
        "gradients of queries and keys are turned forward",
        ("dense_layers",),
    ),
]
SUBJECTS = ("advantage", "loss", "regularizer", "mixing", "entropy", "fast paths")
