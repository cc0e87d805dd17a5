"""``text_similarity`` by ``cosine``: of the texts' embeddings, which an OpenAI-compatible endpoint gives.

Embeddings need a model, and this process has none to spare: the endpoint may be a hosted one or a local
server. Opposite directions (below 0) count as 0, as the reward is from 0 to 1; the score keeps the value.
"""

import math
from typing import Any

from trainer.graders.grade import ConcurrentGrader, Grade, GraderError, Sample, finite
from trainer.graders.remote import ModelEndpoint, RemoteError
from trainer.graders.spec import TextSimilarityGrader
from trainer.graders.templates import compile_template


class Cosine(ConcurrentGrader):
    """Asks for both embeddings in one request."""

    def __init__(self, spec: TextSimilarityGrader):
        super().__init__("cosine", spec.concurrency)
        self._name = spec.name
        self._text, self._reference = compile_template(spec.input), compile_template(spec.reference)
        self._endpoint = ModelEndpoint(spec, self.closed)

    def grade_one(self, sample: Sample) -> Grade:
        texts = [self._text(sample), self._reference(sample)]
        try:
            answer = self._endpoint.post("/embeddings", {"model": self._endpoint.model, "input": texts})
        except RemoteError as error:
            raise GraderError(str(error), "model_grader_server_error") from None
        value = cosine(*_embeddings(answer))
        return Grade(max(value, 0.0), {self._name: value}, usage={self._endpoint.model: _tokens(answer)})

    def close(self) -> None:
        super().close()
        self._endpoint.close()


def cosine(one: list[float], other: list[float]) -> float:
    """cos(one, other), in [-1, 1]. Raises GraderError where there is none."""
    if not one or len(one) != len(other):
        raise GraderError(f"embeddings of {len(one)} and {len(other)} numbers", "model_grader_server_error")
    product = sum(a * b for a, b in zip(one, other, strict=True))
    value = finite(
        product / (math.hypot(*one) * math.hypot(*other) or math.nan),
        "the cosine",
        "model_grader_server_error",
    )
    return min(max(value, -1.0), 1.0)


def _embeddings(answer: dict[str, object]) -> list[list[float]]:
    try:
        data: Any = answer["data"]
        rows = sorted(data, key=lambda row: row["index"])
        found = [[float(number) for number in row["embedding"]] for row in rows]
    except (KeyError, TypeError, ValueError, OverflowError):
        found = []
    if len(found) != 2:
        raise GraderError(
            "the endpoint's answer is not a list of two embeddings", "model_grader_server_error"
        )
    return found


def _tokens(answer: dict[str, object]) -> dict[str, int]:
    usage = answer.get("usage")
    count = usage.get("total_tokens") if isinstance(usage, dict) else None
    return {"total_tokens": count} if isinstance(count, int) else {}
