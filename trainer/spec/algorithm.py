"""The algorithms' options: one class each, distinguished by ``type``; choosing ``type`` is enough.
Torch-free.

Defaults are those of the papers named; where we depart, the field says so.
"""

from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from trainer.graders.spec import StrictModel

T = TypeVar("T")
Type = Annotated[T, Field(description="Type of algorithm; each has its own defaults for the other fields")]
Aggregation = Annotated[
    Literal["token_mean_per_mode", "token_mean", "sequence_mean", "sequence_sum", "constant_length"],
    Field(
        description="How token losses are aggregated: token_mean: over all tokens of the batch; "
        "token_mean_per_mode: over each mode's tokens; sequence_mean: over a response's "
        "tokens, then over responses; sequence_sum: the sum per response, then over "
        "responses; constant_length: that sum divided by rollout.max_response_tokens"
    ),
]


class ReferenceKl(StrictModel):
    """A penalty on the distance from the model that training started from; x = log pi - log ref.

    k1 = x, k2 = x^2 / 2, k3 = e^-x - 1 + x. As a loss only k2 has the gradient of the reverse KL.
    """

    coefficient: float = Field(gt=0, le=1e6, description="Beta: penalty per nat of distance")
    estimator: Literal["k1", "k2", "k3"] = Field(
        default="k3",
        description="Estimator of the distance from sampled tokens; k3 is never negative",
    )


class Objective(StrictModel):
    """Common to all algorithms."""

    aggregation: Aggregation = "token_mean"
    reference_kl: ReferenceKl | None = Field(
        default=None, description="Penalty for moving away from the starting model; default: none"
    )

    @property
    def needs_answers(self) -> bool:
        """Whether advantages depend on which responses give the same answer."""
        return False

    rollout_importance_cap: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="Weight a mode's own rows by min(pi_trainer / pi_rollout, cap): truncated importance "
        "sampling between rollout engine and trainer. Default: 2 if rollout.engine is vllm, "
        "rollout.staleness is above 0 or rollout.force_response_format is true; otherwise none, because "
        "the ratio is 1 if the training model samples, unconstrained; 0: none",
    )


class ClippedObjective(Objective):
    """Common to all algorithms with a clipped importance ratio."""

    clip_low: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Epsilon: importance ratios below 1 minus this give no gradient if the advantage is "
        "negative",
    )
    clip_high: float = Field(
        default=0.2,
        gt=0,
        le=1e6,
        description="Epsilon: importance ratios above 1 plus this give no gradient if the advantage is "
        "positive",
    )


class SingleMode(Objective):
    """Common to all algorithms that train only the normal mode."""

    uniqueness: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Pull a reward towards the next lower one of its group by c to the power of minus "
        "this, where c is how many responses of the group give the same answer; 0: leave "
        "rewards unchanged. The control for policy_split's exploration at answer level",
    )

    @property
    def needs_answers(self) -> bool:
        return self.uniqueness > 0


class ClippedSingleMode(ClippedObjective, SingleMode):
    """One mode, with a clipped importance ratio."""


class TokenExploration(StrictModel):
    """The paper's: only improbable tokens are rewarded, with ``eta``, ``alpha`` and ``kappa``."""

    level: Literal["token"] = Field(default="token", description="The level of tokens, as in the paper")


class AnswerExploration(StrictModel):
    """Rare right answers earn more; the token bonus is added, unless ``eta`` is 0.

    The grader defines what an answer is.
    """

    level: Literal["answer"] = Field(default="answer", description="The level of whole answers")
    scale: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="Lambda: a reward is pulled towards the next lower one of its group by c to the power of "
        "minus lambda, where c is how many responses of the group give the same answer; 0: not at all",
    )


Exploration = Annotated[TokenExploration | AnswerExploration, Field(discriminator="level")]


class Grpo(ClippedSingleMode):
    """GRPO (arXiv 2402.03300) on the normal mode; by default without reference KL."""

    type: Type[Literal["grpo"]] = "grpo"
    aggregation: Aggregation = "sequence_mean"


class DrGrpo(ClippedSingleMode):
    """Dr. GRPO (arXiv 2503.20783): no division by the deviation, nor by a response's own length."""

    type: Type[Literal["dr_grpo"]] = "dr_grpo"
    aggregation: Aggregation = "constant_length"


