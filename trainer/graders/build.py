"""From a definition to a grader that works: one function, which imports what the type needs."""

import importlib.util

from trainer.errors import InvalidSpec
from trainer.graders.grade import Grader, OnScale
from trainer.graders.spec import (
    CreativeWritingGrader,
    EnvironmentGrader,
    HttpGrader,
    LabelModelGrader,
    MathVerifyGrader,
    MultiGrader,
    PythonGrader,
    ScoreModelGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)
from trainer.graders.spec import Grader as GraderSpec


def build_grader(spec: GraderSpec, workers: int | None = None) -> Grader:
    """The grader that ``spec`` defines; close it when it is done with.

    ``workers``: sandboxes where it has such; default one a core.
    Raises InvalidSpec when the definition cannot work here.
    """
    if isinstance(spec, MultiGrader | PythonGrader | HttpGrader):
        remedy = ": give the grader its range, [lowest, highest]"
        return OnScale(_build(spec, workers), spec.name, spec.bounds, remedy)
    return OnScale(_build(spec, workers), spec.name)


def _build(spec: GraderSpec, workers: int | None) -> Grader:
    match spec:
        case StringCheckGrader():
            from trainer.graders.string_check import string_check

            return string_check(spec)
        case TextSimilarityGrader(evaluation_metric="cosine"):
            from trainer.graders.cosine import Cosine

            return Cosine(spec)
        case TextSimilarityGrader():
            if importlib.util.find_spec("rapidfuzz") is None:
                raise InvalidSpec(
                    "text_similarity needs packages that are missing here: install policysplit[graders]",
                    "grader",
                )
            from trainer.graders.text_similarity import text_similarity

            return text_similarity(spec)
        case ScoreModelGrader():
            from trainer.graders.score_model import ScoreModel

            return ScoreModel(spec)
        case LabelModelGrader():
            from trainer.graders.label_model import LabelModel

            return LabelModel(spec)
        case PythonGrader():
            from trainer.graders.python import python

            return python(spec, workers)
        case MathVerifyGrader():
            from trainer.graders.math_verify import MathVerify

            return MathVerify(spec, workers)
        case EnvironmentGrader():
            from trainer.graders.environment import environment

            return environment(spec, workers)
        case HttpGrader():
            from trainer.graders.http import Http

            return Http(spec)
        case CreativeWritingGrader():
            from trainer.graders.creative_writing import CreativeWriting

            return CreativeWriting(spec)
        case MultiGrader():
            return _multi(spec, workers)


def _multi(spec: MultiGrader, workers: int | None) -> Grader:
    from trainer.graders.multi import Multi

    built: dict[str, Grader] = {}
    try:
        for name, one in spec.named.items():
            built[name] = _build(one, workers)
        return Multi(spec.name, built, spec.calculate_output)
    except BaseException:
        for grader in built.values():
            grader.close()
        raise
