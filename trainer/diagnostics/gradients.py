"""Whether the modes' gradients agree: the interference test.

At rho = 1 the loss is linear in the advantage, and the high-entropy mode's advantage is the group's plus the
bonus, so its gradient is exactly g_H = g_accuracy + g_bonus. Measured are cos(g_N, g_H), the same with
g_bonus alone, and the bonus's share. With noisy gradients cosines below 0 also come about by chance: the null
splits the same rows at random, each response's two rows in different parts, as if modes meant nothing.

The gradients are those of the policy loss, each mode at weight 1 (a frozen mode's too), without reference-KL.
They go to buffers of their own: neither ``.grad`` nor the optimizer sees them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.algorithms.base import Algorithm, GroupPlan, TokenInputs
from trainer.diagnostics.hidden_states import decoder_layers
from trainer.loss import BatchCounts, token_weights
from trainer.metrics import MetricSums
from trainer.modes import Mode
from trainer.objective import batch_counts
from trainer.policy import Policy
from trainer.scoring import Scores, score_groups
from trainer.types import Group

N, H = Mode.NORMAL, Mode.HIGH_ENTROPY
Vector = list[Tensor]
"""A gradient: one tensor a parameter."""


def gradient_metrics(
    policy: Policy,
    algorithm: Algorithm,
    groups: Sequence[Group],
    *,
    step: int,
    temperature: float,
    generator: torch.Generator,
) -> dict[str, float]:
    """``diag/grad_*`` of sampled and graded ``groups``; see :func:`gradient_statistics`.

    ``diag/grad_groups`` counts the groups whose rewards differ; the others have no gradient, and with none
    there is nothing else to report. ``generator`` draws the null's split.
    """
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    plans = [plan for plan in map(algorithm.plan, groups) if plan.has_advantage]
    values = {"diag/grad_groups": float(len(plans))}
    if not plans:
        return values
    counts = batch_counts(plans, tuple(Mode))
    sums: dict[str, Vector] = {
        part: [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters]
        for part in ("normal", "accuracy", "bonus", "null")
    }
    for plan in plans:
        swapped_G = torch.rand(len(plan.group.rollouts), generator=generator) < 0.5
        for part, loss, last in _losses(policy, algorithm, plan, counts, step, temperature, swapped_G):
            found = torch.autograd.grad(loss, parameters, retain_graph=not last, allow_unused=True)
            for total, gradient in zip(sums[part], found, strict=True):
                if gradient is not None:
                    total += gradient
    number = {id(p): n for n, layer in enumerate(decoder_layers(policy), start=1) for p in layer.parameters()}
    return values | gradient_statistics(**sums, layers=[number.get(id(p)) for p in parameters])


def _losses(
    policy: Policy,
    algorithm: Algorithm,
    plan: GroupPlan,
    counts: dict[Mode, BatchCounts],
    step: int,
    temperature: float,
    swapped_G: Tensor,
) -> list[tuple[str, Tensor, bool]]:
    """The parts' losses of one group, in the order to differentiate them; the last may free the graphs."""
    with torch.enable_grad():
        # A mode at a time: what concerns one mode is then differentiated through its own rows alone.
        scores = {mode: score_groups(policy, [plan.group], (mode,), temperature)[0][mode] for mode in Mode}
        old_logp_T = {mode: of_mode.logp_T.detach() for mode, of_mode in scores.items()}
        response_of_T = plan.group.response_of_T
        losses: dict[str, list[Tensor]] = {"normal": [], "accuracy": [], "bonus": [], "null": []}
        for mode in Mode:
            entropy_T = scores[mode].entropy_T.detach()
            whole_T = algorithm.shape_advantage(plan, mode, old_logp_T, entropy_T, step, MetricSums())
            whole_T = whole_T.to(old_logp_T[mode])
            rewarded_T = plan.advantage_G[mode][response_of_T].to(whole_T)
            trains_G = plan.trains_G[mode]
            in_null_G = trains_G & (swapped_G if mode is H else ~swapped_G)
            parts = [("null", whole_T, in_null_G)]
            if mode is N:
                parts += [("normal", whole_T, trains_G)]
            else:
                parts += [("accuracy", rewarded_T, trains_G), ("bonus", whole_T - rewarded_T, trains_G)]
            for part, advantage_T, rows_G in parts:
                if bool(rows_G.any()):
                    loss = _loss(algorithm, plan, mode, scores[mode], old_logp_T, advantage_T, rows_G, counts)
                    losses[part].append(loss)
    present = [(part, torch.stack(terms).sum()) for part, terms in losses.items() if terms]
    return [(part, loss, i == len(present) - 1) for i, (part, loss) in enumerate(present)]


