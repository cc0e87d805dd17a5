"""Does policy_split learn faster behind a supervised and a dpo job? ``python -m benchmarks.chain``

Runs ``examples/chain.py`` against a running service, whole and with its last job alone, for each seed, and
prints the rewards of the last job by step. What was done is kept in ``--kept``, and a second call goes on
where one was stopped.

Written down before the seeds were run:

- Model SmolLM2-135M-Instruct in bfloat16; the example's rows and settings; 12 steps a job; seeds 0, 1 and 2.
  Supervised and dpo show 27 sums of two digits. The reward is of the other 54, and is 1 where the last number
  said is the sum, in whatever words: a model that does not know the form can earn it. Both runs of a seed
  see the same prompts at the same step.
- A step's reward is the mean of both modes' training rewards (16 responses each). Asked first: the mean over
  all steps (the area under the curve). Beside it the mean of the first and of the last three steps, how much
  the last three are above the first three (a warm start may begin higher and yet rise less), and the first
  step at 0.5 or more.
- Each seed gives one difference, chain - alone, and the three of them Student's interval at 95 % and its test
  (``trainer.statistics.over_seeds``). Three seeds tell a large difference from chance and no small one. All
  are told, favourable or not; a run that fails is told, too.
- Looked at before: supervised and dpo with seed 1000, 12 steps and a batch of 8 (training loss 0.62 to
  0.02), 2 steps of policy_split from the base (rewards 0.13 and 0.19). Nothing was chosen by what the
  chain gained.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from trainer.statistics.over_seeds import mean_interval, mean_p

ROOT = Path(__file__).parents[1]
STARTS = {"chain": ("supervised", "dpo", "reinforcement"), "alone": ("reinforcement",)}
#: Steps at each end that a mean is taken of, and the reward that is waited for.
END, WAITED_FOR = 3, 0.5
Run = dict[str, Any]


def main() -> None:
    """Do what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8700/v1")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--steps", type=int, default=12, help="of each job")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kept", type=Path, default=ROOT / ".policysplit" / "chain.jsonl")
    chosen = parser.parse_args()
    runs = _kept(chosen.kept)
    for seed in chosen.seeds:
        for start in STARTS:
            if (seed, start) not in runs:
                runs[seed, start] = run(chosen, seed, start)
                chosen.kept.parent.mkdir(parents=True, exist_ok=True)
                with chosen.kept.open("a") as kept:
                    kept.write(json.dumps(runs[seed, start]) + "\n")
    print(curves(runs, chosen.seeds), differences(runs, chosen.seeds), sep="\n\n")


def _kept(path: Path) -> dict[tuple[int, str], Run]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {(one["seed"], one["start"]): one for one in map(json.loads, lines)}


def run(chosen: argparse.Namespace, seed: int, start: str) -> Run:
    """The example from start to end; the last job's rewards by step, and each job's seconds."""
    command = [sys.executable, str(ROOT / "examples" / "chain.py"), "--base-url", chosen.base_url]
    command += ["--model", chosen.model, "--seed", str(seed), "--steps", str(chosen.steps)]
    said = subprocess.run(
        [*command, "--jobs", *STARTS[start]], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    jobs = re.findall(r"^(ftjob-\S+):", said, re.M)
    key = os.environ.get("POLICYSPLIT_API_KEY", "none")
    with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
        url = f"{chosen.base_url}/fine_tuning/jobs"
        seconds = {
            kind: _seconds(client, f"{url}/{job}") for kind, job in zip(STARTS[start], jobs, strict=True)
        }
        names = {"name": ["train/N/reward", "train/H/reward"], "layout": "columns"}
        series = client.get(f"{url}/{jobs[-1]}/metrics", params=names).raise_for_status().json()["data"]
    rewards = np.mean([one["values"] for one in series], axis=0)
    return {"seed": seed, "start": start, "rewards": rewards.tolist(), "seconds": seconds, "jobs": jobs}


def _seconds(client: httpx.Client, url: str) -> int:
    job = client.get(url).raise_for_status().json()
    return job["finished_at"] - job["created_at"]


def curves(runs: dict[tuple[int, str], Run], seeds: list[int]) -> str:
    """Of each run its rewards by step and its jobs' minutes, in Markdown."""
    steps = range(1, len(runs[seeds[0], "chain"]["rewards"]) + 1)
    lines = [f"| seed | start | {' | '.join(map(str, steps))} | minutes |", "|---" * (len(steps) + 3) + "|"]
    for seed in seeds:
        for start in STARTS:
            one = runs[seed, start]
            minutes = " + ".join(f"{seconds / 60:.1f}" for seconds in one["seconds"].values())
            rewards = " | ".join(f"{reward:.2f}" for reward in one["rewards"])
            lines.append(f"| {seed} | {start} | {rewards} | {minutes} |")
    return "\n".join(lines)


def differences(runs: dict[tuple[int, str], Run], seeds: list[int]) -> str:
    """Of each measure the seeds' values, chain and alone, and the mean difference with its interval."""
    lines = ["| measure | chain, by seed | alone, by seed | difference (95 %) | p |", "|---|---|---|---|---|"]
    for name, measure in MEASURES.items():
        chain, alone = (
            [measure(np.array(runs[seed, start]["rewards"])) for seed in seeds] for start in STARTS
        )
        paired = np.array(chain) - np.array(alone)
        interval = mean_interval(paired)
        ends = f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
        lines.append(f"| {name} | {_listed(chain)} | {_listed(alone)} | {ends} | {mean_p(paired):.3f} |")
    waited = [[_reached(runs[seed, start]["rewards"]) for seed in seeds] for start in STARTS]
    lines.append(f"| first step at {WAITED_FOR} | {', '.join(waited[0])} | {', '.join(waited[1])} | | |")
    return "\n".join(lines)


MEASURES = {
    "mean of all steps": lambda rewards: float(rewards.mean()),
    f"mean of the first {END}": lambda rewards: float(rewards[:END].mean()),
    f"mean of the last {END}": lambda rewards: float(rewards[-END:].mean()),
    "last above first": lambda rewards: float(rewards[-END:].mean() - rewards[:END].mean()),
}


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _reached(rewards: list[float]) -> str:
    return next((str(step) for step, reward in enumerate(rewards, 1) if reward >= WAITED_FOR), "none")


if __name__ == "__main__":
    main()
