"""What templates of graders name is looked for in all rows, when a grader is validated and a job posted."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.fixtures.api import GRADER, Api, create_job, on_sqlite

FULL: dict[str, Any] = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}],
    "answer": "4",
    "choices": [{"text": "3"}, {"text": "4"}],
    "meta": {"level": 1, "tags": ["a"], "by": {"0": "zero"}},
}

#: What a template names, and the rows (from line 2 on) of which the first lacks it.
READ: list[tuple[str, dict[str, Any]]] = [
    ("item.answer", {"answer": None}),
    ("item.meta.level", {"meta": {}}),
    ("item.meta.level", {"meta": "1"}),
    ("item.meta.tags[0]", {"meta": {"tags": []}}),
    ("item.meta.tags.0", {"meta": {"tags": []}}),
    ("item.meta.by.0", {"meta": {"by": {}}}),
    ("item.choices[1].text", {"choices": [{"text": "3"}]}),
    ("item.choices[-1].text", {"choices": []}),
    ("item.choices[-2].text", {"choices": [{"text": "3"}]}),
    ("item.choices[0].text", {"choices": [{"text": None}]}),
    ("item.choices[0].text", {"choices": "text"}),
    ("item.messages[1].content", {"messages": [{"role": "user", "content": "2 + 2?"}]}),
]


def validated(client: openai.OpenAI, api: Api, grader: dict[str, Any], file: str) -> None:
    body = {"grader": grader, "training_file": file}
    client.post("/fine_tuning/alpha/graders/validate", body=body, cast_to=object)


def posted(client: openai.OpenAI, api: Api, grader: dict[str, Any], file: str) -> None:
    create_job(client, api, file, reinforcement={"grader": grader})


@on_sqlite
@pytest.mark.parametrize("ask", [validated, posted])
def test_a_row_without_what_is_named_is_told_by_its_line(
    client: openai.OpenAI, api: Api, ask: Callable[..., None]
):
    whole = api.upload(client, [FULL, FULL])
    for name, change in READ:
        grader = GRADER | {"reference": f"{{{{ {name} }}}}"}
        ask(client, api, grader, whole)
        file = api.upload(client, [FULL, FULL, FULL | change, FULL])
        with pytest.raises(openai.BadRequestError) as refused:
            ask(client, api, grader, file)
        assert refused.value.param == "training_file", name
        named = name.removeprefix("item.")
        assert f"The grader reads 'item.{named}', which line 3 of 'training_file'" in refused.value.message


@on_sqlite
def test_a_grader_is_validated_without_a_file_and_never_with_one_that_is_not_there(
    client: openai.OpenAI, api: Api
):
    client.fine_tuning.alpha.graders.validate(grader=GRADER)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="The file does not exist"):
        validated(client, api, GRADER, "file-nope")
