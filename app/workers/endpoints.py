"""``/v1/workers`` and ``/v1/queue``."""

from fastapi import APIRouter, Response

from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page
from app.core.parameters import WorkerId
from app.core.requests import StrictRoute
from app.core.scopes import ADMIN, READ
from app.keys.asking import Asking, Operator
from app.workers import service
from app.workers.schemas import Queue, WorkerObject

router = APIRouter(prefix="/v1", tags=["workers"], route_class=StrictRoute)


@router.get("/workers", **answers(ListOf[WorkerObject]), **READ)
def list_workers(caller: Asking, after: After = None, limit: Limit = 20) -> Response:
    """List the workers, newest first.

    Those that run jobs and those that serve models; one that vanished is listed as lost for some minutes.
    """
    return page(service.list_workers(caller, after=after, limit=limit), limit)


@router.get("/workers/{worker_id}", **answers(WorkerObject), **READ)
def get_worker(worker_id: WorkerId, caller: Asking) -> dict[str, object]:
    """Get one worker."""
    return service.get_worker(caller, worker_id)


@router.post("/workers/{worker_id}/drain", **answers(WorkerObject), **ADMIN)
def drain_worker(worker_id: WorkerId, caller: Operator) -> dict[str, object]:
    """Drain a worker so that it takes no more jobs, as the operator.

    Its running jobs continue; once it has none it can be stopped without delaying any. It notices at its
    next heartbeat, within seconds; after a restart it takes jobs again.
    """
    return service.set_draining(caller, worker_id, True)


@router.post("/workers/{worker_id}/undrain", **answers(WorkerObject), **ADMIN)
def undrain_worker(worker_id: WorkerId, caller: Operator) -> dict[str, object]:
    """Undrain a worker so that it takes jobs again, as the operator."""
    return service.set_draining(caller, worker_id, False)


@router.get("/queue", **answers(Queue), **READ)
def get_queue(caller: Asking) -> dict[str, object]:
    """Get the queue: what waits for workers, and why.

    Numbers cover all projects; projects and jobs listed are the caller's own, or all for the operator.
    """
    return service.queue(caller)
