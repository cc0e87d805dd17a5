"""How the two endpoints word their answers."""

from itertools import chain

from app.inference.answers import Gathered
from app.inference.service import Sample
from app.inference.upstream import Piece, Told


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

    def piece(self, piece: Piece) -> dict[str, object]:
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
    """``/v1/completions``; ``echoes``: what answers begin with, by prompt, where that is asked."""

    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def __init__(self, echoes: list[str] | None, samples: list[Sample]):
        self._echoes = echoes
        self._samples = samples

    def whole(self, gathered: Gathered) -> dict[str, object]:
        echo = "" if self._echoes is None else self._echoes[self._samples[gathered.index].prompt]
        return {"text": echo + gathered.text, "logprobs": self._joined(gathered.logprobs)}

    def opening(self, sample: Sample) -> dict[str, object] | None:
        return None if self._echoes is None else {"text": self._echoes[sample.prompt], "logprobs": None}

    def piece(self, piece: Piece) -> dict[str, object]:
        return {"text": piece.text, "logprobs": piece.logprobs}

    def closing(self) -> dict[str, object]:
        return {"text": "", "logprobs": None}

    @staticmethod
    def _joined(parts: list[Told]) -> dict[str, object] | None:
        if not parts:
            return None
        keys = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        return {key: list(chain(*(part.get(key) or () for part in parts))) for key in keys}
