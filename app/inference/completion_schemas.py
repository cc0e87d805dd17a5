"""The completion request: a raw prompt, without turns and without a chat template."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator

from app.inference.sampling import MAX_CHOICES, SamplingRequest

TokenId = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
OnePrompt = str | list[int]


def _kind(value: object) -> str:
    if not isinstance(value, list):
        return "text"
    first = value[0] if value else ""
    return "token ids" if isinstance(first, int) else "several" if isinstance(first, list) else "texts"


Prompt = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[list[Text], Tag("texts"), Field(min_length=1)]
    | Annotated[TokenIds, Tag("token ids")]
    | Annotated[list[TokenIds], Tag("several")],
    Discriminator(_kind),
]


class CompletionRequest(SamplingRequest):
    """``POST /v1/completions``. Choices are numbered prompt by prompt, ``n`` of each."""

    prompt: Prompt = Field(description="A text or token ids, or a list of these")
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=5,
        description="Number of most likely tokens to return at each position besides the sampled one, 0 "
        "to 5; default: no log-probabilities",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        description="Maximum tokens per answer; default: as many as fit the context. 0 with echo and "
        "logprobs: only the prompt",
    )
    echo: bool | None = Field(
        default=None,
        description="Start each answer with its prompt; with logprobs, including the prompt's tokens",
    )
    best_of: int | None = Field(
        default=None,
        ge=1,
        description="Accepted if it equals n; for the best of several answers give best_of_n",
    )
    suffix: str | None = Field(default=None, description="Not supported; leave it out")

    @model_validator(mode="after")
    def _fields_agree(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != self.choices:
            raise ValueError(
                f"best_of is {self.best_of}, but choosing the most likely answer is not supported; leave "
                "it out, or give best_of_n with a grader"
            )
        if self.suffix:
            raise ValueError("suffix is not supported by any engine here; leave it out")
        if self.echo and not self.tells_prompt and any(isinstance(prompt, list) for prompt in self.prompts):
            raise ValueError("echo is given with token ids: also give logprobs, or give the prompt as text")
        if self.max_tokens == 0 and not self.tells_prompt:
            raise ValueError("max_tokens is 0: give 1 or more, or echo and logprobs to score the prompt")
        if len(self.prompts) * self.choices > MAX_CHOICES:
            raise ValueError(
                f"prompt and n make {len(self.prompts) * self.choices} answers, more than {MAX_CHOICES}"
            )
        if self.best_of_n is not None and len(self.prompts) > 1:
            raise ValueError("best_of_n is given with several prompts: give one at a time")
        return self

    @property
    def tells_prompt(self) -> bool:
        """Whether the log-probabilities of the prompt are wanted."""
        return bool(self.echo) and self.logprobs is not None

    @property
    def prompts(self) -> list[OnePrompt]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)  # type: ignore[arg-type]

    def extras(self) -> Iterator[tuple[str, object]]:
        yield from super().extras()
        if self.logprobs is not None:
            yield "logprobs", self.logprobs
        if self.tells_prompt:
            yield "echo", True
