"""Metrics of texts against their reference implementations."""

import random
import time

import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rapidfuzz.distance import Indel
from rouge_score import rouge_scorer

from trainer.graders.build import build_grader
from trainer.graders.cosine import cosine
from trainer.graders.grade import GraderError
from trainer.graders.spec import TextMetric, TextSimilarityGrader

WORDS = [
    "the",
    "a",
    "cat",
    "Cat",
    "dogs",
    "sat",
    "on",
    "mat,",
    "mats.",
    "ran",
    "1,000",
    "quickly",
    "café",
    "it's",
]
PAIRS = [
    ("the cat sat on the mat", "the cat sat on the mat"),
    ("the cat sat", "a dog ran"),
    ("", "the cat"),
    ("the cat", ""),
    ("", ""),
    ("?!", "..."),
]


def random_pairs(count: int = 200, words: list[str] = WORDS, fewest: int = 1) -> list[tuple[str, str]]:
    draw = random.Random(5)
    texts = [" ".join(draw.choices(words, k=draw.randint(fewest, 20))) for _ in range(2 * count)]
    return list(zip(texts[::2], texts[1::2], strict=True))


def similarity(metric: TextMetric, pairs: list[tuple[str, str]]) -> list[float]:
    grader = build_grader(
        TextSimilarityGrader(
            input="{{sample.output_text}}", reference="{{item.reference}}", evaluation_metric=metric
        )
    )
    grades = [grader({"reference": reference}, text) for text, reference in pairs]
    assert [grade.error for grade in grades] == [None] * len(grades)
    return [grade.reward if grade.reward is not None else -1.0 for grade in grades]


@pytest.mark.parametrize("name", ["rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"])
def test_rouge_is_that_of_rouge_score(name: TextMetric):
    theirs = name.replace("_", "").replace("l", "L")
    scorer = rouge_scorer.RougeScorer([theirs], use_stemmer=False)
    pairs = PAIRS + random_pairs()
    expected = [scorer.score(reference, text)[theirs].fmeasure for text, reference in pairs]
    assert similarity(name, pairs) == pytest.approx(expected, abs=1e-12)
    assert 0 < sum(expected) < len(expected)


def test_fuzzy_match_is_one_minus_the_normalised_indel_distance():
    pairs = PAIRS + random_pairs()
    expected = [1 - Indel.normalized_distance(text, reference) for text, reference in pairs]
    assert similarity("fuzzy_match", pairs) == pytest.approx(expected, abs=1e-9)
    # Worked by hand: "abcd" to "abxd" takes one deletion and one insertion of 8 characters.
    assert similarity("fuzzy_match", [("abcd", "abxd")]) == [pytest.approx(0.75)]


def test_bleu_by_hand_and_by_the_other_implementation():
    # 5 of 6 words, 3 of 5, 2 of 4 and 1 of 3 n-grams, equal lengths.
    (by_hand,) = similarity("bleu", [("the cat sat on a mat", "the cat sat on the mat")])
    assert by_hand == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    # NLTK's method 3 is the same exponential smoothing; of plain words, as 13a does not part them.
    pairs = random_pairs(words=["the", "a", "cat", "sat", "on", "mat"], fewest=4)
    smooth = SmoothingFunction().method3
    expected = [sentence_bleu([b.split()], a.split(), smoothing_function=smooth) for a, b in pairs]
    assert similarity("bleu", pairs) == pytest.approx(expected, abs=1e-9)


def test_gleu_by_hand():
    """The lower of n-gram precision and recall, n from 1 to 4 together."""
    # Text: 3+2+1 n-grams; reference: 4+3+2+1; shared: "the cat sat" with all of its six.
    assert similarity("gleu", [("the cat sat", "the cat sat down")]) == [pytest.approx(6 / 10)]
    assert similarity("gleu", [("the cat sat down", "the cat sat")]) == [pytest.approx(6 / 10)]
    assert similarity("gleu", [("cat", "cat"), ("cat", "dog")]) == [1.0, 0.0]


