"""What commands say to whoever has no key, or one that is not the service's."""

import pytest

from tests.fixtures.api import Keyed, on_sqlite
from tests.fixtures.service import run_cli


@on_sqlite
@pytest.mark.parametrize(
    ("key", "why"), [("", "requires a key"), ("sk-of-another-service", "unknown or has been revoked")]
)
def test_a_refusal_says_where_a_key_goes(keyed: Keyed, key: str, why: str):
    refused = run_cli(
        "jobs", "list", "--base-url", f"{keyed.api.url}/v1", POLICYSPLIT_API_KEY=key, OPENAI_API_KEY=""
    )
    assert refused.returncode == 1
    assert why in refused.stderr
    assert "POLICYSPLIT_API_KEY" in refused.stderr
    assert "policysplit keys create" in refused.stderr
