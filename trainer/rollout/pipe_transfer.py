"""Weights through the pipe, as one of vLLM's weight-transfer engines: for the CPU, its own want CUDA."""

from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from vllm.distributed.weight_transfer import (  # pyright: ignore[reportMissingImports]
    WeightTransferEngine,
    WeightTransferEngineFactory,
)
from vllm.distributed.weight_transfer.base import (  # pyright: ignore[reportMissingImports]
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import (  # pyright: ignore[reportMissingImports]
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from trainer.rollout.vllm_protocol import PIPE
from trainer.rollout.weight_transfer import receive_weights


@dataclass
class PipeInitInfo(WeightTransferInitInfo):
    """Nothing has to be agreed on."""


@dataclass
class PipeUpdateInfo(WeightTransferUpdateInfo):
    """The weights themselves follow."""


def register_pipe(connection: Connection) -> None:
    """Let vLLM's ``weight_transfer_config`` name it, for this process, whose end of the pipe is given."""

    class PipeTransferEngine(WeightTransferEngine[PipeInitInfo, PipeUpdateInfo]):
        init_info_cls = PipeInitInfo
        update_info_cls = PipeUpdateInfo

        def init_transfer_engine(self, init_info: PipeInitInfo) -> None:
            pass

        def start_weight_update(self) -> None:
            initialize_layerwise_reload(self.model)

        def update_weights(self, update_info: dict[str, Any]) -> None:
            self.receive_weights(self.parse_update_info(update_info))

        def receive_weights(self, update_info: PipeUpdateInfo) -> None:
            weights = receive_weights(connection)
            model: Any = self.model
            try:
                model.load_weights(weights)
            finally:
                for _ in weights:  # what was not asked for stays in the pipe otherwise
                    pass

        def finish_weight_update(self) -> None:
            finalize_layerwise_reload(self.model, self.model_config)

        def shutdown(self) -> None:
            pass

    WeightTransferEngineFactory.register_engine(PIPE, PipeTransferEngine)
