"""Permissions of checkpoints, and the deletion of models, through the real SDK."""

import shutil
from pathlib import Path
from typing import Any

import openai
import pytest

from app.checkpoints.repository import upsert_checkpoint
from app.core.db import read_session, write_session
from app.core.job_status import JobStatus
from app.core.tables import DEFAULT_PROJECT, CheckpointPermission, Job
from app.jobs.status import change_status
from tests.fixtures.api import Api, Keyed, create_job, on_sqlite, sums
from tests.fixtures.workers import eventually


class Finished:
    """A succeeded job of the owner's with checkpoints at steps 5 and 10, weights and all."""

    def __init__(self, client: openai.OpenAI, api: Api):
        self.job_id = create_job(client, api, api.upload(client, sums()), suffix="s").id
        self.result = f"ft:tiny:policysplit:s:{self.job_id.removeprefix('ftjob-')[:10]}"
        self.earlier = f"{self.result}:ckpt-step-5"
        self._runs = api.folder / "runs" / self.job_id
        with write_session() as session:
            job = session.get_one(Job, self.job_id)
            change_status(session, job, JobStatus.RUNNING, message="runs")
            for step in (5, 10):
                self.folder(step).mkdir(parents=True)
                (self.folder(step) / "config.json").write_text("{}")
                upsert_checkpoint(
                    session,
                    job,
                    step=step,
                    path=str(self.folder(step)),
                    high_entropy_prompt="wander",
                    manifest_sha256="0" * 64,
                    metrics={},
                )
            job.fine_tuned_model = self.result
            change_status(session, job, JobStatus.SUCCEEDED, message="done")

    def folder(self, step: int) -> Path:
        return self._runs / "checkpoints" / f"step-{step}"


@pytest.fixture
def finished(keyed: Keyed) -> Finished:
    return Finished(keyed.owner, keyed.api)


def asks(client: openai.OpenAI, model: str) -> bool:
    """Whether the gateway knows the model for this client (there is no engine to answer)."""
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    except openai.NotFoundError:
        return False
    except openai.InternalServerError as error:
        assert error.status_code == 503
    return True


def test_a_shared_checkpoint_can_be_used_and_only_that(keyed: Keyed, finished: Finished):
    permissions = keyed.owner.fine_tuning.checkpoints.permissions
    stranger = keyed.stranger
    (given,) = permissions.create(finished.earlier, project_ids=[keyed.stranger_project]).data
    assert (given.object, given.project_id) == ("checkpoint.permission", keyed.stranger_project)
    (again,) = permissions.create(finished.earlier, project_ids=[keyed.stranger_project]).data
    assert again == given

    shared = [finished.earlier, f"{finished.earlier}:high-entropy"]
    assert {model.id for model in stranger.models.list() if model.id != "tiny"} == set(shared)
    assert all(asks(stranger, model) for model in shared)
    assert stranger.models.retrieve(finished.earlier).id == finished.earlier
    assert not asks(stranger, finished.result), "an earlier checkpoint does not pass for the result"
    with pytest.raises(openai.NotFoundError):
        stranger.fine_tuning.jobs.retrieve(finished.job_id)
    child = create_job(stranger, keyed.api, keyed.api.upload(stranger, sums()), model=finished.earlier)
    assert child.status == "queued"
    # To use is not to own.
    for refused in (
        lambda: stranger.fine_tuning.checkpoints.permissions.create(
            finished.earlier, project_ids=[keyed.stranger_project]
        ),
        lambda: list(stranger.fine_tuning.checkpoints.permissions.list(finished.earlier)),
        lambda: stranger.fine_tuning.checkpoints.permissions.delete(
            given.id, fine_tuned_model_checkpoint=finished.earlier
        ),
    ):
        with pytest.raises(openai.NotFoundError):
            refused()
    with pytest.raises(openai.PermissionDeniedError, match="belongs to another project"):
        stranger.models.delete(finished.earlier)
    with pytest.raises(openai.ConflictError, match="starts from this model"):
        keyed.owner.models.delete(finished.earlier)

    deleted = permissions.delete(given.id, fine_tuned_model_checkpoint=finished.earlier)
    assert deleted.deleted and deleted.id == given.id
    # The gateway looks a model up anew every two seconds.
    eventually(lambda: not asks(stranger, finished.earlier), 10)
    with pytest.raises(openai.NotFoundError, match=given.id):
        permissions.delete(given.id, fine_tuned_model_checkpoint=finished.earlier)


