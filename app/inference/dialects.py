"""How the two endpoints word their answers."""

from itertools import chain

from app.inference.answers import Gathered
from app.inference.completion_schemas import OnePrompt
from app.inference.service import Sample
from app.inference.text_logprobs import Told, joined
from app.inference.upstream import Piece


class ChatDialect:
    """``/v1/chat/completions``."""

    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def whole(self, gathered: Gathered) -> dict[str, object]:
        calls = [gathered.tool_calls[index] for index in sorted(gathered.tool_calls)]
        message: dict[str, object] = {
            "role": "assistant",
            "content": gathered.text if gathered.text or not calls else None,
            "refusal": None,
        }
        if gathered.reasoning:
            message["reasoning_content"] = gathered.reasoning
        if calls:
            message["tool_calls"] = calls
        return {"message": message, "logprobs": self._joined(gathered.logprobs)}

    def opening(self, sample: Sample) -> dict[str, object] | None:
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None}

    def piece(self, piece: Piece, sample: Sample) -> dict[str, object]:
        delta: dict[str, object] = {"content": piece.text} if piece.text else {}
        return {
            "delta": delta if piece.delta is None else {**delta, **piece.delta},
            "logprobs": piece.logprobs,
        }

    def closing(self) -> dict[str, object]:
        return {"delta": {}, "logprobs": None}

    @staticmethod
    def _joined(parts: list[Told]) -> dict[str, object] | None:
        if not parts:
            return None
        return {"content": list(chain(*(part.get("content") or () for part in parts))), "refusal": None}


class TextDialect:
    """``/v1/completions``; ``echoes``: the prompts that answers begin with, where that is asked."""

    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def __init__(self, echoes: list[OnePrompt] | None, samples: list[Sample]):
        self._echoes = echoes
        self._samples = samples

    def whole(self, gathered: Gathered) -> dict[str, object]:
        sample, prompt = self._samples[gathered.index], gathered.prompt
        parts = gathered.logprobs if prompt is None else [prompt, *gathered.logprobs]
        return {"text": self._echo(sample, prompt) + gathered.text, "logprobs": joined(parts)}

    def opening(self, sample: Sample) -> dict[str, object] | None:
        # With log-probabilities the prompt comes when these do.
        if self._echoes is None or "echo" in sample.request.extras:
            return None
        return {"text": self._echo(sample, None), "logprobs": None}

    def piece(self, piece: Piece, sample: Sample) -> dict[str, object]:
        text = self._echo(sample, piece.logprobs) if piece.is_prompt else piece.text
        return {"text": text, "logprobs": piece.logprobs}

    def closing(self) -> dict[str, object]:
        return {"text": "", "logprobs": None}

    def _echo(self, sample: Sample, logprobs: Told | None) -> str:
        """The prompt's text; of one that was given as token ids, what its tokens say."""
        prompt = "" if self._echoes is None else self._echoes[sample.prompt]
        if isinstance(prompt, str):
            return prompt
        return "" if logprobs is None else "".join(logprobs["tokens"])