class Dapo(ClippedSingleMode):
    """DAPO (arXiv 2503.14476)."""

    type: Type[Literal["dapo"]] = "dapo"
    clip_high: float = Field(
        default=0.28,
        gt=0,
        le=1e6,
        description="Epsilon: the upper clip, wider than the lower one so that rare tokens can grow",
    )
    resampling_rounds: int = Field(
        default=9,
        ge=0,
        le=10_000,
        description="How often a step may sample more items to replace groups whose rewards are all the "
        "same; then it trains on fewer. The paper has no limit",
    )
    overlong_buffer: int | None = Field(
        default=None,
        ge=0,
        le=10_000_000,
        description="C: within the last C tokens before the limit the reward falls linearly by "
        "overlong_penalty; default: a fifth of rollout.max_response_tokens; 0: no penalty",
    )
    overlong_penalty: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="Penalty for a response at the limit. Rewards here range from 0 to 1, in the paper "
        "from -1 to 1: its penalty of 1 corresponds to 0.5 here, and 1 cancels a right "
        "answer's whole lead",
    )


class Gspo(ClippedSingleMode):
    """GSPO (arXiv 2507.18071): one importance ratio per response."""

    type: Type[Literal["gspo"]] = "gspo"
    clip_low: float = Field(
        default=3e-4,
        gt=0,
        lt=1,
        description="Epsilon for a whole response's ratio, which varies far less than a token's",
    )
    clip_high: float = Field(
        default=4e-4, gt=0, le=1e6, description="Upper epsilon for a whole response's ratio"
    )
    aggregation: Aggregation = "sequence_mean"


class Cispo(SingleMode):
    """CISPO (arXiv 2506.13585): the importance weight is capped, and every token trains."""

    type: Type[Literal["cispo"]] = "cispo"
    clip_high: float = Field(default=4.0, gt=0, le=1e6, description="The weight is at most 1 + clip_high")


class EntropyBonus(ClippedSingleMode):
    """A constant times the mean token entropy, taken from the loss."""

    type: Type[Literal["entropy_bonus"]] = "entropy_bonus"
    coefficient: float = Field(default=0.003, ge=0, le=1e6, description="c, per nat")


class AdaptiveEntropy(ClippedSingleMode):
    """The entropy bonus with Skywork-OR1's adaptive coefficient (arXiv 2505.22312)."""

    type: Type[Literal["adaptive_entropy"]] = "adaptive_entropy"
    target_entropy: float = Field(
        default=0.2, gt=0, le=1e6, description="In nats; at or above it there is no bonus"
    )
    initial_coefficient: float = Field(
        default=0.0, ge=0, le=1e6, description="The coefficient at the first step, per nat"
    )
    coefficient_step: float = Field(default=1e-4, gt=0, le=1e6, description="Change after each step, per nat")
    max_coefficient: float = Field(
        default=5e-3, gt=0, le=1e6, description="The coefficient never exceeds this, per nat"
    )


class EntropyAdvantage(ClippedSingleMode):
    """The advantage plus min(scale * H_t, |A_t| / kappa) (arXiv 2506.14758)."""

    type: Type[Literal["entropy_advantage"]] = "entropy_advantage"
    scale: float = Field(default=0.4, ge=0, le=1e6, description="a, per nat")
    kappa: float = Field(
        default=2.0,
        gt=0,
        le=1e6,
        description="The bonus is at most |A|/kappa, so that above 1 no advantage changes its sign",
    )


class ClipCov(ClippedSingleMode):
    """Clip-Cov (arXiv 2505.22617): tokens drawn from a band of the covariance give no gradient."""

    type: Type[Literal["clip_cov"]] = "clip_cov"
    share: float = Field(default=2e-4, gt=0, le=1, description="Share of the batch's tokens; at least one")
    band_low: float = Field(
        default=1.0, ge=-1e6, le=1e6, description="Lower end of the covariances from which tokens are drawn"
    )
    band_high: float = Field(
        default=5.0, ge=-1e6, le=1e6, description="Upper end of the covariances from which tokens are drawn"
    )

    @model_validator(mode="after")
    def _band_has_a_width(self) -> "ClipCov":
        if self.band_low >= self.band_high:
            raise ValueError(
                f"band_low is {self.band_low} and band_high {self.band_high}: no token is in between; "
                "give a band_low below band_high"
            )
        return self


