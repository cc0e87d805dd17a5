"""How responses are sampled in training. Torch-free."""

from typing import Literal

from pydantic import Field, model_validator

from trainer.graders.spec import StrictModel

VLLM_LOWEST_TEMPERATURE = 0.01


class VllmSpec(StrictModel):
    """How vLLM shares the machine with the trainer. Its maximum sequence length is that of the rollouts."""

    gpu_memory_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        # Left out at its default, so that an older worker can read the document; so is seeds.
        exclude_if=lambda share: share is None,
        description="Share of the GPU's memory for weights and cache; default 0.4, on GPUs of its own 0.9; "
        "unused on the CPU",
    )
    kv_cache_bytes: int | None = Field(
        default=None,
        ge=1 << 20,
        le=1 << 50,
        description="Size of the key-value cache; default: the rest of gpu_memory_share, or 2 GiB on the CPU",
    )
    sleep: bool = Field(
        default=True,
        description="On a GPU: free the memory for the trainer during updates; unused on the CPU",
    )
    seeds: Literal["request", "batch"] | None = Field(
        default=None,
        exclude_if=lambda seeds: seeds is None,
        description="request: each response has its own seed, independent of its batch; batch: one seed "
        "per batch, which is faster. Either way the same batch gives the same responses. Default: "
        "request on the CPU, batch on GPUs",
    )


class RolloutSpec(StrictModel):
    """How a step's responses are sampled."""

    prompts_per_step: int = Field(
        default=8, ge=1, le=1_000_000, description="Groups per step; each has samples_per_prompt responses"
    )
    samples_per_prompt: int = Field(
        default=8,
        ge=2,
        le=100_000,
        description="Responses per prompt, G: over both modes, half each",
    )
    max_prompt_tokens: int = Field(
        default=1024, ge=1, le=10_000_000, description="Longer prompts are handled as overlong_prompts says"
    )
    max_response_tokens: int = Field(
        default=256, ge=1, le=10_000_000, description="Tokens after which a response is cut off"
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="Sampling temperature in training; the loss uses log-probabilities at the same "
        "temperature",
    )
    engine: Literal["auto", "transformers", "vllm"] = Field(
        default="auto",
        description="transformers: the training model itself; vllm: processes beside it; auto: vllm if "
        "there is a GPU and vLLM is installed, otherwise transformers; decided once for all attempts "
        "at the run",
    )
    vllm: VllmSpec | None = Field(default=None, description="With engine vllm: how it shares the machine")
    staleness: int = Field(
        default=0,
        ge=0,
        le=64,
        # Left out at its default, so that an older worker can read the document.
        exclude_if=lambda steps: steps == 0,
        description="Number of steps that sampling is ahead of training: a step's responses are sampled "
        "with the weights of this many steps before. With an engine beside the trainer, sampling and "
        "grading then continue during updates. Responses are weighted by truncated importance sampling "
        "(rollout_importance_cap); 0: each step samples with the weights that it trains",
    )
    force_response_format: bool = Field(
        default=False,
        # Left out at its default, so that an older worker can read the document.
        exclude_if=lambda forces: not forces,
        description="Enforce response_format while sampling, in training and evaluation: only tokens that "
        "can still lead to a match are drawn. A token then counts by the probability that the "
        "model itself gives to all tokens allowed in its place",
    )

    @model_validator(mode="after")
    def _options_have_their_engine(self) -> "RolloutSpec":
        if self.vllm is not None and self.engine == "transformers":
            raise ValueError(
                f"rollout.vllm is given, but rollout.engine is {self.engine!r}: give 'vllm' or 'auto'"
            )
        return self
