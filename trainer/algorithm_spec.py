"""The algorithms' options: one class each, told apart by ``type``; choosing ``type`` is enough. Torch-free.

Defaults are those of the papers named; where we depart, the field says so.
"""

from typing import Annotated, Literal

from pydantic import Field

from trainer.graders.spec import StrictModel

Aggregation = Literal["token_mean_per_mode", "token_mean", "sequence_mean", "sequence_sum", "constant_length"]


class ReferenceKl(StrictModel):
    """A penalty on the distance from the model that training began with; x = log pi - log ref.

    k1 = x, k2 = x^2 / 2, k3 = e^-x - 1 + x. As a loss only k2 has the gradient of the reverse KL.
    """

    coefficient: float = Field(gt=0)
    estimator: Literal["k1", "k2", "k3"] = "k3"


class Objective(StrictModel):
    """What every algorithm with a clipped importance ratio shares."""

    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.2, gt=0)
    aggregation: Aggregation = "token_mean"
    reference_kl: ReferenceKl | None = None
    rollout_importance_cap: float | None = Field(
        default=None,
        gt=0,
        description="Weigh own rows by min(pi_trainer / pi_rollout, cap): truncated importance sampling "
        "between rollout engine and trainer; the usual cap is 2",
    )


class Grpo(Objective):
    """GRPO (arXiv 2402.03300) on the normal mode; our default has no reference-KL."""

    type: Literal["grpo"] = "grpo"
    aggregation: Aggregation = "sequence_mean"


class PolicySplit(Objective):
    """Policy Split (arXiv 2604.11510). ``eta``, ``alpha``, ``kappa`` as in the paper's section 3."""

    type: Literal["policy_split"] = "policy_split"
    aggregation: Aggregation = "token_mean_per_mode"
    eta: float = Field(default=0.03, ge=0, description="Size of the high-entropy mode's bonus")
    alpha: float = Field(default=0.5, ge=0, le=1, description="Entropy (1) against divergence from N (0)")
    kappa: float = Field(default=2.0, gt=0, description="The bonus is clamped to |A|/kappa")
    clip_order: Literal["inside", "outside"] = Field(
        default="inside", description="inside: clamp(eta*B); outside: eta*clamp(B)"
    )
    weight_normal: float = Field(default=0.5, ge=0)
    weight_high_entropy: float = Field(default=0.5, ge=0)
    sharing: Literal["both", "h_to_n", "n_to_h", "none", "none_pooled"] = Field(
        default="both",
        description="Which mode's rollouts also train the other mode; none_pooled keeps the shared baseline",
    )
    high_entropy_samples: int | None = Field(
        default=None, ge=0, description="Rollouts a prompt sampled in high-entropy mode; default half"
    )
    eta_normal: float = Field(default=0.0, description="The mirrored bonus of the normal mode")
    eta_warmup_steps: int = Field(default=1, ge=1)
    freeze_step: int | None = Field(default=None, ge=0, description="Loss weight 0 from this step on")
    freeze_mode: Literal["high-entropy", "normal"] = Field(
        default="high-entropy", description="The mode whose loss weight freeze_step sets to 0"
    )
    freeze_sampling: bool = Field(
        default=False, description="From freeze_step on sample from the mode that still trains alone"
    )
    cross_importance: Literal["none", "truncated"] = "none"
    cross_negative: Literal["keep", "drop"] = "keep"


AlgorithmSpec = Annotated[PolicySplit | Grpo, Field(discriminator="type")]
