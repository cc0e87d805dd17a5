"""``transformers serve`` that also writes down the token ids which reach the model, one JSON list a line."""

import json
import os
from pathlib import Path
from typing import Any

from transformers import GenerationMixin
from transformers.cli.transformers import main

from worker.inference.engines.transformers_server import install

_generate = getattr(GenerationMixin, "generate")  # noqa: B009


def _recording_generate(self: Any, *arguments: Any, **options: Any) -> Any:
    with Path(os.environ["RECORDED_TOKEN_IDS"]).open("a") as record:
        record.write(json.dumps(options["input_ids"][0].tolist()) + "\n")
    return _generate(self, *arguments, **options)


def run() -> None:
    """Serve as the command line says."""
    setattr(GenerationMixin, "generate", _recording_generate)  # noqa: B010
    install()
    main()


if __name__ == "__main__":
    run()
