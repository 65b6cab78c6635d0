"""What the module exports: hands the message's body to the handler as JSON, and settles by what it does."""

import json
import traceback

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import log, types

import invoice
from tidegate import Failure, reject, retry


class Handler(exports.Handler):
    def handle(self, msg):
        try:
            return [outgoing(output) for output in invoice.handle(parsed(msg.body), info)]
        except Failure as failure:
            raise Err(settled(failure)) from None
        except Exception:
            # An error that nobody classified is a retry.
            raise Err(settled(retry("error", traceback.format_exc()))) from None


def parsed(body):
    """The body as JSON. What does not parse is rejected: parsing it again can't help."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise reject("invalid-payload", str(error)) from None


def info(text, **fields):
    log.write(log.Level.INFO, text, [(name, str(value)) for name, value in fields.items()])


def outgoing(output):
    return types.Outgoing(
        to=output.to,
        subject=output.subject,
        key=output.key,
        content_type=output.content_type,
        headers=[],
        body=output.body,
        id=output.id,
    )


def settled(failure):
    reason = types.Reason(failure.code, failure.detail)
    match failure.kind:
        case "reject":
            return types.Failure_Reject(reason)
        case "skip":
            return types.Failure_Skip(reason)
        case "defer":
            return types.Failure_Defer(types.Defer(failure.after_ms, reason))
        case _:
            return types.Failure_Retry(types.Retry(failure.after_ms, reason))
