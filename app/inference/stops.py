"""Stop sequences are not part of the answer: cut them off, also where they come in pieces."""


class StopFilter:
    """Passes text on until a stop sequence; holds back what may be the beginning of one."""

    def __init__(self, stops: list[str]):
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that is certain to belong to the answer now."""
        if self.stopped or not self._stops:
            return "" if self.stopped else text
        text = self._held + text
        # The sequence that is complete first ends the answer, so that it does not matter how the text is cut.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        keep = max(self._begun(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text held back, when nothing follows."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _begun(text: str, stop: str) -> int:
        """The length of the longest end of ``text`` that begins ``stop``."""
        return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
