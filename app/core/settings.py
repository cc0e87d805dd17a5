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
        description="Where hosts without a shared folder keep uploads, results, checkpoints and states: "
        "s3://BUCKET/PREFIX, gs://…, az://… or file:///FOLDER; credentials in the store's "
        "usual variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, …); "
        "empty: in data_dir",
    )
    store_cache_bytes: int = Field(
        default=100 << 30,
        ge=0,
        description="Size of a host's cache of the store; beyond it the least recently used goes, unless "
        "in use; 0: unlimited",
    )
    database_url: str = Field(
        default="",
        validation_alias=AliasChoices("POLICYSPLIT_DATABASE_URL", "DATABASE_URL"),
        description="SQLAlchemy URL; empty: SQLite in data_dir",
    )
    database_statement_seconds: float = Field(
        default=30.0, ge=0, description="Time limit for a database query; 0: unlimited"
    )
    database_lock_seconds: float = Field(
        default=10.0, gt=0, description="How long a change waits for rows that another has locked"
    )
    database_connect_seconds: int = Field(
        default=5, ge=2, description="How long connecting to PostgreSQL may take"
    )
    database_connections: int = Field(
        default=20,
        ge=2,
        description="Most database connections per process; an API process opens 8 more. Set PostgreSQL's "
        "max_connections to at least API processes x (this + 8) + workers x this + 10",
    )
    database_pooler: bool = Field(
        default=False,
        description="Set if the URL is that of a pooler in transaction mode, such as PgBouncer: no "
        "prepared statements, and nothing that outlasts a transaction",
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
        description="Secret shared by gateway and inference workers; required off loopback, otherwise "
        "generated in data_dir",
    )
    organization: str = Field(default="policysplit", description="The org part of ft:base:org:suffix:id")
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="json: each log line is an object, with the request, project, job and attempt it "
        "concerns",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address on which workers serve /metrics, /healthz and /readyz"
    )
    worker_metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of a worker's metrics; unset: none"
    )
    inference_metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of an inference worker's metrics; unset: none"
    )
    ready_file: Path | None = Field(
        default=None, description="A worker writes its process id here once it is ready for jobs"
    )
    worker_slots: int = Field(
        default=1, ge=1, description="Jobs a worker runs at a time, each on its own GPUs"
    )
    eval_slots: int = Field(
        default=2,
        ge=0,
        description="Eval runs a worker runs at a time, besides its jobs; 0: none",
    )
    eval_concurrency: int = Field(
        default=16, ge=1, le=256, description="Items of an eval run answered at a time"
    )
    gpus: str | None = Field(
        default=None,
        description="GPUs a worker divides among its slots, such as 0,1; default: those in "
        "CUDA_VISIBLE_DEVICES, or all",
    )
    gpu_share: bool = Field(default=False, description="Allow more slots than GPUs; jobs then share GPUs")
    reserve_seconds: float = Field(
        default=60.0,
        ge=0,
        description="How long a job of several GPUs whose turn it is waits before a worker reserves for it "
        "what becomes free",
    )
    ray_address: str = Field(
        default="",
        description="host:port of a Ray cluster's head, for jobs with launcher 'ray'; the worker's host must "
        "be one of its nodes; empty: the worker takes no such jobs",
    )
    ray_device: Literal["gpu", "cpu"] = Field(
        default="gpu", description="What each process of such a job occupies on the cluster"
    )
    trainer_environment: list[str] = Field(
        default_factory=list,
        description='JSON list of variables, ["NAME"], passed from a worker\'s environment to trainers, '
        "besides those of the interpreter, accelerators and model libraries",
    )
    integration_environment: list[str] = Field(
        default_factory=list,
        description="Likewise for integrations, which also get their own tracker's WANDB_… or MLFLOW_… "
        "variables",
    )
    lease_seconds: float = Field(
        default=20.0, gt=0, description="A worker silent for this long loses its jobs"
    )
    heartbeat_seconds: float = Field(
        default=4.0, gt=0, description="How often workers renew their leases and rows"
    )
    reconcile_seconds: float = Field(
        default=5.0, gt=0, description="How often a worker looks for lost messages and expired leases"
    )
    max_attempts: int = Field(default=3, ge=1, description="Attempts at a job before it fails")
    stop_grace_seconds: float = Field(
        default=3.0, description="Time from SIGTERM to SIGKILL for a cancelled trainer"
    )
    checkpoint_grace_seconds: float = Field(
        default=120.0, description="Time from SIGTERM to SIGKILL for a trainer that saves a checkpoint first"
    )
    retry_backoff_seconds: float = Field(
        default=5.0, ge=0, description="Wait after a job's first crash; doubles with each further crash"
    )
    stall_dump_seconds: float = Field(
        default=600.0,
        ge=0,
        description="The stack of a trainer silent for this long is recorded in an event; 0: never",
    )
    stall_seconds: float = Field(
        default=3600.0, ge=0, description="A trainer silent for this long is killed and retried; 0: never"
    )
    disk_reserve_bytes: int = Field(
        default=512 << 20,
        ge=0,
        description="Jobs are paused when the data directory has less free space than this",
    )
    step_rollouts: int = Field(
        default=0,
        ge=0,
        description="Most rollouts per step kept in the database, as whole prompts; 0: unlimited",
    )
    retain_rollouts_days: float = Field(
        default=0,
        ge=0,
        description="Days after a job's end until its rollouts leave the database, for an archive unless "
        "POLICYSPLIT_ARCHIVE_ROLLOUTS is never; 0: never",
    )
    archive_rollouts: Literal["never", "expiring", "ended"] = Field(
        default="expiring",
        description="Compressed archives of rollouts, read in place of removed rows. expiring: rollouts "
        "are archived before they are removed; ended: each job's rollouts are archived once it has "
        "ended; never: removed rollouts are lost",
    )
    retain_rollout_archives_days: float = Field(
        default=0,
        ge=0,
        description="Days after a job's end until its archives of rollouts are removed; 0: never",
    )
    retain_events_days: float = Field(
        default=0, ge=0, description="Days after a job's end until its events are removed; 0: never"
    )
    retain_checkpoints_days: float = Field(
        default=0,
        ge=0,
        description="Days after a job's end until all its checkpoints but the last are removed; 0: never",
    )
    retain_files_days: float = Field(
        default=0, ge=0, description="Days after upload until files that no job needs are removed; 0: never"
    )
    retain_audit_days: float = Field(
        default=0, ge=0, description="Days until entries of the audit log are removed; 0: never"
    )
    retain_eval_items_days: float = Field(
        default=0,
        ge=0,
        description="Days after an eval run's end until its items' answers and grades are removed, but "
        "not its counts; 0: never",
    )
    retention_seconds: float = Field(
        default=3600.0, gt=0, description="How often a worker removes what has expired"
    )
    wakeup_resend_seconds: float = Field(
        default=30.0, gt=0, description="A queued job's wake-up message is considered lost after this long"
    )
    estimate_seconds: float = Field(
        default=900.0, gt=0, description="Time limit for the probe of an estimate"
    )
    trainer_command: list[str] = Field(
        default_factory=lambda: [sys.executable, "-P", "-m", "trainer"],
        description="Command that trains, as a JSON list; unset: python -m trainer of this environment",
    )
    requests_per_minute: int = Field(
        default=0,
        ge=0,
        description="Requests a key may send, unless it has its own limit; 0: unlimited",
    )
    max_connections: int = Field(
        default=1000, ge=1, description="Connections per API process; further ones get 503"
    )
    project_max_jobs: int = Field(
        default=20_000, ge=0, description="Unfinished jobs of a project; 0: unlimited"
    )
    project_max_steps: int = Field(
        default=5_000_000, ge=0, description="Total steps of a project's unfinished jobs; 0: unlimited"
    )
    project_max_samples: int = Field(
        default=1_000_000_000,
        ge=0,
        description="Total responses those jobs sample in training; 0: unlimited",
    )
    project_max_eval_runs: int = Field(
        default=1000, ge=0, description="Unfinished eval runs of a project; 0: unlimited"
    )
    project_max_eval_items: int = Field(
        default=1_000_000, ge=0, description="Total items of those runs, and of any single one; 0: unlimited"
    )
    project_max_files: int = Field(
        default=10_000, ge=0, description="Uploaded files of a project; 0: unlimited"
    )
    project_max_file_bytes: int = Field(
        default=100 << 30, ge=0, description="Total size of a project's uploaded files; 0: unlimited"
    )
    project_max_keys: int = Field(
        default=100,
        ge=0,
        description="Active keys of a project that its own keys may bring it to; 0: unlimited",
    )
    max_upload_bytes: int = Field(default=1 << 30, description="Largest file that can be uploaded")
    max_line_bytes: int = Field(default=16 << 20, description="Longest line of an uploaded file")
    sealing_keys: list[SecretStr] = Field(
        default=[],
        description="Fernet keys that encrypt secrets in the database, a JSON list, newest first; empty: "
        "one generated in data_dir",
    )
    oidc_issuer: str = Field(
        default="",
        description="Issuer URL of the identity provider (OpenID Connect) for signing in to the "
        "dashboard, https://…; empty: keys only",
    )
    oidc_name: str = Field(
        default="your organization", description="Name of the identity provider on the sign-in button"
    )
    oidc_client_id: str = Field(default="", description="This service's client id at the identity provider")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Its client secret; unset: a public client, with PKCE only"
    )
    oidc_public_url: str = Field(
        default="",
        description="URL at which browsers reach this service, https://…; the provider redirects to its "
        "/auth/callback",
    )
    oidc_scopes: str = Field(default="openid email profile", description="Scopes requested from the provider")
    oidc_rules: list[OidcRule] = Field(
        default=[],
        description="Who may do what, a JSON list; the first rule that matches counts: claim (default "
        "groups), value (wildcards allowed, such as *@example.org), project, scopes, operator",
    )
    oidc_session_hours: float = Field(default=12.0, gt=0, description="How long a sign-in lasts")
    oidc_clock_skew_seconds: int = Field(
        default=60, ge=0, description="How far the provider's clock may differ from this host's"
    )
    model_pull_projects: list[str] = Field(
        default=["proj_default"],
        description="JSON list of ids of the projects whose keys may fetch base models from the model "
        "hub, which HF_TOKEN and HF_ENDPOINT configure",
    )
    webhook_allowed_hosts: list[str] = Field(
        default=[],
        description="Hosts that webhooks may reach over http or in private networks, a JSON list",
    )
    webhook_retry_seconds: list[float] = Field(
        default=[5, 300, 1800, 7200, 18000, 36000, 50400],
        description="Waits between attempts at a webhook delivery, after the last of which it is given up",
    )
    webhook_poll_seconds: float = Field(
        default=1.0, gt=0, description="How often an API process looks for due webhook deliveries"
    )
    webhook_log_days: float = Field(
        default=30.0, gt=0, description="How long finished webhook deliveries stay in the log"
    )
    engine: str = Field(
        default="transformers", description="Server that runs checkpoints: transformers or vllm"
    )
    engine_command: list[str] = Field(
        default_factory=list,
        description="Command that starts the engine's server, such as one in its own environment; it must "
        "listen on the socket it is given (vllm: --uds; otherwise POLICYSPLIT_ENGINE_SOCKET); "
        "empty: the built-in one",
    )
    engine_arguments: list[str] = Field(
        default_factory=list,
        description="Extra arguments for the engine's server, as a JSON list, such as a tool-call parser",
    )
    engine_kv_cache_bytes: int = Field(
        default=1 << 30, gt=0, description="Size of each vLLM server's key-value cache"
    )
    engine_environment: list[str] = Field(
        default_factory=list,
        description='JSON list of variables, ["NAME"], passed from an inference worker\'s environment to '
        "engines, besides those of the interpreter, accelerators and model libraries",
    )
    inference_spread_requests: int = Field(
        default=16,
        ge=0,
        description="Concurrent requests at each inference worker that has a model loaded, from which on a "
        "less busy worker loads it too; 0: never",
    )
    engine_gpus: int | None = Field(
        default=None,
        ge=1,
        description="GPUs per engine, taken from POLICYSPLIT_GPUS, those with the fewest engines first; "
        "default: one, with vLLM the fewest (1, 2, 4, …) into whose memory the model's weights and cache "
        "fit. vLLM divides the weights over as many of them as divide its attention heads, unless the "
        "engine's arguments name a --tensor-parallel-size",
    )
    engine_memory_bytes: int = Field(
        default=8 << 30, description="Memory for loaded checkpoints; beyond it they are evicted"
    )
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
                "should be file:///FOLDER, s3://BUCKET/PREFIX, or gs:// or az:// likewise, without "
                "credentials"
            )
        return value.rstrip("/")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.oidc_issuer and not (self.oidc_client_id and self.oidc_public_url and self.oidc_rules):
            raise ValueError("oidc_issuer also needs oidc_client_id, oidc_public_url and oidc_rules")
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
