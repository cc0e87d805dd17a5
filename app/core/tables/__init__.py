"""Every table, one file a resource. Alembic alone creates them (``migrations/``).

Whoever imports one imports all from here, for keys refer to tables of other files.

Times are unix seconds. Ids are OpenAI's forms: ``file-…``, ``ftjob-…``, ``ftevent-…``, ``ftckpt_…``.
"""

from app.core.tables.attempts import JobAttempt, JobEvent, JobReplay
from app.core.tables.audit import AuditEntry
from app.core.tables.base import DEFAULT_PROJECT, DELETED_PROJECT, Double, Table
from app.core.tables.checkpoints import Checkpoint, CheckpointPermission
from app.core.tables.estimates import Estimate
from app.core.tables.evals import Eval, EvalOutputItem, EvalRun
from app.core.tables.experiments import Experiment, ExperimentRun
from app.core.tables.files import File
from app.core.tables.jobs import NO_REWARD, Job, JobMetadata, JobReward
from app.core.tables.projects import ApiKey, Project
from app.core.tables.rollouts import JobOutcomes, Rollout, RolloutArchive
from app.core.tables.schema import SchemaFloor
from app.core.tables.series import MetricBlock, MetricPoint, MetricSeries
from app.core.tables.sessions import SignIn
from app.core.tables.usage import PriceList, Usage
from app.core.tables.webhooks import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from app.core.tables.workers import InferenceWorker, TrainingWorker

__all__ = [
    "DEFAULT_PROJECT",
    "DELETED_PROJECT",
    "NO_REWARD",
    "ApiKey",
    "AuditEntry",
    "Checkpoint",
    "CheckpointPermission",
    "Double",
    "Estimate",
    "Eval",
    "EvalOutputItem",
    "EvalRun",
    "Experiment",
    "ExperimentRun",
    "File",
    "InferenceWorker",
    "Job",
    "JobAttempt",
    "JobEvent",
    "JobMetadata",
    "JobOutcomes",
    "JobReplay",
    "JobReward",
    "MetricBlock",
    "MetricPoint",
    "MetricSeries",
    "PriceList",
    "Project",
    "Rollout",
    "RolloutArchive",
    "SchemaFloor",
    "SignIn",
    "Table",
    "TrainingWorker",
    "Usage",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
]