class KlCov(SingleMode):
    """KL-Cov (arXiv 2505.22617): a penalty on tokens of high covariance; acts from a second update on."""

    type: Type[Literal["kl_cov"]] = "kl_cov"
    share: float = Field(default=2e-3, gt=0, le=1, description="Share of the batch's tokens; at least one")
    kl_coefficient: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="Beta: penalty on a chosen token per nat of distance from the sampling policy",
    )


class ForkingTokens(ClippedSingleMode):
    """Only the tokens of highest entropy train (arXiv 2506.01939)."""

    type: Type[Literal["forking_tokens"]] = "forking_tokens"
    share: float = Field(default=0.2, gt=0, le=1, description="Of the batch's tokens")


class EdgeGrpo(ClippedSingleMode):
    """EDGE-GRPO's advantage (arXiv 2507.21848): confident responses count more, uncertain ones less."""

    type: Type[Literal["edge_grpo"]] = "edge_grpo"
    aggregation: Aggregation = "sequence_mean"
    ratio_low: float = Field(
        default=0.1, gt=0, le=1, description="Smallest factor on an advantage, for uncertain responses"
    )
    ratio_high: float = Field(
        default=10.0, ge=1, le=1e6, description="Largest factor on an advantage, for confident responses"
    )


class PolicySplit(ClippedObjective):
    """Policy Split (arXiv 2604.11510). ``eta``, ``alpha``, ``kappa`` as in the paper's section 3."""

    type: Type[Literal["policy_split"]] = "policy_split"
    aggregation: Aggregation = "token_mean_per_mode"
    eta: float = Field(default=0.03, ge=0, le=1e6, description="Size of the high-entropy mode's bonus")
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Share of entropy (1) against divergence from N (0)"
    )
    kappa: float = Field(default=2.0, gt=0, le=1e6, description="The bonus is clamped to |A|/kappa")
    clip_order: Literal["inside", "outside"] = Field(
        default="inside", description="inside: clamp(eta*B); outside: eta*clamp(B)"
    )
    weight_normal: float = Field(
        default=0.5, ge=0, le=1e6, description="Weight of the normal mode's loss; 0: not trained"
    )
    weight_high_entropy: float = Field(
        default=0.5, ge=0, le=1e6, description="Weight of the high-entropy mode's loss; 0: not trained"
    )
    sharing: Literal["both", "h_to_n", "n_to_h", "none", "none_pooled"] = Field(
        default="both",
        description="Which mode's rollouts also train the other mode; none_pooled keeps the shared baseline",
    )
    high_entropy_samples: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Rollouts per prompt in high-entropy mode; default: half",
    )
    eta_normal: float = Field(
        default=0.0, ge=-1e6, le=1e6, description="The mirrored bonus of the normal mode"
    )
    eta_warmup_steps: int = Field(
        default=1,
        ge=1,
        lt=2**31,
        description="Steps over which the bonus grows to eta; 1: in full from the first step",
    )
    freeze_step: int | None = Field(
        default=None, ge=0, lt=2**31, description="Loss weight 0 from this step on"
    )
    freeze_mode: Literal["high-entropy", "normal"] = Field(
        default="high-entropy", description="The mode whose loss weight freeze_step sets to 0"
    )
    freeze_sampling: bool = Field(
        default=False, description="From freeze_step on, sample only from the mode that still trains"
    )
    exploration: Exploration = Field(
        default_factory=TokenExploration,
        description="What the high-entropy mode is rewarded for besides the task: improbable tokens (the "
        "paper, and the default), or answers rare in the group",
    )
    cross_importance: Literal["none", "truncated"] = Field(
        default="none",
        description="How the other mode's rollouts are weighted: not at all, or by the ratio of the "
        "modes' probabilities, at most 2",
    )
    cross_negative: Literal["keep", "drop"] = Field(
        default="keep",
        description="keep: also learn from the other mode's bad responses; drop: only from its good ones",
    )

    @property
    def answer_scale(self) -> float:
        """Lambda of exploration at answer level; 0 at token level."""
        return self.exploration.scale if isinstance(self.exploration, AnswerExploration) else 0.0

    @property
    def needs_answers(self) -> bool:
        return self.answer_scale > 0


AlgorithmSpec = Annotated[
    PolicySplit
    | Grpo
    | DrGrpo
    | Dapo
    | Gspo
    | Cispo
    | EntropyBonus
    | AdaptiveEntropy
    | EntropyAdvantage
    | ClipCov
    | KlCov
    | ForkingTokens
    | EdgeGrpo,
    Field(discriminator="type"),
]
