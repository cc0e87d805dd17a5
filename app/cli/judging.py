"""``policysplit experiments judge``: contestants answer prompts, and a judge model scores the texts blindly.

The file says who answers and who judges::

    method: explorer
    contestants:
      - {name: explorer, model: "ft:…:high-entropy"}
      - {name: base, model: SmolLM2-135M-Instruct}
    prompts: [Write the first lines of a story about a lighthouse.]
    samples: 4
    max_tokens: 200
    judge: {model: some-judge, base_url: "http://127.0.0.1:8700/v1"}
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field, ValidationError, model_validator
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from app.cli.client import BaseUrlOption, DataDirOption, Told, api_errors, connect
from app.cli.console import err, out
from app.cli.errors import CliError
from app.cli.jobs import read_job_file
from app.cli.listing import JsonOption, say_json
from app.core.errors import BadRequest
from app.core.validation import bad_request
from trainer.errors import InvalidSpec
from trainer.graders.spec import CreativeWritingGrader, StrictModel
from trainer.statistics.wording import interval_ends, signed

if TYPE_CHECKING:
    import openai


class Contestant(StrictModel):
    """A model of the service."""

    name: str = Field(min_length=1)
    model: str
    mode: str | None = Field(default=None, description="normal or high-entropy; default: as in the name")


class JudgingFile(StrictModel):
    """Who answers what, and who judges."""

    method: str
    contestants: list[Contestant] = Field(min_length=2)
    prompts: list[str] = Field(min_length=1)
    samples: int = Field(default=4, ge=1, le=64)
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    seed: int = 0
    judge: CreativeWritingGrader

    @model_validator(mode="after")
    def _names_fit(self) -> "JudgingFile":
        names = [one.name for one in self.contestants]
        if len(set(names)) < len(names):
            raise ValueError("contestants: give each a different name")
        if self.method not in names:
            raise ValueError(f"method is {self.method!r}, but the contestants are {', '.join(names)}")
        return self


def judge(
    file: Annotated[Path, typer.Argument(help="Contestants, prompts and judge, as YAML or JSON.")],
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write, with every text and the report.")
    ] = None,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Compare creative answers by a judge model: blinded, by prompt, with diversity at matched length."""
    from app.experiments.judging import creative_report, judge_blind
    from trainer.graders.build import build_grader

    wanted = read_judging(file)
    client = connect(base_url, data_dir)
    try:
        grader = build_grader(wanted.judge)  # before answers that cost time are asked for
    except InvalidSpec as error:
        raise CliError(f"{file}: judge: {error}") from None
    prompts = len(wanted.contestants) * len(wanted.prompts)
    with Progress(*Progress.get_default_columns(), console=err, transient=True) as progress:
        asked = progress.add_task("answers", total=prompts)
        scored = progress.add_task(f"judged by {escape(wanted.judge.model)}", total=prompts * wanted.samples)
        try:
            with api_errors(client):
                texts = {
                    one.name: _answers(client, wanted, one, lambda: progress.advance(asked))
                    for one in wanted.contestants
                }
            judged = judge_blind(
                grader,
                wanted.prompts,
                texts,
                wanted.seed,
                at_once=wanted.judge.concurrency,
                on_progress=lambda done: progress.update(scored, completed=done),
            )
        finally:
            grader.close()
    report = creative_report(judged, len(wanted.prompts), wanted.method, wanted.seed)
    if output is not None:
        lines = [
            {"contestant": o.contestant, "prompt": o.prompt, "text": o.text, "scores": o.grade.scores}
            | {"error": o.grade.error}
            for o in judged
        ]
        output.write_text(json.dumps({"report": report, "texts": lines}, indent=1, ensure_ascii=False) + "\n")
    errors = [one.grade.error for one in judged if one.grade.error]
    if len(errors) == len(judged):
        raise CliError(f"no text could be judged; the first: {errors[0]}")
    if as_json:
        say_json(report)
    else:
        _show(report)


def read_judging(file: Path) -> JudgingFile:
    """A file as described above; raises CliError that says what is wrong with it."""
    body = read_job_file(file)
    if isinstance(body.get("judge"), dict):
        body["judge"] = {"type": "creative_writing"} | body["judge"]
    try:
        return JudgingFile.model_validate(body)
    except ValidationError as error:
        found: BadRequest = bad_request(error.errors(include_url=False), body, JudgingFile)
        raise CliError(f"{file}: {found.message}") from None


def _answers(
    client: "openai.OpenAI", wanted: JudgingFile, one: Contestant, on_prompt: Callable[[], None]
) -> list[list[str]]:
    """One contestant's texts, by prompt; ``on_prompt`` is called after each."""
    mode = {} if one.mode is None else {"extra_body": {"mode": one.mode}}
    texts = []
    for number, prompt in enumerate(wanted.prompts):
        options: Told = {"seed": wanted.seed + number, "temperature": wanted.temperature} | mode
        answer = client.chat.completions.create(
            model=one.model,
            messages=[{"role": "user", "content": prompt}],
            n=wanted.samples,
            max_completion_tokens=wanted.max_tokens,
            **options,
        )
        texts.append([choice.message.content or "" for choice in answer.choices])
        on_prompt()
    return texts


def _show(report: Told) -> None:
    """Criteria below each other: five names would not fit beside each other into a terminal."""
    shown = report["contestants"]
    table = Table("", *(escape(one["name"]) for one in shown))
    for name in sorted({name for one in shown for name in one["scores"]}):
        scores = [one["scores"][name] for one in shown]
        table.add_row(name, *("–" if score is None else f"{score:.2f}" for score in scores))
    table.add_section()
    for name, measure in (("distinct-2", "distinct2"), ("1 − self-BLEU", "self_bleu4")):
        diverse = [report["diversity_at_matched_length"][one["name"]] for one in shown]
        table.add_row(name, *(f"{one[measure]:.3f}" if measure in one else "–" for one in diverse))
    table.add_row("not judged", *(f"{one['not_judged']} of {one['texts']}" for one in shown))
    out.print(table)
    for against in dict.fromkeys(row["against"] for row in report["comparisons"]):
        title = f"{escape(report['method'])} − {escape(against)}"
        table = Table("criterion", "difference", "95 % CI", "Holm p", "prompts", title=title)
        for row in report["comparisons"]:
            if row["against"] == against:
                ends = interval_ends(row["low"], row["high"], 2)
                cells = (row["criterion"], signed(row["delta"], 2), ends, f"{row['holm_p']:.3g}")
                table.add_row(*cells, str(row["prompts"]))
        out.print(table)
    out.print("[dim]The scores are a judge model's, not a person's. Intervals are over prompts.[/]")
