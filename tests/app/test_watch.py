"""Streams that wait for news: told at once, and together no more work for the database than one."""

import asyncio

import openai
from sqlalchemy import event

from app.core.db import get_engine, write_session
from app.core.job_log import add_event
from app.jobs.watch import JobWatch, Mark
from tests.fixtures.api import Api, create_job, sums


def say(job_id: str) -> None:
    with write_session() as session:
        add_event(session, job_id, "info", "message", "news")


async def _many_wait(job_ids: list[str], streams: int) -> tuple[list[Mark | None], int]:
    """What each of many streams is told after one message a job, and the queries until then."""
    watch, queries = JobWatch(), 0

    def count(*_: object) -> None:
        nonlocal queries
        queries += 1

    first = {job_id: await watch.changed(job_id, None, 30) for job_id in job_ids}
    event.listen(get_engine(), "before_cursor_execute", count)
    waiting = [
        asyncio.create_task(watch.changed(job_ids[n % len(job_ids)], first[job_ids[n % len(job_ids)]], 60))
        for n in range(streams)
    ]
    await asyncio.sleep(1)
    assert not any(task.done() for task in waiting), "nothing is new"
    event.remove(get_engine(), "before_cursor_execute", count)
    for job_id in job_ids:
        await asyncio.to_thread(say, job_id)
    told = await asyncio.gather(*waiting)
    assert all(mark != first[job_ids[n % len(job_ids)]] for n, mark in enumerate(told))
    await watch.close()
    return told, queries


def test_a_hundred_streams_cost_what_one_does(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    job_ids = [create_job(client, api, file).id for _ in range(3)]
    told, queries = asyncio.run(_many_wait(job_ids, 100))
    assert {mark.status for mark in told if mark} == {"queued"}
    # A tick is 0.3 s, a query a tick; SQLite's transactions begin with a statement of their own.
    assert 0 < queries <= 10


def test_no_news_is_said_in_time(client: openai.OpenAI, api: Api):
    job_id = create_job(client, api, api.upload(client, sums())).id

    async def quiet() -> None:
        watch = JobWatch()
        mark = await watch.changed(job_id, None, 30)
        assert await watch.changed(job_id, mark, 0.5) == mark
        assert await watch.changed("ftjob-nobody", None, 0.5) is None
        await watch.close()

    asyncio.run(quiet())
