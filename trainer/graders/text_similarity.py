"""``text_similarity``: how alike two texts are, from 0 to 1.

===========  ====================================================================================
fuzzy_match  rapidfuzz ``fuzz.ratio`` (normalised indel similarity)
bleu         sacrebleu ``sentence_bleu`` (BLEU-4, 13a tokens, exponential smoothing), over 100
gleu         nltk ``sentence_gleu`` (Google BLEU) of 13a tokens
meteor       nltk ``meteor_score`` of NLTK word tokens; exact words and stems, no synonyms: WordNet is
             a download of its own
rouge_1…5    F1 of shared n-grams, as the package rouge-score counts them (no stemming); of text in other
             letters than a to z, whose tokens that package drops: words of letters and digits, and each
             character of scripts without spaces
rouge_l      F1 of the longest common subsequence, likewise
===========  ====================================================================================

In scripts that put no spaces between words (Chinese, Japanese, Thai, …) each character, with the marks on it,
is a word: else a sentence would be one, and right or wrong as a whole. Letters with marks compare as they
look (NFC).

``cosine`` is in ``trainer.graders.cosine``. Texts over a metric's limit are errors: its time grows faster
than the texts.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import regex

from trainer.graders.grade import Grade, GraderError, LocalGrader, Sample
from trainer.graders.spec import TextSimilarityGrader
from trainer.graders.templates import compile_template

Similarity = Callable[[str, str], float]
"""Of the text and the reference."""

_NOT_ROUGE = re.compile(r"[^a-z0-9]+")
#: A character, with its marks, of the scripts that put no spaces between words.
_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\u30fc"
_UNSPACED = rf"(?:(?!\p{{M}})[{_SCRIPTS}]\p{{M}}*)"
_ALONE = regex.compile(rf"({_UNSPACED})")
_ROUGE_TOKEN = regex.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})[\p{{L}}\p{{N}}\p{{M}}])+")
#: Characters of either text, at most.
LIMITS = {"meteor": 10_000, "fuzzy_match": 100_000, "rouge_l": 100_000}
LIMIT = 1_000_000


def text_similarity(spec: TextSimilarityGrader) -> LocalGrader:
    """The grader that ``spec`` defines; not for ``cosine``."""
    name, metric = spec.name, spec.evaluation_metric
    similarity, limit = METRICS[metric](), LIMITS.get(metric, LIMIT)
    text, reference = compile_template(spec.input), compile_template(spec.reference)

    def grade(sample: Sample) -> Grade:
        one, other = text(sample), reference(sample)
        longest = max(len(one), len(other))
        if longest > limit:
            raise GraderError(f"a text has {longest} characters; {metric} takes up to {limit}")
        value = similarity(one, other)
        return Grade(value, {name: value})

    return LocalGrader(grade)


def _fuzzy_match() -> Similarity:
    from rapidfuzz import fuzz

    return lambda text, reference: fuzz.ratio(text, reference) / 100


def _bleu() -> Similarity:
    from sacrebleu import sentence_bleu

    return lambda text, reference: min(sentence_bleu(_apart(text), [_apart(reference)]).score / 100, 1.0)


def _gleu() -> Similarity:
    from nltk.translate.gleu_score import sentence_gleu
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    tokens = Tokenizer13a()

    def gleu(text: str, reference: str) -> float:
        return float(sentence_gleu([tokens(_apart(reference)).split()], tokens(_apart(text)).split()))

    return gleu


def _meteor() -> Similarity:
    from nltk.tokenize import NLTKWordTokenizer
    from nltk.translate.meteor_score import meteor_score

    tokenize = NLTKWordTokenizer().tokenize
    no_synonyms: Any = _NoSynonyms()

    def meteor(text: str, reference: str) -> float:
        words = tokenize(_apart(text))
        return float(meteor_score([tokenize(_apart(reference))], words, wordnet=no_synonyms))

    return meteor


class _NoSynonyms:
    """What METEOR asks for synonyms."""

    def synsets(self, _word: str) -> list[object]:
        return []


def _rouge_n(n: int) -> Similarity:
    def rouge(text: str, reference: str) -> float:
        found, wanted = _ngrams(text, n), _ngrams(reference, n)
        return _f1((found & wanted).total(), found.total(), wanted.total())

    return rouge


def _rouge_l() -> Similarity:
    from rapidfuzz.distance import LCSseq

    def rouge(text: str, reference: str) -> float:
        found, wanted = _rouge_tokens(text), _rouge_tokens(reference)
        return _f1(LCSseq.similarity(found, wanted), len(found), len(wanted))

    return rouge


def _apart(text: str) -> str:
    """With spaces around what is a word without them."""
    return text if text.isascii() else _ALONE.sub(r" \1 ", unicodedata.normalize("NFC", text))


def _ngrams(text: str, n: int) -> Counter[tuple[str, ...]]:
    tokens = _rouge_tokens(text)
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def _rouge_tokens(text: str) -> list[str]:
    if text.isascii():
        return _NOT_ROUGE.sub(" ", text.lower()).split()
    return _ROUGE_TOKEN.findall(unicodedata.normalize("NFC", text.lower()))


def _f1(shared: float, found: int, wanted: int) -> float:
    return 2 * shared / (found + wanted) if shared else 0.0


METRICS: dict[str, Callable[[], Similarity]] = {
    "fuzzy_match": _fuzzy_match,
    "bleu": _bleu,
    "gleu": _gleu,
    "meteor": _meteor,
    "rouge_l": _rouge_l,
} | {f"rouge_{n}": partial(_rouge_n, n) for n in range(1, 6)}
