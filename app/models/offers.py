"""Base models to begin with, and what they need. The figures are those of their hub pages."""

from collections.abc import Iterator

from app.core.strict_json import JsonObject
from app.models.catalog import base_models
from app.models.machine import Machine, machine, needs

#: Name, parameters in the files, licence: instruction-tuned, with a chat template, small enough to learn on.
_OFFERED = (
    ("SmolLM2-135M-Instruct", 134_515_008, "apache-2.0"),
    ("HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120, "apache-2.0"),
    ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768, "apache-2.0"),
    ("Qwen/Qwen3-0.6B", 751_632_384, "apache-2.0"),
    ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304, "apache-2.0"),
    ("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384, "apache-2.0"),
    ("Qwen/Qwen3-1.7B", 2_031_739_904, "apache-2.0"),
    ("Qwen/Qwen3-4B", 4_022_468_096, "apache-2.0"),
    ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, "apache-2.0"),
    ("Qwen/Qwen3-8B", 8_190_735_360, "apache-2.0"),
)
_BYTES = 2


def offered() -> Iterator[JsonObject]:
    """The models that this machine can at least ask, the smallest first."""
    here, there = machine(), base_models()
    for name, parameters, license_name in _OFFERED:
        shown = view(
            {
                "name": name,
                "license": license_name,
                "bytes": parameters * _BYTES,
                "parameters": parameters,
                "there": name in there,
            },
            here,
        )
        if shown["fits"] != "nothing":
            yield shown


def view(facts: JsonObject, here: Machine) -> JsonObject:
    """A model that can be fetched, as the API and the command line show it."""
    memory = needs(facts["parameters"])
    return {
        "id": facts["name"],
        "object": "model.available",
        "license": facts["license"],
        "download_bytes": facts["bytes"],
        "parameters": facts["parameters"],
        "memory_to_ask_bytes": memory.asking,
        "memory_to_train_adapters_bytes": memory.adapters,
        "memory_to_train_bytes": memory.training,
        "fits": memory.fits(here.memory_bytes),
        "note": facts.get("note"),
        "there": facts["there"],
    }


def machine_view(here: Machine) -> JsonObject:
    """This machine, as the API shows it."""
    return {
        "device": here.device,
        "memory_bytes": here.memory_bytes,
        "free_disk_bytes": here.free_disk_bytes,
    }