def test_meteor_by_hand():
    """F of 10PR/(R+9P), less half the cube of chunks over matches; stems count as matches."""
    text, reference = "the cats sat", "the cat sat on it"
    precision, recall, chunks, matches = 3 / 3, 3 / 5, 1, 3
    f = 10 * precision * recall / (recall + 9 * precision)
    assert similarity("meteor", [(text, reference)]) == [
        pytest.approx(f * (1 - 0.5 * (chunks / matches) ** 3))
    ]
    # The example of NLTK's documentation, which no synonym plays a part in.
    hypothesis = (
        "It is a guide to action which ensures that the military always obeys the commands of the party"
    )
    reference = "It is a guide to action that ensures that the military will forever heed Party commands"
    assert similarity("meteor", [(hypothesis, reference)]) == [pytest.approx(0.6944, abs=5e-3)]


@pytest.mark.parametrize(
    "name", ["fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_5", "rouge_l"]
)
def test_long_texts_are_graded_or_refused_in_seconds(name: TextMetric):
    grader = build_grader(
        TextSimilarityGrader(
            input="{{sample.output_text}}", reference="{{item.reference}}", evaluation_metric=name
        )
    )
    for length in (9_000, 90_000, 5_000_000):
        text = " ".join(random.Random(1).choices(WORDS, k=length // 4))[:length]
        started = time.perf_counter()
        grade = grader({"reference": text[::-1]}, text)
        assert time.perf_counter() - started < 20
        if length == 5_000_000:
            assert grade.error is not None and "takes up to" in grade.error


def test_cosine_of_embeddings():
    assert cosine([3.0, 4.0], [6.0, 8.0]) == pytest.approx(1.0)
    assert cosine([1.0, 0.0], [0.0, 2.0]) == pytest.approx(0.0)
    assert cosine([1.0, 1.0], [-2.0, -2.0]) == pytest.approx(-1.0)
    for one, other in (([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([float("nan")], [1.0])):
        with pytest.raises(GraderError):
            cosine(one, other)


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ("今天天气很好", "今天天气很好", 1.0),
        ("今天天气很好", "今天下雨", 2 * 2 / (6 + 4)),
        ("Привет мир", "привет, мир!", 1.0),
        ("Ελλάδα", "Ιταλία", 0.0),
        ("답은 서울", "답은 부산", 0.5),
        ("กินข้าว", "กินน้ำ", 2 * 2 / (5 + 4)),  # a mark belongs to its letter: กิ น ข้ า ว, กิ น น้ ำ
        ("हिन्दी", "हिन्दू", 0.0),
        ("हिन्दी भाषा", "हिन्दी", 2 / 3),
        ("cafe\u0301", "café", 1.0),
        ("東京タワー", "東京タワー です", 2 * 5 / (5 + 7)),
    ],
)
def test_rouge_counts_tokens_of_any_script(text: str, reference: str, value: float):
    spec = TextSimilarityGrader(
        input="{{sample.output_text}}", reference="{{item.a}}", evaluation_metric="rouge_1"
    )
    assert build_grader(spec)({"a": reference}, text).reward == pytest.approx(value)


@pytest.mark.parametrize("metric", ["bleu", "gleu", "meteor"])
@pytest.mark.parametrize(
    ("reference", "near", "far"),
    [
        ("今天的天气非常好", "今天的天气非常坏", "我喜欢吃苹果和梨"),
        ("東京は日本の首都です", "東京は日本の都市です", "りんごを食べました"),
        ("กรุงเทพเป็นเมืองหลวง", "กรุงเทพเป็นเมืองใหญ่", "ฉันชอบฝน"),
    ],
)
def test_similarity_tells_near_from_far_in_scripts_without_spaces(
    metric: TextMetric, reference: str, near: str, far: str
):
    same, close, other = similarity(metric, [(reference, reference), (near, reference), (far, reference)])
    assert same > 0.99
    assert 0.3 < close < 0.95
    assert other < 0.15


def test_bleu_of_characters_is_that_of_the_other_implementation_for_chinese():
    import sacrebleu

    pairs = [("今天的天气非常坏", "今天的天气非常好"), ("我有3个苹果", "我有 3 个苹果。")]
    expected = [sacrebleu.sentence_bleu(one, [other], tokenize="zh").score / 100 for one, other in pairs]
    assert similarity("bleu", pairs) == pytest.approx(expected)