@on_sqlite
def test_permissions_are_listed_in_both_orders(keyed: Keyed, finished: Finished):
    from app.keys.service import create_project

    permissions = keyed.owner.fine_tuning.checkpoints.permissions
    others = [create_project(f"p{n}").id for n in range(3)]
    for other in others:
        permissions.create(finished.result, project_ids=[other])
    listed = [one.project_id for one in permissions.list(finished.result, limit=2)]
    assert listed == others[::-1]
    assert [one.project_id for one in permissions.list(finished.result, order="ascending")] == others
    (one,) = permissions.list(f"{finished.result}:high-entropy", project_id=others[1]).data
    assert one.project_id == others[1], "a permission is for the weights, and so for both modes"
    with pytest.raises(openai.BadRequestError, match="'after'"):
        permissions.list(finished.earlier, after=one.id)


@on_sqlite
def test_what_cannot_be_shared_is_said(keyed: Keyed, finished: Finished):
    permissions = keyed.owner.fine_tuning.checkpoints.permissions
    with pytest.raises(openai.BadRequestError, match=r"'project_ids\.1'.*\"proj_no\" does not exist"):
        permissions.create(finished.result, project_ids=[keyed.stranger_project, "proj_no"])
    assert permissions.list(finished.result).data == [], "all or none"
    with pytest.raises(openai.BadRequestError, match="belongs to"):
        permissions.create(finished.result, project_ids=[DEFAULT_PROJECT])
    for model in ("tiny", "ft:tiny:policysplit:s:0123456789", "ft:broken"):
        with pytest.raises(openai.NotFoundError, match="No such fine-tuned model checkpoint"):
            permissions.create(model, project_ids=[keyed.stranger_project])


def test_a_deleted_model_is_gone_with_its_weights(keyed: Keyed, finished: Finished):
    client = keyed.owner
    client.fine_tuning.checkpoints.permissions.create(finished.result, project_ids=[keyed.stranger_project])
    with pytest.raises(openai.BadRequestError, match="both modes are one set of weights"):
        client.models.delete(f"{finished.result}:high-entropy")
    deleted = client.models.delete(finished.result)
    assert (deleted.id, deleted.object, deleted.deleted) == (finished.result, "model", True)
    assert not finished.folder(10).exists()
    assert finished.folder(5).exists()
    names = {model.id for model in client.models.list()}
    assert names == {"tiny", finished.earlier, f"{finished.earlier}:high-entropy"}
    assert not asks(client, finished.result), "and it does not become the checkpoint before"
    assert not asks(keyed.stranger, finished.result)
    assert client.fine_tuning.jobs.retrieve(finished.job_id).fine_tuned_model is None
    with read_session() as session:
        assert session.query(CheckpointPermission).all() == []
    for name in (finished.result, "ft:broken", "nothing"):
        with pytest.raises(openai.NotFoundError):
            client.models.delete(name)
    with pytest.raises(openai.PermissionDeniedError, match="base model"):
        client.models.delete("tiny")
    assert client.models.delete(finished.earlier).deleted


@on_sqlite
def test_the_checkpoint_of_a_job_that_may_go_on_stays(keyed: Keyed, finished: Finished):
    with write_session() as session:
        session.get_one(Job, finished.job_id).status = "paused"
    with pytest.raises(openai.ConflictError, match="is paused and may be resumed"):
        keyed.owner.models.delete(finished.earlier)
    assert finished.folder(5).exists()


def test_weights_that_were_removed_from_the_disk_are_said_to_be_gone(keyed: Keyed, finished: Finished):
    """Whoever removed them: the row of a checkpoint may outlive its folder."""
    shutil.rmtree(finished.folder(5))
    owner, name = keyed.owner, finished.earlier
    said = f"step 5 of the job {finished.job_id} has been removed"
    hello: Any = [{"role": "user", "content": "hi"}]
    for mode in ("", ":high-entropy"):
        for ask in (
            lambda model: owner.chat.completions.create(model=model, messages=hello),
            lambda model: owner.chat.completions.create(model=model, messages=hello, stream=True),
            lambda model: owner.completions.create(model=model, prompt="hi"),
            lambda model: owner.models.retrieve(model),
        ):
            with pytest.raises(openai.NotFoundError, match=said) as caught:
                ask(name + mode)
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    file = owner.fine_tuning.jobs.retrieve(finished.job_id).training_file
    with pytest.raises(openai.BadRequestError, match=said) as refused:
        create_job(owner, keyed.api, file, model=name)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    # The job's result is another checkpoint, and what is gone can still be deleted.
    assert asks(owner, finished.result)
    assert owner.models.delete(name).deleted
