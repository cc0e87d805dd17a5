"""``python``: a stranger's ``grade(sample, item)``, in a sandbox, a process of its own for each sample."""

import json

from trainer.graders.grade import Grade, GraderError, Sample, finite
from trainer.graders.sandboxed import Answer, Sandboxed, answer_form
from trainer.graders.spec import PythonGrader
from trainer.graders.templates import parse_output
from trainer.sandbox.packages import offered
from trainer.sandbox.sandbox import Service


def check_python(spec: PythonGrader) -> None:
    """Raise InvalidSpec where there is no isolation, or the source does not load."""
    python(spec, 1).close()


def python(spec: PythonGrader, sandboxes: int | None = None) -> Sandboxed:
    """The grader that ``spec`` defines. Raises InvalidSpec as above."""

    def question(sample: Sample) -> str:
        return json.dumps({"sample": _sample_for_source(sample), "item": sample.item})

    def grade(answer: Answer) -> Grade:
        reward = finite(_reward(answer), "the reward", "python_grader_runtime_error")
        return Grade(reward, {spec.name: reward}, answer=answer_form(answer))

    what = "the source of the python grader"
    return Sandboxed(
        _service(spec),
        question,
        grade,
        sandboxes,
        what=what,
        param="grader.source",
        gives_answers=spec.gives_answers,
    )


def _service(spec: PythonGrader) -> Service:
    return Service(
        "source",
        spec.timeout_seconds,
        {"source": spec.source, "offered": offered()},
        memory_bytes=spec.memory_mb << 20,
        alone=True,
    )


def _reward(answer: Answer) -> float:
    if "down" in answer:
        raise GraderError(f"the sandbox failed: {answer['down']}", "python_grader_server_error")
    if "late" in answer:
        why = f"grade() {answer['late']}"
    elif "failed" in answer:
        why = f"the grader {answer['failed']} before grade() returned"
    elif "score" in answer:
        return float(answer["score"])
    else:
        why = str(answer.get("error"))
    raise GraderError(why, "python_grader_runtime_error")


def _sample_for_source(sample: Sample) -> dict[str, object]:
    """What ``grade`` gets as its first argument."""
    try:
        parsed = parse_output(sample.text)
    except GraderError:
        parsed = None
    message = {"role": "assistant", "content": sample.text}
    return {
        "output_text": sample.text,
        "reasoning": sample.reasoning,
        "full_text": sample.full_text,
        "output_json": parsed,
        "output_tools": sample.output_tools,
        "choices": [{"index": 0, "message": message}],
    }
