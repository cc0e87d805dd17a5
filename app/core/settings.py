"""Every setting, read from the environment (prefix ``POLICYSPLIT_``; the two URLs also without it)."""

import sys
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from app.core.scope_names import SCOPES, Scope
from trainer.graders.operator import GraderSettings


class OidcRule(BaseModel):
    """Who of those that an identity provider knows may do what: one whose ``claim`` is, or has, ``value``.

    ``value`` may have stars, as ``*@example.org``.
    """

    model_config = ConfigDict(extra="forbid")

    claim: str = "groups"
    value: str = Field(min_length=1)
    project: str = "proj_default"
    scopes: list[Scope] = Field(default=list(SCOPES), min_length=1)
    operator: bool = False


#: Kinds of stores.
STORES = ("file", "s3", "gs", "az")


class Settings(GraderSettings):
    """Build with :func:`get_settings`; never at import."""

    model_config = SettingsConfigDict(env_prefix="POLICYSPLIT_", extra="ignore")

    data_dir: Path = Field(default=Path(".policysplit"), description="Files, models, runs, embedded servers")
    store: str = Field(
        default="",
        description="Where uploads, results, checkpoints and states are kept for hosts that share no folder: "
        "s3://BUCKET/PREFIX, gs://…, az://… or file:///FOLDER; keys as the kind of store has them "
        "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, …); empty: in data_dir",
    )
    store_cache_bytes: int = Field(
        default=100 << 30,
        ge=0,
        description="What a host keeps at hand of the store; beyond it what was not used for longest goes, "
        "unless it is in use; 0: any",
    )
    database_url: str = Field(
        default="",
        validation_alias=AliasChoices("POLICYSPLIT_DATABASE_URL", "DATABASE_URL"),
        description="SQLAlchemy URL; empty: SQLite in data_dir",
    )
    database_statement_seconds: float = Field(
        default=30.0, ge=0, description="A query that takes longer is ended; 0: never"
    )
    database_lock_seconds: float = Field(
        default=10.0, gt=0, description="How long a change waits for another that has the same rows locked"
    )
    database_connect_seconds: int = Field(
        default=5, ge=2, description="How long a connection to PostgreSQL may take to come about"
    )
    database_connections: int = Field(
        default=20,
        ge=2,
        description="Most connections of a process; an API process has 8 more. max_connections of PostgreSQL "
        "is to be at least processes of the API x (this + 8) + workers x this + 10",
    )
    database_pooler: bool = Field(
        default=False,
        description="The URL is that of a pooler in transaction mode, such as PgBouncer: no prepared "
        "statements, and nothing that lasts longer than a transaction",
    )
    broker_url: str = Field(
        default="",
        validation_alias=AliasChoices("POLICYSPLIT_BROKER_URL", "BROKER_URL"),
        description="Redis URL; empty: the embedded Redis in data_dir",
    )
    host: str = Field(default="127.0.0.1", description="Address the API listens on")
    port: int = Field(default=8700, description="Port of the API")
    inference_host: str = Field(default="127.0.0.1", description="Address an inference worker listens on")
    inference_port: int = Field(default=0, description="0: any free port; the database tells the gateway")
    inference_url: str = Field(
        default="", description="How the gateway reaches this inference worker; empty: its host and port"
    )
    inference_token: SecretStr | None = Field(
        default=None,
        description="Shared secret of gateway and inference workers; required off loopback, else made by "
        "itself in data_dir",
    )
    organization: str = Field(default="policysplit", description="The org part of ft:base:org:suffix:id")
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="json: each log line is an object, with request, project, job and attempt where it is "
        "about one",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address at which workers answer /metrics, /healthz and /readyz"
    )
    worker_metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port at which a worker does; unset: it does not"
    )
    inference_metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Likewise an inference worker"
    )
    ready_file: Path | None = Field(
        default=None, description="A worker writes its process id here when it takes jobs"
    )
    worker_slots: int = Field(
        default=1, ge=1, description="Jobs one worker runs at a time, each on GPUs of its own"
    )
    eval_slots: int = Field(
        default=2,
        ge=0,
        description="Runs of evals that one worker has under way at a time, beside its jobs; 0: it takes "
        "none",
    )
    eval_concurrency: int = Field(
        default=16, ge=1, le=256, description="Items of such a run that are asked at a time"
    )
    gpus: str | None = Field(
        default=None,
        description="GPUs that the worker divides among its slots, such as 0,1; default those of "
        "CUDA_VISIBLE_DEVICES, or all of the machine",
    )
    gpu_share: bool = Field(default=False, description="Allow more slots than GPUs: jobs then share them")
    trainer_environment: list[str] = Field(
        default_factory=list,
        description='Variables, JSON: ["NAME"], that trainers get of a worker\'s environment beside those of '
        "the interpreter, of accelerators and of model libraries",
    )
    integration_environment: list[str] = Field(
        default_factory=list,
        description="Likewise for the processes of integrations, which get their own trackers' WANDB_… or "
        "MLFLOW_…, too",
    )
    lease_seconds: float = Field(
        default=20.0, gt=0, description="A worker that is silent for this long has lost its job"
    )
    heartbeat_seconds: float = Field(
        default=4.0, gt=0, description="How often workers renew their leases and rows"
    )
    reconcile_seconds: float = Field(
        default=5.0, gt=0, description="How often a worker looks for lost messages and expired leases"
    )
    max_attempts: int = Field(default=3, ge=1, description="Attempts of a job before it is failed")
    stop_grace_seconds: float = Field(default=3.0, description="SIGTERM to SIGKILL of a cancelled trainer")
    checkpoint_grace_seconds: float = Field(
        default=120.0, description="SIGTERM to SIGKILL of a trainer that is to write a checkpoint first"
    )
    retry_backoff_seconds: float = Field(
        default=5.0, ge=0, description="Wait after a job's first crash; doubled after each further one"
    )
    stall_dump_seconds: float = Field(
        default=600.0,
        ge=0,
        description="A trainer silent for so long has its stack put into an event; 0: never",
    )
    stall_seconds: float = Field(
        default=3600.0, ge=0, description="A trainer silent for so long is ended and tried again; 0: never"
    )
    disk_reserve_bytes: int = Field(
        default=512 << 20, ge=0, description="Jobs are paused when the data directory has less room than this"
    )
    step_rollouts: int = Field(
        default=0,
        ge=0,
        description="Most rollouts of a step that the database keeps: of those of some prompts all; 0: all",
    )
    retain_rollouts_days: float = Field(
        default=0, ge=0, description="Rollouts are removed so long after their job's end; 0: never"
    )
    retain_events_days: float = Field(
        default=0, ge=0, description="Events are removed so long after their job's end; 0: never"
    )
    retain_checkpoints_days: float = Field(
        default=0, ge=0, description="All checkpoints but a job's last, so long after its end; 0: never"
    )
    retain_files_days: float = Field(
        default=0, ge=0, description="Uploaded files that no job needs, so long after their upload; 0: never"
    )
    retain_audit_days: float = Field(
        default=0, ge=0, description="Entries of the audit log, so long after the change; 0: never removed"
    )
    retain_eval_items_days: float = Field(
        default=0,
        ge=0,
        description="Answers and grades of evals' items are removed so long after their run's end, its "
        "counts are not; 0: never",
    )
    retention_seconds: float = Field(
        default=3600.0, gt=0, description="How often a worker looks for what has expired"
    )
    wakeup_resend_seconds: float = Field(
        default=30.0, gt=0, description="A queued job's wake-up message counts as lost after this long"
    )
    estimate_seconds: float = Field(
        default=900.0, gt=0, description="The probe of an estimate is stopped when it takes longer"
    )
    trainer_command: list[str] = Field(
        default_factory=lambda: [sys.executable, "-P", "-m", "trainer"],
        description="Program that trains, a JSON list; unset: python -m trainer of this environment",
    )
    requests_per_minute: int = Field(
        default=0,
        ge=0,
        description="Requests a key may send, unless it has a limit of its own; 0: any",
    )
    max_connections: int = Field(
        default=1000, ge=1, description="Connections of an API process; more are answered with 503"
    )
    project_max_jobs: int = Field(
        default=20_000, ge=0, description="Jobs of a project that have not ended; 0: any number"
    )
    project_max_steps: int = Field(
        default=5_000_000, ge=0, description="Steps of a project's jobs that have not ended, together; 0: any"
    )
    project_max_samples: int = Field(
        default=1_000_000_000,
        ge=0,
        description="Responses that those jobs sample in training, together; 0: any",
    )
    project_max_eval_runs: int = Field(
        default=1000, ge=0, description="Runs of a project's evals that have not ended; 0: any number"
    )
    project_max_eval_items: int = Field(
        default=1_000_000, ge=0, description="Items of those runs together, and of one; 0: any number"
    )
    project_max_files: int = Field(
        default=10_000, ge=0, description="Uploaded files that a project may have; 0: any number"
    )
    project_max_file_bytes: int = Field(
        default=100 << 30, ge=0, description="Size of a project's uploaded files together; 0: any"
    )
    project_max_keys: int = Field(
        default=100,
        ge=0,
        description="Keys of a project that are not revoked, where its own keys make them; 0: any number",
    )
    max_upload_bytes: int = Field(default=1 << 30, description="Largest file that can be uploaded")
    max_line_bytes: int = Field(default=16 << 20, description="Longest line of an uploaded file")
    sealing_keys: list[SecretStr] = Field(
        default=[],
        description="Fernet keys that seal secrets in the database, a JSON list, the newest first; empty: "
        "one that is made by itself in data_dir",
    )
    oidc_issuer: str = Field(
        default="",
        description="Identity provider (OpenID Connect) with which people sign in to the dashboard, as it "
        "calls itself: https://…; empty: keys alone",
    )
    oidc_name: str = Field(default="your organization", description="What the sign-in button calls it")
    oidc_client_id: str = Field(default="", description="Id of this service at the identity provider")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Its secret there; unset: a public client, with PKCE alone"
    )
    oidc_public_url: str = Field(
        default="",
        description="How browsers reach this service, https://…; the provider sends them back to "
        "/auth/callback there",
    )
    oidc_scopes: str = Field(default="openid email profile", description="What is asked for at the provider")
    oidc_rules: list[OidcRule] = Field(
        default=[],
        description="Who may do what, a JSON list, of which the first that is met counts: claim (default "
        "groups), value (with stars, as *@example.org), project, scopes, operator",
    )
    oidc_session_hours: float = Field(default=12.0, gt=0, description="How long a sign-in lasts")
    oidc_clock_skew_seconds: int = Field(
        default=60, ge=0, description="How far the provider's clock may be from this one"
    )
    model_pull_projects: list[str] = Field(
        default=["proj_default"],
        description="Projects whose keys may fetch base models from the model hub, a JSON list of ids; "
        "HF_TOKEN and HF_ENDPOINT are the hub's own",
    )
    webhook_allowed_hosts: list[str] = Field(
        default=[],
        description="Hosts that webhooks may reach over http or in private networks, a JSON list",
    )
    webhook_retry_seconds: list[float] = Field(
        default=[5, 300, 1800, 7200, 18000, 36000, 50400],
        description="Waits after failed attempts at a webhook delivery; then it is given up",
    )
    webhook_poll_seconds: float = Field(
        default=1.0, gt=0, description="How often an API process looks for webhook deliveries that are due"
    )
    webhook_log_days: float = Field(
        default=30.0, gt=0, description="Webhook deliveries that are over are shown in the log for this long"
    )
    engine: str = Field(
        default="transformers", description="Which server answers for checkpoints: transformers or vllm"
    )
    engine_command: list[str] = Field(
        default_factory=list,
        description="Program that starts the engine's server, e.g. in an environment of its own; it listens "
        "at the socket that it is told (vllm: --uds; else POLICYSPLIT_ENGINE_SOCKET); empty: ours",
    )
    engine_arguments: list[str] = Field(
        default_factory=list,
        description="More arguments of the engine's server, a JSON list, such as a tool-call parser",
    )
    engine_kv_cache_bytes: int = Field(
        default=1 << 30, gt=0, description="Memory that each vLLM server has for the tokens it attends to"
    )
    engine_environment: list[str] = Field(
        default_factory=list,
        description='Variables, JSON: ["NAME"], that engines get of an inference worker\'s environment '
        "beside those of the interpreter, of accelerators and of model libraries",
    )
    engine_gpus: int = Field(
        default=1,
        ge=1,
        description="GPUs that each engine sees, of those that POLICYSPLIT_GPUS names: the ones with the "
        "fewest engines. More than 1 where the engine's arguments have it compute on several, as "
        "--tensor-parallel-size",
    )
    engine_memory_bytes: int = Field(default=8 << 30, description="Loaded checkpoints are evicted beyond it")
    engine_start_seconds: float = Field(
        default=180.0, description="How long a request waits for a cold start"
    )
    engine_stall_seconds: float = Field(
        default=300.0,
        gt=0,
        description="An engine that sends nothing for this long while answering is restarted",
    )

    @field_validator("store")
    @classmethod
    def _is_store(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (
            parts.scheme not in STORES or parts.username or (parts.scheme == "file") == bool(parts.netloc)
        ):
            raise ValueError(
                "should be file:///FOLDER or s3://BUCKET/PREFIX, or gs:// or az:// likewise, without keys"
            )
        return value.rstrip("/")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.oidc_issuer and not (self.oidc_client_id and self.oidc_public_url and self.oidc_rules):
            raise ValueError("oidc_issuer wants oidc_client_id, oidc_public_url and oidc_rules beside it")
        return self

    @property
    def cache_dir(self) -> Path:
        """What this host has fetched from the store."""
        return self.data_dir.resolve() / "cache"

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'policysplit.db'}"

    @property
    def redis_socket(self) -> Path:
        return self.data_dir.resolve() / "redis" / "redis.sock"

    @property
    def resolved_broker_url(self) -> str:
        return self.broker_url or f"redis+socket://{self.redis_socket}"

    @property
    def files_dir(self) -> Path:
        return self.data_dir.resolve() / "files"

    @property
    def models_dir(self) -> Path:
        """Base models: a folder each, in Hugging Face format."""
        return self.data_dir.resolve() / "models"

    @property
    def runs_dir(self) -> Path:
        """Run directories: ``runs/<job id>``."""
        return self.data_dir.resolve() / "runs"


@lru_cache
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings()
