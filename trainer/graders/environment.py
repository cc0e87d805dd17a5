"""``environment``: the own scorer of a reasoning-gym task."""

from trainer.graders.extraction import extract_answer
from trainer.graders.grade import Grade, Sample, finite
from trainer.graders.sandboxed import Answer, Sandboxed, answer_form, scored
from trainer.graders.spec import EnvironmentGrader
from trainer.sandbox.inside import values
from trainer.sandbox.tasks import task_service


def environment(spec: EnvironmentGrader, sandboxes: int | None = None) -> Sandboxed:
    """The grader that ``spec`` defines. Raises InvalidSpec without such a task, or a sandbox for it."""

    def question(sample: Sample) -> str:
        return values.dumps({"answer": extract_answer(sample.text, spec.extract), "item": sample.item})

    def grade(answer: Answer) -> Grade:
        score = finite(scored(answer), "the score")
        form = answer_form(answer)
        return Grade(min(max(score, 0.0), 1.0), {spec.name: score}, value=score, answer=form)

    service = task_service(spec.task, spec.parameters, seconds=spec.timeout_seconds)
    what = f"the task {spec.task!r}"
    return Sandboxed(service, question, grade, sandboxes, what=what, gives_answers=True)
