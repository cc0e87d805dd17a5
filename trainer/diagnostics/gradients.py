"""Whether the modes' gradients agree: the interference test.

At rho = 1 the loss is linear in the advantage, and the high-entropy mode's advantage is the group's plus the
bonus, so its gradient is exactly g_H = g_accuracy + g_bonus. Measured are cos(g_N, g_H), the same with
g_bonus alone, and the bonus's share. With noisy gradients cosines below 0 also come about by chance: the null
splits the same rows at random, each response's two rows in different parts, as if modes meant nothing.

The gradients are those of the policy loss, each mode at weight 1 (a frozen mode's too), without reference-KL.
They go to buffers of their own: neither ``.grad`` nor the optimizer sees them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from trainer.algorithms.base import AdvantageInputs, Algorithm, GroupPlan, TokenInputs
from trainer.diagnostics.hidden_states import decoder_layers
from trainer.distributed.ranks import ALONE, Ranks
from trainer.distributed.sharding import own_part
from trainer.model.packing import Layout
from trainer.model.policy import Policy
from trainer.model.scoring import Scores, divided, prompts_of, score_groups
from trainer.objective.loss import BatchCounts, token_weights
from trainer.objective.metrics import MetricSums
from trainer.objective.transfer import chosen, fetch, onto
from trainer.spec.modes import Mode
from trainer.steps.group_loss import Old, batch_counts
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
    positions: int | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """``diag/grad_*`` of sampled and graded ``groups``; see :func:`gradient_statistics`.

    ``diag/grad_groups`` counts the groups whose rewards differ; the others have no gradient, and with none
    there is nothing else to report. ``generator`` draws the null's split; ``positions`` is the largest
    micro-batch: a group of more is scored by a pass of its own, and then differentiated part by part.
    ``ranks``: those that the model is sharded over, which compute the same and have a part of each gradient;
    collective then.
    """
    sharded_over = None
    if policy.sharding is not None:
        sharded_over = ranks
        policy.sharding.rest()
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    plans = [plan for plan in map(algorithm.plan, groups) if plan.has_advantage]
    values = {"diag/grad_groups": float(len(plans))}
    if not plans:
        return values
    counts = batch_counts(plans, tuple(Mode))
    sums: dict[str, Vector] = {
        part: [
            torch.zeros_like(own_part(p), dtype=torch.promote_types(p.dtype, torch.float32))
            for p in parameters
        ]
        for part in ("normal", "accuracy", "bonus", "null")
    }
    for plan in plans:
        half_G = torch.rand(len(plan.group.rollouts), generator=generator) < 0.5
        blocks = _blocks(plan.group, half_G, policy.layout, positions)
        score = partial(_score, policy, temperature=temperature)
        at_once = (
            len(divided([(plan.group, prompts_of(plan.group, tuple(Mode)))], policy.layout, positions)) == 1
        )
        with torch.set_grad_enabled(at_once):
            scored = [score(block) if at_once else _numbers(score(block)) for block in blocks]
        old = _together(plan.group, blocks, scored)
        for block, of_block in zip(blocks, scored, strict=True):
            with torch.enable_grad():
                scores = of_block if at_once else score(block)
            for part, loss, last in _losses(algorithm, plan, block, scores, old, counts, step):
                found = _differentiate(loss, parameters, sharded_over, not last)
                for name in (part, "null") if block.in_null else (part,):
                    for total, gradient in zip(sums[name], found, strict=True):
                        if gradient is not None:
                            total += gradient
    number = {id(p): n for n, layer in enumerate(decoder_layers(policy), start=1) for p in layer.parameters()}
    layers = [number.get(id(p)) for p in parameters]
    of_ranks = ranks.gather(layer_products(**sums, layers=layers))
    return values | gradient_statistics(added_up(of_ranks))


def _differentiate(
    loss: Tensor, parameters: Sequence[Tensor], ranks: Ranks | None, retain_graph: bool
) -> Sequence[Tensor | None]:
    """The gradient, of each parameter; of a model that is sharded over ``ranks`` this rank's part of it."""
    if ranks is None:
        return torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)
    # Gradients are summed over ranks, which all have the same one: one of them counts.
    (loss if ranks.first else loss * 0.0).backward(retain_graph=retain_graph)
    found = [None if p.grad is None else own_part(p.grad) for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return found


@dataclass(frozen=True, eq=False)
class Block:
    """Half of a group's responses under one mode's prompt, or a part of them, scored by themselves.

    What concerns the block is then differentiated through its own rows alone, and the null's part is the sum
    of one half's N rows and the other half's H rows: it costs no backward pass of its own.
    """

    mode: Mode
    in_null: bool
    group: Group
    """With its own responses alone."""
    tokens_T: Tensor
    """Which of the whole group's response tokens are in it; boolean, on the CPU, shape (T,)."""


def _blocks(group: Group, half_G: Tensor, layout: Layout, positions: int | None) -> list[Block]:
    blocks = []
    for mode in Mode:
        for side in (False, True):
            rollouts = [r for r, half in zip(group.rollouts, half_G.tolist(), strict=True) if half is side]
            of_side = replace(group, rollouts=rollouts)
            if not int(of_side.lengths_G.sum()):
                continue
            for (part,) in divided([(of_side, [group.prompt_ids[mode]])], layout, positions):
                own = set(map(id, part.rollouts))
                own_G = torch.tensor([id(r) in own for r in group.rollouts])
                blocks.append(Block(mode, side is (mode is H), part, own_G[group.response_of_T]))
    return blocks


def _score(policy: Policy, block: Block, temperature: float) -> Scores:
    (scores,) = score_groups(policy, [block.group], (block.mode,), temperature)
    return scores[block.mode]


def _numbers(scores: Scores) -> Scores:
    """Without hidden states."""
    return replace(scores, hidden_TD=scores.hidden_TD[:, :0].clone())


def _losses(
    algorithm: Algorithm,
    plan: GroupPlan,
    block: Block,
    scores: Scores,
    old: Old,
    counts: dict[Mode, BatchCounts],
    step: int,
) -> Iterator[tuple[str, Tensor, bool]]:
    """A block's parts of the gradient and the losses they come from; the last may free its graph."""
    mode, response_of_T = block.mode, plan.group.response_of_T
    assert old.entropy_T is not None
    inputs = AdvantageInputs(plan, mode, old.logp_T, old.entropy_T[mode], step)
    own_T = chosen(block.tokens_T, scores.logp_T.device)
    # Of all tokens, those of the block alone with gradients; ratios are those of this pass itself.
    with torch.enable_grad():
        current_T = old.logp_T[mode].index_copy(0, own_T, scores.logp_T)
    whole_T = onto(algorithm.shape_advantage(inputs, MetricSums()), current_T)
    rewarded_T = onto(inputs.rewarded_T, whole_T)
    parts = [("normal", whole_T)]
    if mode is H:
        parts = [("accuracy", rewarded_T), ("bonus", whole_T - rewarded_T)]
    factor_T = token_weights(
        algorithm.objective.aggregation,
        1.0,
        counts[mode],
        counts[mode].tokens,
        plan.group.lengths_G[response_of_T],
    )
    trained_T = chosen(plan.trains_G[mode][response_of_T] & block.tokens_T, scores.logp_T.device)
    for part, advantage_T in parts:
        with torch.enable_grad():
            tokens = TokenInputs(
                plan,
                mode,
                current_T,
                current_T.detach(),
                old.entropy_T[mode],
                advantage_T,
                algorithm.importance(plan, mode, old.logp_T),
            )
            loss_T = algorithm.token_loss(tokens).loss_T
            loss = (loss_T * onto(factor_T, loss_T))[trained_T].sum()
        yield part, loss, part == parts[-1][0]


def _together(group: Group, blocks: Sequence[Block], scored: Sequence[Scores]) -> Old:
    """Log-probabilities and entropies of all the group's response tokens under both modes."""
    tokens = int(group.lengths_G.sum())
    logp_T, entropy_T = ({mode: scored[0].logp_T.new_zeros(tokens) for mode in Mode} for _ in range(2))
    for block, scores in zip(blocks, scored, strict=True):
        own_T = chosen(block.tokens_T, scores.logp_T.device)
        logp_T[block.mode][own_T] = scores.logp_T.detach()
        entropy_T[block.mode][own_T] = scores.entropy_T.detach()
    return Old(logp_T, entropy_T)


#: What :func:`gradient_statistics` is made of: sums of products, by layer and by pair of gradients.
Products = dict[int | None, dict[str, float]]


def layer_products(
    normal: Vector, accuracy: Vector, bonus: Vector, null: Vector, layers: Sequence[int | None]
) -> Products:
    """Products of gradients, those of a part of their numbers a part of the sums.

    Args:
        normal, accuracy, bonus: g_N and the parts of g_H, one tensor a parameter.
        null: the gradient of one half of a random split of the rows; the other half is the rest of all.
        layers: the layer of each parameter, None outside of the layers.
    """
    pairs = ("NN", "HH", "NH", "BB", "NB", "AA", "xx", "yy", "xy")
    pending: Vector = []
    for g_n, g_a, g_b, x in zip(normal, accuracy, bonus, null, strict=True):
        g_h = g_a + g_b
        of = {"N": g_n, "H": g_h, "B": g_b, "A": g_a, "x": x, "y": g_n + g_h - x}
        pending.append(torch.stack([(of[one] * of[other]).sum(dtype=torch.float64) for one, other in pairs]))
    products: Products = {}
    for layer, fetched in zip(layers, fetch(pending), strict=True):
        sums = products.setdefault(layer, dict.fromkeys(pairs, 0.0))
        for pair, value in zip(pairs, fetched.tolist(), strict=True):
            sums[pair] += value
    return products


def added_up(parts: Sequence[Products]) -> Products:
    """The products of whole gradients from those of their parts, which have the same layers."""
    return {
        layer: {pair: sum(part[layer][pair] for part in parts) for pair in sums}
        for layer, sums in parts[0].items()
    }


def gradient_statistics(products: Products) -> dict[str, float]:
    """What the gradients of one probe say.

    ``diag/grad_cos`` cos(g_N, g_accuracy + g_bonus), also per layer as ``diag/grad_cos/L*``;
    ``diag/grad_cos_bonus`` cos(g_N, g_bonus); ``diag/grad_bonus_ratio`` ||g_bonus|| / ||g_accuracy||;
    ``diag/grad_conflict_rate`` the share of layers where cos < 0 (its mean over steps is the rate over steps
    and layers), beside ``diag/grad_conflict_rate_null``. A cosine with a zero gradient is left out.
    """
    pairs = next(iter(products.values()))
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
