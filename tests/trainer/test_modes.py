"""How a conversation is put into a mode."""

import copy

import pytest

from tests.fixtures.groups import H, N
from trainer.spec.modes import messages_for_mode

USER = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "be brief"}
ANSWER = {"role": "assistant", "content": "hello"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "hi "}, {"type": "text", "text": "there"}]}


def test_normal_mode_is_the_request_as_it_came():
    messages = [{"role": "system", "content": "be brief"}, USER]
    assert messages_for_mode(messages, N, "wander") == messages


def test_high_entropy_mode_adds_one_system_message():
    assert messages_for_mode([USER], H, "wander") == [{"role": "system", "content": "wander"}, USER]


def test_a_system_message_of_the_user_is_kept_and_extended():
    messages = [{"role": "system", "content": "be brief"}, USER]
    assert messages_for_mode(messages, H, "wander") == [
        {"role": "system", "content": "be brief\n\nwander"},
        USER,
    ]
    assert messages[0]["content"] == "be brief"


def test_content_parts_are_read_as_text():
    parts = [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]
    merged = messages_for_mode([{"role": "system", "content": parts}, USER], H, "wander")
    assert merged[0]["content"] == "be brief\n\nwander"


def test_an_empty_prompt_makes_the_modes_equal():
    assert messages_for_mode([USER], H, "") == messages_for_mode([USER], N, "")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER], [{"role": "user", "content": "wander\n\nhi"}]),
        ([SYSTEM, USER, ANSWER, USER], [SYSTEM, {"role": "user", "content": "wander\n\nhi"}, ANSWER, USER]),
        ([SYSTEM], [SYSTEM, {"role": "user", "content": "wander"}]),
        ([PARTS], [{"role": "user", "content": "wander\n\nhi there"}]),
    ],
)
def test_a_prefix_stands_in_front_of_the_first_user_message(messages, expected):
    given = copy.deepcopy(messages)
    assert messages_for_mode(messages, H, "wander", "user_prefix") == expected
    assert messages_for_mode(messages, N, "wander", "user_prefix") == given == messages
    assert messages_for_mode(messages, H, "", "user_prefix") == given
