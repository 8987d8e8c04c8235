"""The agent's own log: one JSON object a line on standard error. Grants, tokens and keys never come near it."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from quaymaster_worker.protocol.worker import Worker

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """`{"ts", "level", "msg", …}` with whatever `extra` brings (`worker`, `run`, `error`, …)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        stamp = _stamp(datetime.fromtimestamp(record.created, UTC))
        line: dict[str, object] = {"ts": stamp, "level": record.levelname.lower(), "msg": record.getMessage()}
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def about(worker: Worker) -> dict[str, object]:
    """What a line about a worker brings as `extra`: who it is, and which attempt it holds."""
    holding = worker.holding
    return {
        "worker": worker.identity.worker_id,
        "run": holding.run if holding else None,
        "attempt": holding.attempt if holding else None,
    }


def echo_of(run: str, attempt: int, stack: str | None) -> Callable[[datetime, str, str, str], None]:
    """Writes a run's log to standard output as well: one JSON object a line, like those of the agent's own log."""

    def echo(at: datetime, phase: str, stream: str, text: str) -> None:
        line: dict[str, object] = {
            "ts": _stamp(at),
            "level": "info",
            "msg": text.removesuffix("\n"),
            "run_ulid": run,
            "stack_id": stack,
            "attempt": attempt,
            "phase": phase,
            "stream": stream,
        }
        if not text.endswith("\n"):
            line["partial"] = True
        print(json.dumps(line), flush=True)

    return echo


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def set_up_logging(*, debug: bool) -> None:
    """Send everything to standard error; other libraries only from warnings on, because httpx would log grants."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("quaymaster").setLevel(logging.DEBUG if debug else logging.INFO)
