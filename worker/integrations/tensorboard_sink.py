"""TensorBoard: event files in the job's run directory, written without torch."""

from collections.abc import Mapping

# protobuf makes these classes at import, out of sight of type checkers.
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from worker.integrations.sink import JobFacts, SetupFailed

FOLDER = "tensorboard"


class TensorboardSink:
    """One file an attempt; where attempts overlap, TensorBoard shows what came later."""

    def __init__(self, facts: JobFacts):
        self._writer = EventFileWriter(str(facts.run_dir / FOLDER), flush_secs=10)

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_event(Event(wall_time=time, step=step, summary=Summary(value=scalars)))

    def close(self, succeeded: bool) -> None:
        self._writer.close()


def open_sink(_options: dict[str, object], facts: JobFacts) -> TensorboardSink:
    """Raises SetupFailed where the run directory cannot be written."""
    try:
        return TensorboardSink(facts)
    except OSError as error:
        raise SetupFailed(f"{facts.run_dir / FOLDER} cannot be written: {error}") from error
