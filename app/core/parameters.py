"""What requests say beside their body, with what the API's description says of it."""

from typing import Annotated

from fastapi import Header, Path

JobId = Annotated[str, Path(description="Id of a fine-tuning job, `ftjob-…`")]
FileId = Annotated[str, Path(description="Id of a file, `file-…`")]
EstimateId = Annotated[str, Path(description="Id of an estimate, `ftest-…`")]
ReplayId = Annotated[str, Path(description="Id of a replay, `ftreplay-…`")]
RolloutId = Annotated[str, Path(description="Id of a sampled response, `rollout-…`")]
ExperimentId = Annotated[str, Path(description="Id of an experiment, `exp_…`")]
EndpointId = Annotated[str, Path(description="Id of a webhook endpoint, `we_…`")]
PermissionId = Annotated[str, Path(description="Id of a permission, `cp_…`")]
ModelName = Annotated[str, Path(description="Id of a model as GET /v1/models gives it, slashes and all")]
CheckpointName = Annotated[str, Path(description="Id of the model that the checkpoint is, `ft:…`")]
IdempotencyKey = Annotated[
    str | None,
    Header(description="A text of your own: the same one with the same body makes nothing a second time"),
]
LastEventId = Annotated[
    str | None, Header(description="Id of the last event that was received: the stream begins after it")
]
