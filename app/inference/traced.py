"""A span around each answer that is sampled, by the names of the conventions for generative models."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from app.core import tracing
from app.core.errors import ApiError
from app.inference.gateway import Gateway
from app.inference.service import Plan, Sample
from app.inference.upstream import Event, Finish, sample


def traced(gateway: Gateway, plan: Plan, one: Sample) -> AsyncGenerator[Event]:
    """The events of one answer of the plan. Raises an ApiError."""
    if not tracing.is_on():
        return sample(gateway, plan.workers, plan.needs, one.request)
    return _traced(gateway, plan, one)


async def _traced(gateway: Gateway, plan: Plan, one: Sample) -> AsyncGenerator[Event]:
    request = one.request
    operation = "text_completion" if request.messages is None else "chat"
    span = tracing.start(
        f"{operation} {plan.model}",
        "client",
        # The job's trace has ended, most likely: this one stands beside it.
        links=(plan.trace,),
        attributes={
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "policysplit",
            "gen_ai.request.model": plan.model,
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.request.temperature": request.temperature,
            "gen_ai.request.top_p": request.top_p,
            "gen_ai.request.seed": request.seed,
            "gen_ai.response.model": plan.checkpoint,
            "policysplit.mode": one.mode.value,
        },
    )
    try:
        async with aclosing(sample(gateway, plan.workers, plan.needs, request, span.traceparent)) as events:
            async for event in events:
                if isinstance(event, Finish):
                    span.set(
                        {
                            "gen_ai.usage.input_tokens": event.prompt_tokens,
                            "gen_ai.usage.output_tokens": event.completion_tokens,
                            "gen_ai.response.finish_reasons": [event.reason],
                        }
                    )
                yield event
    except ApiError as error:
        span.failed(error.code or type(error).__name__)
        raise
    finally:
        span.end()
