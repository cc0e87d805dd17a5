"""The trainer's protocol with nothing but the standard library: done before Python has imported pydantic.

For thousands of jobs, each of a few steps: the same command line, event lines, checkpoint folder and lock as
the real trainer's. Run with ``python -S -E quick_trainer.py``.
"""

import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from trainer.system.run_lock import sole_trainer

PROMPT = "Explore."


def _option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def _die_with_the_worker() -> None:
    while os.read(0, 1024):
        pass
    os._exit(75)


def main() -> None:
    threading.Thread(target=_die_with_the_worker, daemon=True).start()
    run_dir = Path(_option("--run-dir"))
    spec = json.loads(Path(_option("--spec")).read_bytes())
    total = spec["total_steps"]
    with (
        sole_trainer(run_dir, int(_option("--attempt")), lambda: os._exit(1)),
        (run_dir / _option("--events")).open("ab", buffering=0) as events,
    ):

        def write(kind: str, **fields: object) -> None:
            events.write(json.dumps({"type": kind, "time": time.time(), **fields}).encode() + b"\n")

        write("started", step=0, total_steps=total, parameters=7, device="cpu")
        for step in range(1, total + 1):
            values = {"train/N/reward": step / 10, "train/H/reward": step / 10, "train/step_seconds": 0.1}
            write("metrics", step=step, total_steps=total, values=values)
            record = {
                "group": 0,
                "index": 0,
                "item": step,
                "mode": "normal",
                "prompt": "1 + 1",
                "response": "2",
                "reward": 1.0,
                "tokens": 1,
                "truncated": False,
                "logprobs": [-0.5],
                "entropies": [0.7],
                "token_texts": ["2"],
            }
            write("rollouts", step=step, rollouts=[record, record | {"index": 1, "mode": "high-entropy"}])
        folder = run_dir / "checkpoints" / f"step-{total}"
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {
            "run_id": spec["run_id"],
            "step": total,
            "base_model": "tiny",
            "algorithm": "policy_split",
        }
        content = json.dumps({**manifest, "high_entropy_prompt": PROMPT}).encode()
        (folder / ".manifest").write_bytes(content)
        (folder / ".manifest").rename(folder / "policysplit.json")
        sha256 = hashlib.sha256(content).hexdigest()
        path = f"checkpoints/step-{total}"
        write("checkpoint", step=total, path=path, high_entropy_prompt=PROMPT, manifest_sha256=sha256)
        write("finished", step=total, trained_tokens=10 * total)


if __name__ == "__main__":
    main()
