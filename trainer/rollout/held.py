"""Responses of a batch that are held to a form while the built-in engine samples them.

What may come next depends on a response's own tokens alone, so nothing is kept from one call to the next, and
a step that is done again draws the same.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from trainer.errors import InvalidSpec
from trainer.graders.forced import BadForm, Matcher, Vocabulary, grammar_of
from trainer.graders.response_format import ResponseFormat
from trainer.model.policy import Policy


class Forms:
    """What a policy's tokens say, byte by byte; read when it is first asked for, and then kept."""

    def __init__(self, policy: Policy):
        self._policy = policy

    def hold(self, form: ResponseFormat) -> Callable[[int], "HeldRows"]:
        """Of how many rows, to these rows at their beginning. Raises InvalidSpec where ``form``, which
        restricts, cannot be forced."""
        with _told():
            return partial(HeldRows, self._vocabulary.matcher(grammar_of(form)))

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        policy = self._policy
        if not policy.tokenizer.is_fast:
            raise BadForm("its tokenizer is not from the tokenizers library")
        written = policy.tokenizer.backend_tokenizer.to_str()
        return Vocabulary(written, sorted(policy.stop_ids), policy.output_VD.shape[0])


class HeldRows:
    """Rows that have each a place in their form."""

    def __init__(self, beginning: Matcher, rows: int):
        self._matchers: list[Matcher | None] = [beginning.copy() for _ in range(rows)]

    def restricted(self, logits_BV: Tensor, rows: Sequence[int]) -> Tensor:
        """-inf for what may not come next in the ``rows`` that the logits are of; ended ones stay.

        Raises InvalidSpec where a form turns out too intricate to be followed.
        """
        allowed_BV = np.ones(logits_BV.shape, dtype=np.bool_)
        with _told():
            for place, row in enumerate(rows):
                if (matcher := self._matchers[row]) is not None:
                    allowed_BV[place] = matcher.allowed()[: logits_BV.shape[1]]
        return logits_BV.masked_fill(~torch.from_numpy(allowed_BV).to(logits_BV.device), -torch.inf)

    def accept(self, row: int, token: int, ended: bool) -> None:
        """``token`` was drawn for ``row``, and ended it or not."""
        matcher = self._matchers[row]
        assert matcher is not None, "the row had ended"
        if ended:
            self._matchers[row] = None
            return
        with _told():
            matcher.accept(token)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BadForm as error:
        problem = f"response_format cannot be enforced: {error}"
        raise InvalidSpec(problem, "response_format") from error
