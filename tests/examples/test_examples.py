"""Each example as somebody runs it, on a tiny model."""

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import chain
from tests.fixtures.api import Api, on_sqlite
from tests.fixtures.forks import forked
from tests.fixtures.http_server import Server, chat
from tests.fixtures.service import ServeProcess, cli_environment

EXAMPLES = Path(__file__).parents[2] / "examples"
#: As `make bench` pulls it.
REAL = EXAMPLES.parent / ".policysplit/models/SmolLM2-135M-Instruct"


def run(name: str, *arguments: str, **environment: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        [*forked(f"examples.{name.removesuffix('.py')}"), *arguments],
        env=cli_environment(PYTHONPATH=str(EXAMPLES.parent), **environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install {package}")


@pytest.fixture(scope="module")
def chained(serve: ServeProcess) -> list[tuple[str, str, str]]:
    """What the chain prints: of each job its id, its model and its result."""
    said = run("chain.py", "--model", "tiny", "--steps", "2", "--base-url", serve.base_url)
    return re.findall(r"^(ftjob-\S+): (\S+) → (\S+)$", said, re.M)


def test_every_example_is_listed_and_there_are_eleven() -> None:
    files = {path.name for path in EXAMPLES.glob("*.py")}
    assert set(re.findall(r"^\| `(\w+\.py)` \|", (EXAMPLES / "README.md").read_text(), re.M)) == files
    assert len(files) == 11


def test_the_method_is_one_page_and_trains_both_modes(tiny_model: Path) -> None:
    assert len((EXAMPLES / "method_on_one_page.py").read_text().splitlines()) <= 150
    said = run("method_on_one_page.py", "--model", str(tiny_model), "--steps", "2", "--prompts", "2")
    assert len(re.findall(r"^step \d: reward \d\.\d+ normal, \d\.\d+ high-entropy", said, re.M)) == 2


@pytest.mark.parametrize("name", ["custom_reward.py", "own_algorithm.py"])
def test_a_run_of_the_library_leaves_a_checkpoint(name: str, tiny_model: Path) -> None:
    said = run(name, "--model", str(tiny_model), "--steps", "2")
    (checkpoint,) = re.findall(r"checkpoint: (\S+)$", said, re.M)
    assert (Path(checkpoint) / "model.safetensors").is_file()
    shutil.rmtree(Path(checkpoint).parents[2])


def test_several_processes_train_one_run(tiny_model: Path, tmp_path: Path) -> None:
    said = run("torchrun_run.py", "--model", str(tiny_model), "--steps", "2", "--run-dir", str(tmp_path))
    assert "step-2" in said


def test_a_chain_trains_on_from_each_result(chained: list[tuple[str, str, str]]) -> None:
    assert [base for _, base, _ in chained] == ["tiny", *(result for _, _, result in chained[:-1])]
    assert len({result for _, _, result in chained}) == 3


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no {REAL.name}: policysplit models pull {REAL.name}")
@pytest.mark.timeout(1800)
def test_a_real_model_that_was_shown_the_form_begins_with_more_reward(serve: ServeProcess):
    """Two minutes of one core; ``benchmarks.chain`` has several seeds, and the course of the reward."""
    (serve.data_dir / "models" / REAL.name).symlink_to(REAL)
    rewards = {}
    for start, steps in {"chain": 8, "alone": 1}.items():
        chosen = argparse.Namespace(base_url=serve.base_url, model=REAL.name, steps=steps)
        rewards[start] = chain.run(chosen, 0, start)["rewards"]
    assert rewards["chain"][0] > rewards["alone"][0]


def test_the_best_of_both_modes(serve: ServeProcess, chained: list[tuple[str, str, str]]) -> None:
    said = run("best_of_n.py", "--model", chained[-1][2], "--tokens", "4", "--base-url", serve.base_url)
    assert re.findall(r"^(?:normal|high-entropy), reward [01]\.0: ", said, re.M)


def test_an_eval_says_what_both_modes_come_to(
    serve: ServeProcess, chained: list[tuple[str, str, str]]
) -> None:
    few = ("--items", "3", "--tokens", "2")
    said = run("evals.py", "--model", chained[-1][2], *few, "--base-url", serve.base_url)
    assert len(re.findall(r"^ft:\S+: completed, \d of 3 right, http", said, re.M)) == 2
    assert re.search(r"are not separated: \+0\.0000|Holm p = ", said)


@needs("pandas")
def test_metrics_become_a_table(serve: ServeProcess, chained: list[tuple[str, str, str]]) -> None:
    said = run("metrics_to_pandas.py", chained[-1][0], "--base-url", serve.base_url)
    assert "train/H/entropy_nats" in said or "..." in said
    assert re.findall(r"^2 ", said, re.M)


@needs("litellm")
def test_litellm_asks_both_modes(serve: ServeProcess, chained: list[tuple[str, str, str]]) -> None:
    said = run("litellm_client.py", "--model", chained[-1][2], "--base-url", serve.base_url)
    assert len(re.findall(r"^ft:\S+: ", said, re.M)) == 2


def test_an_experiment_ends_with_a_sentence(serve: ServeProcess) -> None:
    few = ("--steps", "1", "--seeds", "2", "--items", "2")
    said = run("experiment.py", "--model", "tiny", *few, "--base-url", serve.base_url)
    assert said.strip()


@on_sqlite
def test_a_judge_gives_a_reward(api: Api, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYSPLIT_GRADER_ENDPOINTS", json.dumps({"default": {"url": server.url}}))
    server.answer = lambda request: chat({"steps": [], "result": 7.0})
    assert "reward 0.7" in run("judge.py", "--judge", "some-judge", "--base-url", f"{api.url}/v1")
