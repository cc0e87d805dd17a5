"""OpenTelemetry traces, where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says where they go; nothing at all elsewhere.

One trace is one job's: the request that made it, its waits in the queue, its attempts, their steps with their
phases. Its context is kept in the job's row, in W3C's form, so that whatever process goes on with the job
goes on with the trace. A request to the trained model is a trace of its own with a link to the job's.

The packages are of the extra ``policysplit[tracing]`` and are imported only where there is an endpoint:
without one a span is a no-op that looks at one variable. Spans have ids, numbers, names of models and
statuses; never a prompt, an answer, a key, an address with a query, or a message of an error.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Literal

Value = str | int | float | bool | list[str]
Attributes = Mapping[str, Value | None]
Kind = Literal["internal", "server", "client", "consumer"]
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: The tracer of this process, once it is set up.
_tracer: Any = None


class TracingMissing(RuntimeError):
    """There is an endpoint, and the packages are not installed."""


def is_wanted() -> bool:
    """Whether traces go anywhere, by the variables that OpenTelemetry has for it."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return any(os.environ.get(name) for name in _ENDPOINTS)


def check() -> None:
    """Raise TracingMissing where traces are wanted, and cannot be made."""
    if not is_wanted():
        return
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export  # noqa: F401
    except ImportError as error:
        raise TracingMissing(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed here: install "
            "policysplit[tracing], or unset it"
        ) from error


def set_up(service: str) -> None:
    """Send this process's spans, as those of ``service``, where they are wanted. Raises TracingMissing."""
    global _tracer
    check()
    if _tracer is not None or not is_wanted():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = {"service.name": f"policysplit-{service}", "service.version": version("policysplit")}
    provider = TracerProvider(resource=Resource.create({**own, "rl.system": "policysplit"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("policysplit", version("policysplit"))


def is_on() -> bool:
    """Whether this process sends spans."""
    return _tracer is not None


class Span:
    """One that is under way; without a tracer nothing."""

    def __init__(self, span: Any = None):
        self._span = span

    def set(self, attributes: Attributes) -> None:
        """Attributes; those that are None are left out."""
        if self._span is not None:
            self._span.set_attributes(_given(attributes))

    def call(self, name: str) -> None:
        """Another name, once it is known."""
        if self._span is not None:
            self._span.update_name(name)

    def failed(self, what: str) -> None:
        """It did not come to a good end; ``what`` is a word, never a message."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", what)
            self._span.set_status(Status(StatusCode.ERROR))

    @property
    def traceparent(self) -> str | None:
        """Its context in W3C's form, for rows and headers."""
        return None if self._span is None else _traceparent(self._span.get_span_context())

    def end(self, at: float | None = None) -> None:
        """It is over, now or at a time in Unix seconds."""
        if self._span is not None:
            self._span.end(None if at is None else _nanoseconds(at))


_NOTHING = Span()


def start(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None = None,
    links: tuple[str | None, ...] = (),
    at: float | None = None,
    attributes: Attributes | None = None,
) -> Span:
    """A span that its caller ends. ``parent``: a traceparent; None: the span that is under way here."""
    if _tracer is None:
        return _NOTHING
    from opentelemetry.trace import Link, SpanKind

    found = [Link(context) for one in links if (context := _context(one)) is not None]
    span = _tracer.start_span(
        name,
        context=_within(parent),
        kind=SpanKind[kind.upper()],
        attributes=_given(attributes),
        links=found,
        start_time=None if at is None else _nanoseconds(at),
    )
    return Span(span)


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None = None,
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """A span around the block, in which others are its children."""
    if _tracer is None:
        yield _NOTHING
        return
    from opentelemetry.trace import use_span

    one = start(name, kind, parent=parent, attributes=attributes)
    with use_span(one._span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield one
        except Exception as error:
            one.failed(type(error).__name__)
            raise


def current() -> str | None:
    """The context of the span that is under way here, in W3C's form."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return _traceparent(context) if context.is_valid else None


def close() -> None:
    """Send what waits to be sent, and send no more."""
    global _tracer
    if _tracer is not None:
        _tracer.span_processor.shutdown()
        _tracer = None


def _given(attributes: Attributes | None) -> dict[str, Value]:
    return {name: value for name, value in (attributes or {}).items() if value is not None}


def _traceparent(context: Any) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _context(traceparent: str | None) -> Any:
    """The context of another span, or None where there is none in it."""
    if not traceparent:
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span(_within(traceparent)).get_span_context()
    return context if context.is_valid else None


def _within(traceparent: str | None) -> Any:
    if traceparent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
