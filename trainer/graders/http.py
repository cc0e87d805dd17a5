"""``http``: a service of the user's own gives the reward.

It gets ``{"grader", "item", "sample": {"output_text", "output_json"}}`` (and ``reasoning`` and ``full_text``
where the response has thoughts) by POST, signed as Standard Webhooks
has it (headers ``webhook-id``, ``-timestamp``, ``-signature``; retries keep the id), and answers
``{"reward": 0.5, "scores": {"length": 12}}``, scores at will.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
import uuid

from trainer.errors import InvalidSpec
from trainer.graders.grade import ConcurrentGrader, Grade, GraderError, Sample, finite
from trainer.graders.operator import allowed_hosts, secret_named
from trainer.graders.remote import Remote, RemoteError
from trainer.graders.spec import HttpGrader
from trainer.graders.templates import parse_output

MAX_SCORES = 50


class Http(ConcurrentGrader):
    """Raises InvalidSpec for an unknown secret or a URL that leads nowhere public."""

    def __init__(self, spec: HttpGrader):
        super().__init__("http-grader", spec.concurrency)
        self._name = spec.name
        self._key = signing_key(secret_named(spec.secret))
        self._remote = Remote(spec.url, spec, self.closed, allowed_hosts(), "grader.url")

    def grade_one(self, sample: Sample) -> Grade:
        try:
            parsed = parse_output(sample.text)
        except GraderError:
            parsed = None
        told = {"output_text": sample.text, "output_json": parsed}
        if sample.reasoning is not None:
            told |= {"reasoning": sample.reasoning, "full_text": sample.full_text}
        body = json.dumps({"grader": self._name, "item": sample.item, "sample": told}).encode()
        identity = f"grade_{uuid.uuid4().hex}"
        try:
            answer = self._remote.post("", body, lambda: signature_headers(self._key, identity, body))
        except RemoteError as error:
            kind = "unresponsive_reward_error" if error.status is None else "other_error"
            raise GraderError(str(error), kind) from None
        reward = answer.get("reward")
        if isinstance(reward, bool) or not isinstance(reward, int | float) or abs(reward) > 1e300:
            raise GraderError(f"the answer's reward is {json.dumps(reward)[:80]}; it should be a number")
        reward = finite(float(reward), "the answer's reward")
        return Grade(reward, {self._name: reward} | _scores(answer.get("scores")))

    def close(self) -> None:
        super().close()
        self._remote.close()


def signing_key(secret: str) -> bytes:
    """The bytes of a secret: after ``whsec_`` in base64, else its text."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise InvalidSpec(
            "the operator's secret begins with whsec_ but continues with text that is not base64"
        ) from None


def signature_headers(key: bytes, identity: str, body: bytes) -> dict[str, str]:
    """Standard Webhooks: HMAC-SHA256 of ``id.timestamp.body``."""
    moment = str(int(time.time()))
    digest = hmac.new(key, f"{identity}.{moment}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": identity,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _scores(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    return {
        str(name)[:64]: float(score)
        for name, score in list(value.items())[:MAX_SCORES]
        if isinstance(score, int | float) and abs(score) < 1e300
    }
