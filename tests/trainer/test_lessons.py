"""What is learnt of a row, by hand and by template; loss, accuracy and gradients against TRL's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fixtures.groups import load_tiny_policy
from tests.fixtures.models import CHATML, build_tiny_model
from tests.fixtures.templates import LLAMA3, QWEN3, TOOLS_QWEN
from trainer.model.packing import Layout
from trainer.model.policy import Policy
from trainer.model.rows import Row, micro_batches
from trainer.model.scoring import score_rows
from trainer.model.turns import Unclear, learnt_rows, missing_ends
from trainer.objective.metrics import MetricSums
from trainer.objective.preference import preference_loss
from trainer.spec.messages import BadMessages
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Mode
from trainer.spec.rows import read_lesson, read_preference
from trainer.steps.teaching import Example, PreferenceTeaching, SupervisedTeaching

N, H = Mode.NORMAL, Mode.HIGH_ENTROPY
#: ChatML that marks what the assistant says, the end of its turn with it.
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}{{ '\\n' }}"
    "{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TWO_TURNS: list[Any] = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "2 and more"},
]


def policy_with(folder: Path, template: str) -> Policy:
    return load_tiny_policy(build_tiny_model(folder, chat_template=template, spread=0.3))


def rows_of(policy: Policy, row: dict[str, Any], mode: Mode = N) -> list[Row]:
    lesson = read_lesson(row)
    return learnt_rows(policy, lesson.messages, lesson.learnt, mode, lesson.tools)


def ids_of(row: Row) -> list[int]:
    return [*row.context_ids, *row.response_ids]


def said(policy: Policy, row: Row) -> list[str]:
    """The text of each run of tokens that are learnt."""
    texts: list[list[int]] = []
    assert row.trained is not None
    for before, one, token in zip([False, *row.trained], row.trained, row.response_ids, strict=False):
        if one and not before:
            texts.append([])
        if one:
            texts[-1].append(token)
    return [policy.tokenizer.decode(ids) for ids in texts]


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["prefixes", "marks"])
def test_what_the_assistant_says_is_learnt_with_the_end_of_its_turns(tmp_path: Path, template: str):
    policy = policy_with(tmp_path, template)
    (row,) = rows_of(policy, {"messages": TWO_TURNS})
    assert said(policy, row) == ["1<|im_end|>", "2 and more<|im_end|>"]
    text = "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
    assert policy.tokenizer.decode(ids_of(row)).startswith(text)
    # The prompt of the last turn is token for token what the model is asked with.
    prompt = policy.prompt_ids(TWO_TURNS[:3], N)
    assert ids_of(row)[: len(prompt)] == prompt
    assert policy.tokenizer.decode(ids_of(row)[len(prompt) :]).rstrip() == "2 and more<|im_end|>"
    silent = [TWO_TURNS[0], {**TWO_TURNS[1], "weight": 0}, *TWO_TURNS[2:]]
    (row,) = rows_of(policy, {"messages": silent})
    assert said(policy, row) == ["2 and more<|im_end|>"]
    (row,) = rows_of(policy, {"messages": TWO_TURNS}, H)
    assert said(policy, row) == ["1<|im_end|>", "2 and more<|im_end|>"]
    assert DEFAULT_HIGH_ENTROPY_PROMPT in policy.tokenizer.decode(ids_of(row))


def test_marks_that_leave_the_end_of_turns_out_are_followed_and_told(tmp_path: Path):
    end = "<|im_end|>"
    marked = policy_with(tmp_path / "with", MARKED)
    rows = rows_of(marked, {"messages": TWO_TURNS})
    assert missing_ends(marked, rows) is None
    without = MARKED.replace(f"{end}{{% endgeneration %}}", f"{{% endgeneration %}}{end}")
    assert without != MARKED
    policy = policy_with(tmp_path / "without", without)
    (row,) = rows_of(policy, {"messages": TWO_TURNS})
    assert said(policy, row) == ["1", "2 and more"]
    assert "{% endgeneration %}" in (missing_ends(policy, [row]) or "")


def test_calls_of_tools_are_learnt(tmp_path: Path):
    # Qwen's own has the newlines within expressions, so that none is trimmed.
    template = TOOLS_QWEN
    for after in ("{% if m['content'] %}", "or [] %}"):
        template = template.replace(f"{after}\n", f"{after}{{{{ '\\n' }}}}")
    policy = policy_with(tmp_path, template)
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    messages = [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
        {"role": "assistant", "content": "It is 2."},
    ]
    rows = rows_of(policy, {"messages": messages, "tools": [tool], "parallel_tool_calls": False})
    (first, second) = [text for row in rows for text in said(policy, row)]
    assert first.startswith('<tool_call>\n{"name": "add"') and first.endswith("<|im_end|>")
    assert second == "It is 2.<|im_end|>"
    assert '"name": "add"' in policy.tokenizer.decode(rows[0].context_ids)


def test_a_template_that_forgets_thoughts_makes_a_row_of_each_turn(tmp_path: Path):
    """Each with the prompt that it would be asked with, and none that is asked otherwise."""
    forgets = CHATML.replace(
        "{{ m['content'] }}", "{{ m['content'] if loop.last else m['content'].split('</think>')[-1] }}"
    )
    policy = policy_with(tmp_path, forgets)
    turns = [dict(one) for one in TWO_TURNS]
    turns[1]["content"], turns[3]["content"] = "<think>a</think>1", "<think>b</think>2"
    first, second = rows_of(policy, {"messages": turns})
    assert said(policy, first) == ["<think>a</think>1<|im_end|>"]
    assert said(policy, second) == ["<think>b</think>2<|im_end|>"]
    assert second.context_ids == policy.prompt_ids(turns[:3], N)


@pytest.mark.parametrize(
    ("template", "options", "messages", "says"),
    [
        (QWEN3, {"enable_thinking": False}, TWO_TURNS, "starts the assistant's turn differently"),
        (QWEN3, {}, [TWO_TURNS[0], {"role": "assistant", "content": "<think>x</think>1"}], "leaves"),
        (LLAMA3, {}, TWO_TURNS, "no end-of-turn token"),
        (
            MARKED.replace(
                "<|im_end|>{% endgeneration %}",
                "{% endgeneration %}{% generation %}<|im_end|>{% endgeneration %}",
            ).replace("{{ m['content'] }}{% endgeneration %}", "{{ m['content'] }}{% endgeneration %}-"),
            {},
            [TWO_TURNS[0], {**TWO_TURNS[1], "weight": 0}, *TWO_TURNS[2:]],
            "so they cannot be matched",
        ),
    ],
    ids=["beginning", "left-out", "endless", "pieces"],
)
def test_what_cannot_be_told_is_refused_in_words(
    tmp_path: Path, template: str, options: dict[str, Any], messages: list[Any], says: str
):
    policy = policy_with(tmp_path, template)
    policy.chat_template_kwargs = options
    with pytest.raises(Unclear, match=says):
        rows_of(policy, {"messages": messages})


def test_rows_that_teach_nothing_are_refused():
    user = {"role": "user", "content": "a"}
    for row, says in [
        ({"messages": [user]}, "ends with a message of role 'user'"),
        ({"messages": [user, {"role": "assistant", "content": "b", "weight": 0}]}, "no message to learn"),
        ({"messages": [user, {"role": "assistant", "content": "b", "weight": 2}]}, "weight' is 2"),
        (
            {"messages": [{**user, "weight": 1}, {"role": "assistant", "content": "b"}]},
            "weight is given with",
        ),
        ({"messages": [{"role": "assistant", "content": "b"}]}, "begins with the assistant's"),
        ({"messages": TWO_TURNS, "functions": []}, "'functions' is in an older format"),
        ({"messages": TWO_TURNS, "parallel_tool_calls": 1}, "must be true or false"),
    ]:
        with pytest.raises(BadMessages, match=says):
            read_lesson(row)


def test_rows_that_prefer_nothing_are_refused():
    asked, said = {"messages": [{"role": "user", "content": "a"}]}, [{"role": "assistant", "content": "b"}]
    good = {"input": asked, "preferred_output": said, "non_preferred_output": [{**said[0], "content": "c"}]}
    assert read_preference(good).other == {"role": "assistant", "content": "c"}
    for change, says in [
        ({"non_preferred_output": said}, "are the same"),
        ({"preferred_output": said * 2}, "'preferred_output' must be a list of one message"),
        ({"preferred_output": asked["messages"]}, "'preferred_output.0.role' is 'user'"),
        ({"preferred_output": [{"role": "assistant"}]}, "'preferred_output.0' has no 'content'"),
        ({"input": {"messages": said}}, "'input.messages' ends with a message of role 'assistant'"),
        ({"input": {**asked, "tools": [{"type": "retrieval"}]}}, "'input.tools.0.type' is"),
        ({"input": "a"}, "'input' must be an object"),
    ]:
        with pytest.raises(BadMessages, match=says):
            read_preference(good | change)
    with pytest.raises(BadMessages, match="'input' is missing"):
        read_preference({"preferred_output": said})


def lessons(seed: int = 0) -> list[Row]:
    """Rows of random tokens of several lengths; in some, what is learnt is in several pieces."""
    random = np.random.default_rng(seed)
    rows = []
    for length in (9, 30, 4, 17, 2):
        ids, context = random.integers(0, 250, length).tolist(), int(random.integers(1, length))
        learnt = [True, *(random.random(length - context - 1) < 0.5).tolist()]
        rows.append(Row(ids[:context], ids[context:], learnt))
    return rows


def learnt_of(row: Row) -> list[bool]:
    """Of each of its tokens."""
    return [*([False] * len(row.context_ids)), *(row.trained or [True] * len(row.response_ids))]


def our_loss(policy: Policy, rows: list[Row], positions: int) -> tuple[torch.Tensor, dict[str, float]]:
    """On the training path, in micro-batches of ``positions``."""
    teaching, metrics = SupervisedTeaching(), MetricSums()
    units = teaching.units([Example(1, {N: [row]}) for row in rows])
    size, total = teaching.size(units), torch.zeros((), dtype=torch.float64)
    for part in micro_batches(units, lambda unit: unit[1], positions, policy.layout):
        total = total + teaching.loss(policy, part, size, metrics)
    return total, metrics.result()


@pytest.mark.parametrize("positions", [1, 40, 4096])
@pytest.mark.parametrize("layout", ["shared_prefix", "per_row"])
def test_loss_accuracy_and_gradients_agree_with_trl(tmp_path: Path, layout: Layout, positions: int):
    from tests.trainer.trl_lessons import PlainSft

    policy = policy_with(tmp_path, CHATML)
    policy.layout = layout
    loss, metrics = our_loss(policy, lessons(), positions)
    expected, accuracy = PlainSft(policy.model).loss([(ids_of(row), learnt_of(row)) for row in lessons()])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert metrics["loss"] == pytest.approx(expected.item(), rel=1e-9)
    assert metrics["token_accuracy"] == pytest.approx(accuracy, rel=1e-6)
    parameters = list(policy.model.parameters())
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        assert bool(wanted.any())
        # The model's norms and rotations compute in float32, and the two layouts round them differently.
        assert torch.allclose(found, wanted, rtol=1e-6, atol=2e-7 * float(wanted.abs().max()))


def pairs(seed: int = 0) -> list[tuple[Row, Row]]:
    """Two answers each of random tokens, of several lengths, behind the same beginning."""
    random = np.random.default_rng(seed)

    def tokens(low: int, high: int) -> list[int]:
        return random.integers(0, 250, random.integers(low, high)).tolist()

    found = []
    for _ in range(4):
        context = tokens(1, 20)
        found.append((Row(context, tokens(1, 12), None), Row(context, tokens(1, 12), None)))
    return found


@pytest.mark.parametrize("positions", [1, 4096])
@pytest.mark.parametrize("layout", ["shared_prefix", "per_row"])
def test_the_preference_loss_and_its_gradients_agree_with_trl(tmp_path: Path, layout: Layout, positions: int):
    from tests.trainer.trl_lessons import PlainDpo

    policy, reference = policy_with(tmp_path / "policy", CHATML), policy_with(tmp_path / "reference", CHATML)
    # Away from the reference, as in the middle of training.
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    policy.layout = reference.layout = layout
    teaching, metrics = PreferenceTeaching(0.3, reference), MetricSums()
    units = teaching.units([Example(1, {N: list(pair)}) for pair in pairs()])
    loss = torch.zeros((), dtype=torch.float64)
    for part in micro_batches(units, lambda unit: unit[1], positions, layout):
        loss = loss + teaching.loss(policy, part, teaching.size(units), metrics)
    preferred, others = zip(*pairs(), strict=True)
    expected, told = PlainDpo(policy.model, reference.model, 0.3).loss(
        [
            (ids_of(row), [False] * len(row.context_ids) + [True] * len(row.response_ids))
            for row in (*preferred, *others)
        ]
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    found = metrics.result()
    for ours, theirs in [
        ("preference_accuracy", "rewards/accuracies"),
        ("preference_margin", "rewards/margins"),
        ("preferred_reward", "rewards/chosen"),
        ("non_preferred_reward", "rewards/rejected"),
        ("token_accuracy", "mean_token_accuracy"),
    ]:
        assert found[ours] == pytest.approx(told[theirs], rel=1e-5, abs=1e-7), ours
    parameters = list(policy.model.parameters())
    for ours, wanted in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        assert bool(wanted.any())
        assert torch.allclose(ours, wanted, rtol=1e-6, atol=2e-7 * float(wanted.abs().max()))


def test_the_preference_loss_by_hand():
    logp, reference = torch.tensor([[-3.0, -4.0], [-10.0, -2.0]]), torch.tensor([[-2.0, -1.0], [-9.0, -9.0]])
    found = preference_loss(logp.double(), reference.double(), beta=0.5)
    margins = np.array([0.5 * ((-3 + 2) - (-4 + 1)), 0.5 * ((-10 + 9) - (-2 + 9))])
    assert np.allclose(found.loss_B.numpy(), np.log1p(np.exp(-margins)), rtol=1e-12)
    assert np.allclose(found.reward_B.numpy(), [-0.5, -0.5]) and np.allclose(
        found.other_reward_B.numpy(), [-1.5, 3.5]
    )


@torch.no_grad()
def test_scores_are_those_of_plain_logits(tmp_path: Path):
    """Against NumPy on the model's own logits, row by row, without packing."""
    policy = policy_with(tmp_path, CHATML)
    rows = lessons(1)
    scores = score_rows(policy, rows, compares=True)
    logp, likeliest = [], []
    for row in rows:
        logits = policy.model(input_ids=torch.tensor([ids_of(row)])).logits[0].numpy()
        shifted = logits - logits.max(-1, keepdims=True)
        table = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        places = [at for at, one in enumerate(learnt_of(row)) if one]
        logp += [table[at - 1, ids_of(row)[at]] for at in places]
        likeliest += [int(table[at - 1].argmax()) == ids_of(row)[at] for at in places]
    assert np.allclose(scores.logp_T.numpy(), logp, rtol=1e-6)
    assert scores.likeliest_T is not None and scores.likeliest_T.tolist() == likeliest
