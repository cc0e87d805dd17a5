"""What requests of several resources say, with what the API's description says of it."""

from typing import Annotated

from fastapi import Header, Path
from pydantic import Field, StringConstraints

JobId = Annotated[str, Path(description="Id of the job, `ftjob-…`, as returned on creation")]
FileId = Annotated[str, Path(description="Id of the file, `file-…`, as returned on upload")]
EstimateId = Annotated[str, Path(description="Id of the estimate, `ftest-…`, as returned on creation")]
ReplayId = Annotated[str, Path(description="Id of the replay, `ftreplay-…`, as listed")]
RolloutId = Annotated[str, Path(description="Id of the response, `rollout-…`, as listed")]
ExperimentId = Annotated[str, Path(description="Id of the experiment, `exp_…`, as returned on creation")]
EvalId = Annotated[str, Path(description="Id of the eval, `eval_…`, as returned on creation")]
EvalRunId = Annotated[str, Path(description="Id of the run, `evalrun_…`, as returned on creation")]
OutputItemId = Annotated[str, Path(description="Id of the output item, `outputitem_…`, as listed")]
EndpointId = Annotated[str, Path(description="Id of the endpoint, `we_…`, as returned on creation")]
DeliveryId = Annotated[str, Path(description="Id of the delivery, `whd_…`, as listed")]
KeyId = Annotated[str, Path(description="Id of the key, `key_…`, as listed; not its secret")]
ProjectName = Annotated[str, Path(description="Id of the project, `proj_…`, as listed")]
WorkerId = Annotated[str, Path(description="Id of the worker, as listed")]
PermissionId = Annotated[str, Path(description="Id of the permission, `cp_…`, as listed")]
ModelName = Annotated[
    str, Path(description="Id of a model as listed by GET /v1/models, including any slashes")
]
HubName = Annotated[
    str, Path(description="Name on the model hub, organisation/name, or that of a packaged model")
]
CheckpointName = Annotated[str, Path(description="Model id of the checkpoint, `ft:…`")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Any text you choose; repeating it with the same body does not create a second object"
    ),
]
LastEventId = Annotated[
    str | None, Header(description="Id of the last event received: the stream starts after it")
]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]
