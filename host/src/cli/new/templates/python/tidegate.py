"""The contract's shapes, as in wit/events.wit, by short names."""

from dataclasses import dataclass


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
