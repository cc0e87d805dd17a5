"""Can the form of responses be checked, and has it what the grader reads? Asked before a job is taken in."""

from typing import cast

from app.core.errors import BadRequest
from app.core.validation import one_of
from trainer.errors import InvalidSpec
from trainer.graders.formatted import form_checker
from trainer.graders.response_format import ResponseFormat
from trainer.graders.spec import Grader, template_variables
from trainer.graders.templates import Path, parse_name


def check_response_format(
    form: ResponseFormat | None, grader: Grader, *, forced: bool, param: str, grader_param: str
) -> None:
    """Raise BadRequest for a schema that cannot be checked, or that never allows what the grader reads, or
    where it is ``forced`` that responses cannot be held to."""
    if form is None:
        return
    try:
        form_checker(form, sandboxes=1).close()
    except InvalidSpec as error:
        place = f"{param}.json_schema.schema" if form.json_schema else param
        raise BadRequest(f"Invalid '{place}': {error}.", param=place) from None
    if form.json_schema is None:
        return
    if forced:
        # Of the extra that the check above needed, too; an API without it starts.
        from trainer.graders.forced import BadForm, check_form

        try:
            check_form(form)
        except BadForm as error:
            place = f"{param}.json_schema.schema"
            raise BadRequest(
                f"Invalid '{place}': it cannot be enforced on responses: {error}. Change it, or leave out "
                "rollout.force_response_format.",
                param=place,
            ) from None
    for variable in sorted(template_variables(grader)):
        root, path = parse_name(variable)
        if root == "sample" and path[:1] == ("output_json",):
            _check_path(variable, path[1:], form.json_schema.schema_, grader_param)


def _check_path(variable: str, path: Path, schema: dict[str, object], param: str) -> None:
    """As far as the schema says by ``properties`` alone what there is; the rest the responses show."""
    for step in path:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or schema.get("additionalProperties") is not False:
            return
        if "patternProperties" in schema or not isinstance(step, str):
            return
        known = cast(dict[str, object], properties)
        if step not in known:
            raise BadRequest(
                f"The grader reads '{variable}', which response_format does not allow: it has no "
                f"'{step}'. Its fields are: {one_of(list(known), step)}.",
                param=param,
                code="missing_grader_field",
            )
        if not isinstance(known[step], dict):
            return
        schema = cast(dict[str, object], known[step])
