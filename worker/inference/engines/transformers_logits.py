"""What a request asks of the logits, between the model and the choice of a token, and what it wants told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from trainer.graders.forced import Matcher, Vocabulary

#: Tokens of a prompt whose logits exist at once.
CHUNK = 256


@dataclass(frozen=True)
class TokenLogprobs:
    """A token with its log-probability in nats, None for the first of a text, and the likeliest in its place.

    Of the model itself: at temperature 1, before penalties, biases and forms, as vLLM tells them.
    """

    token: int
    logprob: float | None
    top: list[tuple[int, float]]


class Shaping:
    """A logits processor of ``generate`` for one answer: penalties, biases, and the form that it is held to.

    Args:
        prompt: tokens of the prompt.
        biases: by token id, added to its logit.
        matcher: of the form; None: any text.
        top: how many of the likeliest tokens to tell at each position; None: nothing is told.
    """

    def __init__(
        self,
        prompt: int,
        *,
        presence: float = 0.0,
        frequency: float = 0.0,
        biases: dict[int, float] | None = None,
        matcher: Matcher | None = None,
        top: int | None = None,
    ):
        self._prompt = prompt
        self._presence, self._frequency = presence, frequency
        self._biases = biases or {}
        self._matcher = matcher
        self._top = top
        self._logprobs_V: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Shapes (1, tokens so far) and (1, V) to (1, V). Raises BadForm."""
        if self._top is not None:
            self._logprobs_V = scores[0].float().log_softmax(-1)
        answer = input_ids[0, self._prompt :]
        if len(answer) and (self._presence or self._frequency):
            counts = torch.bincount(answer, minlength=scores.shape[-1]).to(scores.dtype)
            scores = scores - self._frequency * counts - self._presence * (counts > 0)
        if self._biases:
            scores = scores.clone()
            for token, bias in self._biases.items():
                scores[0, token] += bias
        if self._matcher is not None:
            if len(answer):
                self._matcher.accept(int(answer[-1]))
            allowed = torch.from_numpy(self._matcher.allowed()[: scores.shape[-1]])
            scores = scores.masked_fill(~allowed.to(scores.device), -torch.inf)
        return scores

    def told(self, token: int) -> TokenLogprobs | None:
        """What to tell of the token that was chosen last."""
        return None if self._logprobs_V is None else _told(self._logprobs_V, token, self._top or 0)


@torch.inference_mode()
def prompt_logprobs(model: Any, ids: Tensor, top: int) -> list[TokenLogprobs]:
    """Each token of a prompt (shape (1, tokens)), given those before it."""
    told = [TokenLogprobs(int(ids[0, 0]), None, [])]
    cache = DynamicCache(config=model.config)
    for start in range(0, ids.shape[1] - 1, CHUNK):
        chunk = ids[:, start : start + CHUNK]
        logits = model(input_ids=chunk, past_key_values=cache, use_cache=True).logits[0]
        following = ids[0, start + 1 : start + 1 + len(logits)].tolist()
        rows = logits[: len(following)].float().log_softmax(-1)
        told += [_told(row, token, top) for row, token in zip(rows, following, strict=True)]
    return told


def _told(logprobs_V: Tensor, token: int, top: int) -> TokenLogprobs:
    best, ids = logprobs_V.topk(min(top, len(logprobs_V)))
    return TokenLogprobs(token, float(logprobs_V[token]), list(zip(ids.tolist(), best.tolist(), strict=True)))


class Wording:
    """Tokens and their log-probabilities as the two endpoints have them."""

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._offset = 0

    def chat(self, told: TokenLogprobs) -> dict[str, object]:
        """The ``logprobs`` of a chunk of ``/v1/chat/completions``."""
        top = [self._entry(token, logprob) for token, logprob in told.top]
        return {"content": [{**self._entry(told.token, told.logprob), "top_logprobs": top}]}

    def text(self, told: Sequence[TokenLogprobs]) -> dict[str, object]:
        """The ``logprobs`` of a chunk of ``/v1/completions``."""
        tokens = [self._text(one.token) for one in told]
        offsets: list[int] = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [one.logprob for one in told],
            "top_logprobs": [self._likeliest(one) for one in told],
            "text_offset": offsets,
        }

    def _likeliest(self, told: TokenLogprobs) -> dict[str, float] | None:
        if told.logprob is None:
            return None
        # As at OpenAI: the sampled one stands there, too.
        return {self._text(token): logprob for token, logprob in (*told.top, (told.token, told.logprob))}

    def _entry(self, token: int, logprob: float | None) -> dict[str, object]:
        return {
            "token": self._text(token),
            "logprob": logprob,
            "bytes": list(self._vocabulary.bytes_of(token)),
        }

    def _text(self, token: int) -> str:
        return self._vocabulary.bytes_of(token).decode(errors="replace")
