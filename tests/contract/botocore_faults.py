"""Faults between a botocore client and its service: answers that are lost, and answers that the service never gave."""

from collections import Counter, deque
from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ConnectionClosedError

type Answer = dict[str, Any]


def refusal(code: str, status: int = 400, **more: Any) -> Answer:
    """An error answer as botocore parses it."""
    metadata = {"HTTPStatusCode": status, "RetryAttempts": more.pop("retries", 0)}
    return {"Error": {"Code": code, "Message": "as the test has it"}, "ResponseMetadata": metadata, **more}


def canceled(*codes: str, **more: Any) -> Answer:
    """A canceled transaction with one reason for each action."""
    reasons = [{"Code": code} for code in codes]
    return refusal("TransactionCanceledException", CancellationReasons=reasons, **more)


@contextmanager
def answering(client: Any, *answers: Answer) -> Generator[list[Answer]]:
    """The next calls get these answers and never reach the service; yields the parameters of all calls."""
    left, seen = deque(answers), list[Answer]()

    def answer(params: Answer, **_: Any) -> tuple[SimpleNamespace, Answer] | None:
        seen.append(params)
        if not left:
            return None
        parsed = left.popleft()
        return SimpleNamespace(status_code=parsed["ResponseMetadata"]["HTTPStatusCode"]), parsed

    client.meta.events.register_first("before-call.dynamodb", answer)
    try:
        yield seen
    finally:
        client.meta.events.unregister("before-call.dynamodb", answer)


@contextmanager
def losing_answers(client: Any, count: int) -> Generator[list[str]]:
    """The next answers are lost on their way back, after the service did what it was asked; yields the losses."""
    lost: list[str] = []

    def drop(request: Any, **_: Any) -> None:
        if len(lost) >= count:
            return
        lost.append(request.headers["X-Amz-Target"])
        if request.url.startswith("http://127.0.0.1"):
            # Nobody has sent it yet: moto answers in an earlier handler, a real endpoint only when it is called.
            client._endpoint.http_session.send(request)
        raise ConnectionClosedError(endpoint_url=request.url)

    client.meta.events.register_last("before-send", drop)
    try:
        yield lost
    finally:
        client.meta.events.unregister("before-send", drop)


@contextmanager
def counting(client: Any) -> Generator[Counter[str]]:
    """The calls made inside, by operation."""
    calls: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        calls[model.name] += 1

    client.meta.events.register("before-call.dynamodb", count)
    try:
        yield calls
    finally:
        client.meta.events.unregister("before-call.dynamodb", count)
