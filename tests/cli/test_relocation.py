"""A data directory that was moved or copied names its own files."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from app.cli.relocation import DATABASE, LOCATION, relocate
from app.core.db import read_session, write_session
from app.core.ids import new_estimate_id
from app.core.migrate import upgrade_to_head
from app.core.tables import DEFAULT_PROJECT, Checkpoint, Estimate, Job
from tests.fixtures.api import forget
from tests.fixtures.workers import Service


@pytest.mark.parametrize("said", [True, False])
def test_a_copy_names_its_own_files(
    bare_service: Callable[[str, str], Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    folder = (tmp_path / "data").resolve()
    folder.mkdir()
    upgrade_to_head(f"sqlite:///{folder / DATABASE}")
    service = bare_service(f"sqlite:///{folder / DATABASE}", f"redis+socket://{tmp_path / 'no-redis.sock'}")
    assert service.settings.data_dir.resolve() == folder
    job_id = service.add_job(steps=1)
    assert relocate(folder) is None
    with write_session() as session:
        job = session.get_one(Job, job_id)
        spec = {"model": {"path": f"{folder}/models/tiny"}, "note": "/elsewhere/models/tiny"}
        job.run_spec = spec
        session.add(
            Estimate(
                id=new_estimate_id(),
                project_id=DEFAULT_PROJECT,
                created_at=time.time(),
                status="queued",
                model="tiny",
                run_spec=spec,
                attempt=0,
            )
        )
        session.add(
            Checkpoint(
                id="ftckpt-1",
                job_id=job_id,
                project_id=DEFAULT_PROJECT,
                created_at=1.0,
                step=1,
                model="ft:tiny:x",
                path=f"{folder}/runs/{job_id}/checkpoints/step-1",
                high_entropy_prompt="",
                high_entropy_placement="system",
                chat_template_kwargs={},
                manifest_sha256="",
                metrics={},
            )
        )
    forget()
    copy = shutil.copytree(folder, tmp_path / "a copy's")
    if not said:
        # One that an older version served.
        (copy / LOCATION).unlink()
    assert relocate(copy) == folder
    assert relocate(copy) is None
    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(copy))
    monkeypatch.setenv("POLICYSPLIT_DATABASE_URL", f"sqlite:///{copy / DATABASE}")
    forget()
    with read_session() as session:
        assert session.scalars(select(Checkpoint.path)).one() == f"{copy}/runs/{job_id}/checkpoints/step-1"
        moved = {"model": {"path": f"{copy}/models/tiny"}, "note": "/elsewhere/models/tiny"}
        assert session.get_one(Job, job_id).run_spec == moved
        assert session.scalars(select(Estimate.run_spec)).one() == moved
