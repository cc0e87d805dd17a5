"""What is scored is what was sampled: three steps of policy_split on a tiny model of each family, in float32.

    python -m benchmarks.architectures

One row a family: its steps, and the largest difference of a token's log-probability when it was sampled and
when it was scored, nats. A minute.
"""

import tempfile
from pathlib import Path

from tests.fixtures.architectures import FAMILIES, build_architecture
from tests.fixtures.runs import events_of, family_spec
from trainer.api import train
from trainer.spec.events import StepMetrics


def main() -> None:
    """Print the table."""
    print("| family | steps | largest gap, nats |\n|---|---|---|")
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model = build_architecture(folder / "model", family)
            train(family_spec(model, folder, 3), folder / "run")
            steps = [event.values for event in events_of(folder / "run") if isinstance(event, StepMetrics)]
        largest = max(values["rollout/logprob_gap_max"] for values in steps)
        print(f"| {family} | {len(steps)} | {largest:.1e} |", flush=True)


if __name__ == "__main__":
    main()
