"""A task of reasoning-gym: are its parameters right, what are its items, what is an answer worth?"""

import dataclasses
import sys
from types import ModuleType
from typing import Any

from . import values
from .supervisor import Handle, Prepare, Refused

#: Of a parameter's name: it says where a file is.
_PLACES = frozenset({"file", "files", "path", "paths", "dir", "directory", "folder", "url", "filename"})
#: What whoever draws items gives beside the parameters.
OURS = ("seed", "size")


#: cellpylib, which some tasks use, could draw with these. They would take a third of the time to start.
_DRAWING = (
    *("matplotlib", "matplotlib.pyplot", "matplotlib.animation", "matplotlib.collections"),
    *("mpl_toolkits", "mpl_toolkits.mplot3d"),
)


def load(setup: dict[str, object]) -> Prepare:
    for name in _DRAWING:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name])["Axes3D"] = None
    import reasoning_gym  # noqa: F401

    return lambda: _prepared(setup)


def _prepared(setup: dict[str, Any]) -> Handle:
    if not setup:
        return lambda question: problem_of(**values.loads(question))
    import reasoning_gym

    task, parameters = setup["task"], setup["parameters"]
    if problem := problem_of(task, parameters):
        raise Refused(str(problem["message"]))
    try:
        dataset = reasoning_gym.create_dataset(task, **parameters, **{name: setup[name] for name in OURS})
    except Exception as error:  # the configurations assert, compare and raise as they like
        raise Refused(str(error) or type(error).__name__) from None

    def handle(question: bytes) -> dict[str, object]:
        asked = values.loads(question)
        if "index" in asked:
            return {"item": values.dumps(dict(dataset[asked["index"]]))}
        entry = {"question": "", "metadata": {}, **asked["item"]}
        answer = asked["answer"]
        form = " ".join(answer.split()) or None if answer else None
        return {"score": float(dataset.score_answer(answer, entry)), "answer": form}

    return handle


def problem_of(task: str, parameters: dict[str, object]) -> dict[str, object]:
    """What is wrong with a task and its parameters: where, why, what would be accepted; empty: nothing."""
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        return {
            "where": "task",
            "message": f"{task!r} is not a task of reasoning-gym",
            "accepted": sorted(DATASETS),
        }
    configuration = DATASETS[task][1]
    fields = [field for field in dataclasses.fields(configuration) if field.name not in OURS]
    accepted = [field.name for field in fields if not names_a_file(field)]
    for name in parameters:
        if name in accepted:
            continue
        is_file = any(field.name == name for field in fields)
        message = (
            f"the parameter {name!r} names a file, but tasks may not read files on this machine"
            if is_file
            else f"it has no parameter {name!r}"
        )
        return {"where": "parameter", "name": name, "message": message, "accepted": accepted, "file": is_file}
    try:
        configured = configuration(**parameters)
        if hasattr(configured, "validate"):
            configured.validate()
    except Exception as error:
        return {"where": "parameters", "message": str(error) or type(error).__name__}
    return {}


def names_a_file(field: "dataclasses.Field[object]") -> bool:
    """Whether a configuration's field says where a file is, by its name: their types are text alike."""
    return "str" in str(field.type) and not _PLACES.isdisjoint(field.name.lower().split("_"))
