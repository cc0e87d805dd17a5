"""One run over several processes: they share out sampling and gradients. The same command resumes it."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from trainer.graders.spec import StringCheckGrader
from trainer.spec.data import JsonlData
from trainer.spec.model import ModelSpec
from trainer.spec.run import PreflightSpec, RolloutSpec, RunSpec

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="a folder in Hugging Face format")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--processes", type=int, default=2, help="on GPUs, one each; on CPUs with gloo")
parser.add_argument("--run-dir", type=Path, help="default: a new folder")
chosen = parser.parse_args()

folder = chosen.run_dir or Path(tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
rows = [
    {"messages": [{"role": "user", "content": f"Say {letter}."}], "letter": letter} for letter in "abcdefgh"
]
(folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
spec = RunSpec(
    run_id="torchrun",
    model=ModelSpec(path=chosen.model),
    training_data=JsonlData(path=str(folder / "rows.jsonl")),
    grader=StringCheckGrader(input="{{sample.output_text}}", reference="{{item.letter}}", operation="ilike"),
    preflight=PreflightSpec(on_zero_variance="warn"),
    rollout=RolloutSpec(prompts_per_step=4, samples_per_prompt=8, max_response_tokens=24),
    total_steps=chosen.steps,
)
(folder / "spec.json").write_text(spec.model_dump_json())
launcher = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    str(chosen.processes),
]
trainer = ["-m", "trainer", "--spec", str(folder / "spec.json"), "--run-dir", str(folder / "run")]
subprocess.run([*launcher, *trainer], check=True)
print(f"checkpoints: {sorted(path.name for path in (folder / 'run/checkpoints').iterdir())}")
