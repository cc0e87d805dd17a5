"""Adaptive entropy control (Skywork-OR1, arXiv 2505.22312): a bonus that holds the entropy at a target."""

from trainer.algorithms.entropy_bonus import EntropyBonusAlgorithm
from trainer.spec.algorithm import AdaptiveEntropy


def controlled_coefficient(
    coefficient: float, entropy: float, *, target: float, step_size: float, maximum: float
) -> float:
    """c <- clip(c + delta, 0, c_max) below the target, clip(c - delta, 0, c_max) from there on; nats."""
    change = step_size if entropy < target else -step_size
    return min(max(coefficient + change, 0.0), maximum)


class AdaptiveEntropyAlgorithm(EntropyBonusAlgorithm):
    """The entropy bonus with a controlled coefficient, in force only while the last step's H was too low."""

    spec: AdaptiveEntropy

    def __init__(
        self,
        spec: AdaptiveEntropy,
        max_response_tokens: int | None = None,
        engine: str = "transformers",
        forced: bool = False,
        staleness: int = 0,
    ):
        super().__init__(spec, max_response_tokens, engine, forced, staleness)
        self._coefficient = spec.initial_coefficient
        self._below_target = True

    def coefficient(self) -> float:
        return self._coefficient if self._below_target else 0.0

    def after_step(self, metrics: dict[str, float]) -> None:
        entropy = metrics.get("train/N/entropy_nats")
        if entropy is None:  # a step whose responses are all empty says nothing about the entropy
            return
        self._below_target = entropy < self.spec.target_entropy
        self._coefficient = controlled_coefficient(
            self._coefficient,
            entropy,
            target=self.spec.target_entropy,
            step_size=self.spec.coefficient_step,
            maximum=self.spec.max_coefficient,
        )

    def state(self) -> dict[str, float]:
        return {"coefficient": self._coefficient, "below_target": float(self._below_target)}

    def load_state(self, state: dict[str, float]) -> None:
        if state:
            self._coefficient = state["coefficient"]
            self._below_target = bool(state["below_target"])
