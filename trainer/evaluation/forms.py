"""Before training: can the responses of this model be held to the form that the run forces?"""

from collections.abc import Sequence

from trainer.data.items import Item
from trainer.errors import InvalidSpec
from trainer.graders.forced import BadForm, check_form
from trainer.graders.response_format import ResponseFormat
from trainer.graders.thoughts import opens_thought
from trainer.model.policy import Policy
from trainer.spec.modes import Mode
from trainer.steps.thoughts import PROMPT_END


def check_forced(policy: Policy, form: ResponseFormat, items: Sequence[Item]) -> None:
    """Raises InvalidSpec where ``form``, which restricts, cannot be followed, or would be of thoughts."""
    try:
        check_form(form)
    except BadForm as error:
        param = "response_format" if form.json_schema is None else "response_format.json_schema.schema"
        raise InvalidSpec(f"response_format cannot be enforced: {error}", param) from error
    prompt = policy.prompt_ids(items[0].messages, Mode.NORMAL, items[0].tools)
    if opens_thought(policy.response_text(prompt[-PROMPT_END:])):
        raise InvalidSpec(
            "rollout.force_response_format is true, but the chat template begins each response with "
            "thinking, so the format would apply to that instead of the answer: turn thinking off in "
            "chat_template_kwargs, such as with {'enable_thinking': false}, or set it to false",
            "rollout.force_response_format",
        )