def _loss(
    algorithm: Algorithm,
    plan: GroupPlan,
    mode: Mode,
    scores: Scores,
    old_logp_T: dict[Mode, Tensor],
    advantage_T: Tensor,
    rows_G: Tensor,
    counts: dict[Mode, BatchCounts],
) -> Tensor:
    """The mode's loss at weight 1 over ``rows_G``, with ``advantage_T`` in place of its own."""
    response_of_T = plan.group.response_of_T
    importance_T = algorithm.importance(plan, mode, old_logp_T)
    tokens = TokenInputs(
        plan, mode, scores.logp_T, old_logp_T[mode], scores.entropy_T, advantage_T, importance_T
    )
    factor_T = token_weights(
        algorithm.objective.aggregation,
        1.0,
        counts[mode],
        counts[mode].tokens,
        plan.group.lengths_G[response_of_T],
    )
    loss_T = algorithm.token_loss(tokens).loss_T
    return (loss_T * factor_T.to(loss_T))[rows_G[response_of_T].to(loss_T.device)].sum()


def gradient_statistics(
    normal: Vector, accuracy: Vector, bonus: Vector, null: Vector, layers: Sequence[int | None]
) -> dict[str, float]:
    """What the gradients of one probe say.

    ``diag/grad_cos`` cos(g_N, g_accuracy + g_bonus), also per layer as ``diag/grad_cos/L*``;
    ``diag/grad_cos_bonus`` cos(g_N, g_bonus); ``diag/grad_bonus_ratio`` ||g_bonus|| / ||g_accuracy||;
    ``diag/grad_conflict_rate`` the share of layers where cos < 0 (its mean over steps is the rate over steps
    and layers), beside ``diag/grad_conflict_rate_null``. A cosine with a zero gradient is left out.

    Args:
        normal, accuracy, bonus: g_N and the parts of g_H, one tensor a parameter.
        null: the gradient of one half of a random split of the rows; the other half is the rest of all.
        layers: the layer of each parameter, None outside of the layers.
    """
    pairs = ("NN", "HH", "NH", "BB", "NB", "AA", "xx", "yy", "xy")
    products: dict[int | None, dict[str, float]] = {}
    for g_n, g_a, g_b, x, layer in zip(normal, accuracy, bonus, null, layers, strict=True):
        g_h = g_a + g_b
        of = {"N": g_n, "H": g_h, "B": g_b, "A": g_a, "x": x, "y": g_n + g_h - x}
        sums = products.setdefault(layer, dict.fromkeys(pairs, 0.0))
        for pair in pairs:
            sums[pair] += float((of[pair[0]] * of[pair[1]]).sum(dtype=torch.float64))
    overall = {pair: sum(sums[pair] for sums in products.values()) for pair in pairs}
    by_layer = {n: sums for n, sums in sorted(products.items(), key=lambda x: x[0] or 0) if n is not None}
    values = {
        "diag/grad_cos": _cosine(overall, "NH"),
        "diag/grad_cos_bonus": _cosine(overall, "NB"),
        "diag/grad_conflict_rate": _conflict_rate([_cosine(sums, "NH") for sums in by_layer.values()]),
        "diag/grad_conflict_rate_null": _conflict_rate([_cosine(sums, "xy") for sums in by_layer.values()]),
    }
    if overall["AA"] > 0:
        values["diag/grad_bonus_ratio"] = (overall["BB"] / overall["AA"]) ** 0.5
    values |= {f"diag/grad_cos/L{n}": _cosine(sums, "NH") for n, sums in by_layer.items()}
    return {name: value for name, value in values.items() if value is not None}


def _cosine(products: dict[str, float], pair: str) -> float | None:
    norms = products[pair[0] * 2] * products[pair[1] * 2]
    return products[pair] / norms**0.5 if norms > 0 else None


def _conflict_rate(cosines: Sequence[float | None]) -> float | None:
    known = [cosine for cosine in cosines if cosine is not None]
    return sum(cosine < 0 for cosine in known) / len(known) if known else None
