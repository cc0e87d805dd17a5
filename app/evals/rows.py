"""The rows of a run: where they come from, and whether all of them can be asked and graded.

Every row is looked at before a run is taken in: what is wrong with one is said at once, with its number, and
not found by a worker hours later.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from app.core.errors import BadRequest
from app.core.settings import get_settings
from app.core.strict_json import JsonObject, parse
from app.core.tables import File
from app.evals.asking import DEFAULT_SEED, Asking
from app.files.jsonl import lines
from app.files.schemas import EVALS_PURPOSE
from app.files.storage import local_path
from trainer.errors import InvalidSpec
from trainer.graders.formatted import form_checker
from trainer.graders.grade import Sample
from trainer.graders.response_format import JsonSchema, ResponseFormat
from trainer.graders.spec import Grader, template_variables
from trainer.graders.templates import has_value

_AT_ONCE = 256
#: Schemas that take any object, for which no sandbox is started.
_ANY: tuple[dict[str, object], ...] = ({}, {"type": "object"}, {"type": "object", "properties": {}})


@dataclass(frozen=True)
class EvalRow:
    """An item at its place, and the answer to it where that is there already."""

    position: int
    item: dict[str, object]
    sample: dict[str, object] | None = None

    @property
    def answer(self) -> str | None:
        """The text of the answer that is there already."""
        return None if self.sample is None else given_text(self.sample)

    @property
    def key(self) -> str:
        """The same for the same item, wherever it stands."""
        text = json.dumps(self.item, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def rows_of_file(file: File) -> Iterator[EvalRow]:
    """The rows of a file for evals; of a training file each row is an item. Raises StoreError."""
    settings = get_settings()
    has_items = file.purpose == EVALS_PURPOSE
    for position, (_, line) in enumerate(lines(local_path(file), settings.max_line_bytes)):
        row: Any = parse(line)
        yield EvalRow(position, row["item"], row.get("sample")) if has_items else EvalRow(position, row)


def rows_given(content: Iterable[JsonObject]) -> Iterator[EvalRow]:
    """The rows of a request's body."""
    for position, row in enumerate(content):
        yield EvalRow(position, row["item"], row.get("sample"))


def given_text(sample: dict[str, object]) -> str | None:
    """What an answer says that came with its row: ``output_text``, or a completion's first choice."""
    text = sample.get("output_text")
    if isinstance(text, str):
        return text
    choices: Any = sample.get("choices")
    try:
        content = choices[0]["message"]["content"]
    except (TypeError, LookupError):
        return None
    return content if isinstance(content, str) else None


class ItemSchema:
    """A JSON schema of items, evaluated in the sandbox: a stranger's patterns are a stranger's code. Closed
    when it is done with.

    Raises BadRequest where it is not a schema, or cannot be evaluated here.
    """

    def __init__(self, schema: dict[str, object], param: str):
        self._checker = None
        if schema in _ANY:
            return
        form = ResponseFormat(type="json_schema", json_schema=JsonSchema(name="item", schema=schema))
        try:
            self._checker = form_checker(form, 1)
        except InvalidSpec as error:
            said = str(error).replace("the schema of response_format", "the schema")
            raise BadRequest(f"Invalid '{param}': {said}.", param=param) from None

    def problem(self, items: Sequence[dict[str, object]]) -> tuple[int, str] | None:
        """The first item that does not fit, by its index, and why."""
        if self._checker is None:
            return None
        texts = [Sample(item, json.dumps(item)) for item in items]
        for index, grade in enumerate(self._checker.grade_many(texts)):
            if grade.reward != 1.0:
                return index, str(grade.parse_error or grade.error)
        return None

    def close(self) -> None:
        if self._checker is not None:
            self._checker.close()


def check_rows(
    rows: Iterable[EvalRow], schema: ItemSchema, criteria: Sequence[Grader], asking: Asking | None, param: str
) -> int:
    """How many rows there are. Raises BadRequest naming the first that cannot be asked or graded, and why."""
    named = sorted(set[str]().union(*map(template_variables, criteria)))
    of_item = [name for name in named if name.partition(".")[0].partition("[")[0] == "item"]
    reads_answer = len(of_item) < len(named)
    most, count = get_settings().project_max_eval_items, 0
    rows = iter(rows)
    while some := list(islice(rows, _AT_ONCE)):
        if (found := schema.problem([row.item for row in some])) is not None:
            raise _bad(some[found[0]], f"its item does not fit the eval's item_schema: {found[1]}", param)
        for row in some:
            for name in of_item:
                if not has_value(row.item, name):
                    raise _bad(row, f"a criterion reads '{name}', which its item does not have", param)
            if asking is not None:
                _check_asking(row, asking, param)
            elif reads_answer and row.answer is None:
                raise _bad(
                    row,
                    "the criteria read the answer, but its 'sample' has none: give sample.output_text, or "
                    "use a run of the type 'completions', in which a model answers",
                    param,
                )
        count += len(some)
        if most and count > most:
            raise BadRequest(
                f"The run has more than {most} items, the limit for a project's runs. The operator can "
                "change it with POLICYSPLIT_PROJECT_MAX_EVAL_ITEMS.",
                param=param,
                code="quota_exceeded",
            )
    return count


def _check_asking(row: EvalRow, asking: Asking, param: str) -> None:
    try:
        asking.request(row.item, DEFAULT_SEED)
    except BadRequest as error:
        field = (error.param or "").partition(".")[0]
        if field not in ("messages", "input_messages"):
            # The same for every row: of the model's name, or how it samples.
            error.param = f"data_source.{field if field in ('model', 'mode') else f'sampling_params.{field}'}"
            raise
        raise _bad(row, error.message.rstrip("."), "data_source.input_messages") from None


def _bad(row: EvalRow, why: str, param: str) -> BadRequest:
    return BadRequest(f"Row {row.position + 1}: {why}.", param=param, code="invalid_item")
