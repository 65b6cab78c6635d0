"""The contract's shapes, as in wit/events.wit, by short names."""

from contextlib import contextmanager
from dataclasses import dataclass

try:
    from wit_world.imports import spans
except ImportError:
    # Natively, in a test, there is no host.
    spans = None


@dataclass
class Output:
    """A message to publish once the handler has returned: to an output that the configuration grants."""

    to: str
    body: bytes
    content_type: str | None = None
    subject: str | None = None
    key: bytes | None = None
    id: str | None = None


@dataclass
class Failure(Exception):
    """What a handler raises to say what becomes of the message."""

    kind: str
    code: str
    detail: str | None = None
    after_ms: int | None = None


@contextmanager
def span(name, /, **attributes):
    """A span of the message's trace around what is done within, which ends as failed when something is raised."""
    if spans is None:
        yield
        return
    started = spans.start(name, [(name, str(value)) for name, value in attributes.items()])
    failure = None
    try:
        yield
    except Exception as error:
        failure = str(error)
        raise
    finally:
        spans.end(started, failure)


def output(to, text):
    return Output(to, text.encode(), "text/plain; charset=utf-8")


def retry(code, detail=None, after_ms=None):
    """Run the message again later; it counts as an attempt."""
    return Failure("retry", code, detail, after_ms)


def reject(code, detail=None):
    """To the dead-letter queue, and no more attempts."""
    return Failure("reject", code, detail)


def skip(code, detail=None):
    """Acknowledged, and counted as skipped."""
    return Failure("skip", code, detail)


def defer(code, after_ms, detail=None):
    """Back after the delay, at no attempt."""
    return Failure("defer", code, detail, after_ms)
