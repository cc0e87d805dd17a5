"""Ids in OpenAI's forms: a prefix that says what it is, then random letters and digits."""

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits


def _random(length: int = 24) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_file_id() -> str:
    return f"file-{_random()}"


def new_job_id() -> str:
    return f"ftjob-{_random()}"


def new_estimate_id() -> str:
    return f"ftest-{_random()}"


def new_project_id() -> str:
    return f"proj_{_random()}"


def new_key_id() -> str:
    return f"key_{_random()}"


def new_event_id() -> str:
    return f"ftevent-{_random()}"


def new_replay_id() -> str:
    return f"ftreplay-{_random()}"


def new_checkpoint_id() -> str:
    return f"ftckpt_{_random()}"


def new_permission_id() -> str:
    return f"cp_{_random()}"


def new_endpoint_id() -> str:
    return f"we_{_random()}"


def new_delivery_id() -> str:
    return f"whd_{_random()}"


def new_webhook_event_id() -> str:
    return f"evt_{_random()}"


def new_experiment_id() -> str:
    return f"exp_{_random()}"


def new_sign_in_id() -> str:
    return f"sess_{_random()}"


def new_audit_id() -> str:
    return f"audit_log-{_random()}"


def new_eval_id() -> str:
    return f"eval_{_random()}"


def new_eval_run_id() -> str:
    return f"evalrun_{_random()}"


def new_output_item_id() -> str:
    return f"outputitem_{_random()}"


def new_request_id() -> str:
    return f"req_{secrets.token_hex(16)}"
