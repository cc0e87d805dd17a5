"""Log-probabilities of ``/v1/completions``: the prompt's and the answer's, each in its place."""

from collections.abc import Sequence

from app.core.strict_json import JsonObject

#: JSON of an engine's stream: its reader knows the form.
Told = JsonObject

_KEYS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


class TextLogprobs:
    """Of one answer, chunk by chunk. ``hidden``: from where to where the prompt is not the client's own."""

    def __init__(self) -> None:
        self.hidden: Sequence[int] = (0, 0)
        self._offset = 0

    def split(self, choice: Told) -> tuple[Told | None, Told | None]:
        """The prompt's, where the chunk echoes it, and the answer's; None: nothing of it."""
        told: Told = choice["logprobs"]
        count = len(choice.get("prompt_token_ids") or ())
        prompt = {key: told[key][:count] for key in _KEYS}
        first, last = self.hidden
        shown = {key: [*prompt[key][:first], *prompt[key][last:]] for key in _KEYS}
        answer = {key: told[key][count:] for key in _KEYS}
        return (self._placed(shown) if count else None), (self._placed(answer) if answer["tokens"] else None)

    def _placed(self, told: Told) -> Told:
        """With ``text_offset`` from the beginning of what the client gets."""
        offsets: list[int] = []
        for token in told["tokens"]:
            offsets.append(self._offset)
            self._offset += len(token)
        return {**told, "text_offset": offsets}


def joined(parts: Sequence[Told]) -> Told | None:
    """All parts as one; None where there are none."""
    return {key: [one for part in parts for one in part[key]] for key in _KEYS} if parts else None
