"""What requests of several resources say, with what the API's description says of it."""

from typing import Annotated

from fastapi import Header, Path
from pydantic import Field, StringConstraints

JobId = Annotated[str, Path(description="Which job: `ftjob-…`, as its creation answered")]
FileId = Annotated[str, Path(description="Which file: `file-…`, as its upload answered")]
EstimateId = Annotated[str, Path(description="Which estimate: `ftest-…`, as its creation answered")]
ReplayId = Annotated[str, Path(description="Which replay: `ftreplay-…`, as the list has it")]
RolloutId = Annotated[str, Path(description="Which response: `rollout-…`, as the list has it")]
ExperimentId = Annotated[str, Path(description="Which experiment: `exp_…`, as its creation answered")]
EvalId = Annotated[str, Path(description="Which eval: `eval_…`, as its creation answered")]
EvalRunId = Annotated[str, Path(description="Which run: `evalrun_…`, as its creation answered")]
OutputItemId = Annotated[str, Path(description="Which item: `outputitem_…`, as the list has it")]
EndpointId = Annotated[str, Path(description="Which endpoint: `we_…`, as its creation answered")]
DeliveryId = Annotated[str, Path(description="Which delivery: `whd_…`, as the list has it")]
KeyId = Annotated[str, Path(description="Which key: `key_…`, as the list has it; not its secret")]
ProjectName = Annotated[str, Path(description="Which project: `proj_…`, as the list has it")]
WorkerId = Annotated[str, Path(description="Which worker, as the list has it")]
PermissionId = Annotated[str, Path(description="Which permission: `cp_…`, as the list has it")]
ModelName = Annotated[str, Path(description="Id of a model as GET /v1/models gives it, slashes and all")]
HubName = Annotated[str, Path(description="Name on the model hub, organisation/name, or of a packaged model")]
CheckpointName = Annotated[str, Path(description="Id of the model that the checkpoint is, `ft:…`")]
IdempotencyKey = Annotated[
    str | None,
    Header(description="A text of your own: the same one with the same body makes nothing a second time"),
]
LastEventId = Annotated[
    str | None, Header(description="Id of the last event that was received: the stream begins after it")
]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]
