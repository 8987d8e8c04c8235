"""`Ports.log` in a function: each event is one line, which is structured log and metrics (EMF) at once."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache

from aws_lambda_powertools import Logger

type Field = str | int | float | None

_UNITS = {"_ms": "Milliseconds", "_bytes": "Bytes", "_seconds": "Seconds"}
_RESERVED = frozenset({"level", "location", "message", "name", "service", "timestamp", "_aws"})
NAMESPACE = "Quaymaster"


class Telemetry:
    """Counts each event under its name, and measures its fields that carry a unit (`wait_ms`, `log_bytes`).

    CloudWatch reads metrics out of log lines, so nothing is called, and nothing is lost when a function stops.
    """

    def __init__(self, service: str, logger: Logger | None = None) -> None:
        self.logger = logger or Logger(service=service, location=None)
        self._service = service

    def __call__(self, event: str, fields: dict[str, Field]) -> None:
        """Write one event. A field that bears a reserved name gets an underscore behind it."""
        said = {f"{name}_" if name in _RESERVED else name: found for name, found in fields.items() if found is not None}
        self.logger.info(event, extra={**said, **self._measured(event, said)})

    def _measured(self, event: str, fields: dict[str, str | int | float]) -> Mapping[str, object]:
        """What makes a line metrics."""
        numbers = {
            name: float(found) for name, found in fields.items() if not isinstance(found, str) and _unit_of(name)
        }
        described = _described(event, tuple(numbers))
        metadata = {"Timestamp": round(time.time() * 1000), "CloudWatchMetrics": described}
        return {"_aws": metadata, "service": self._service, event: 1.0, **numbers}

    @contextmanager
    def invocation(self, context: object) -> Generator[None]:
        """One call of a function: its request id stands on every line, and an error that ends it on one of its own."""
        self.logger.append_keys(request_id=getattr(context, "aws_request_id", None))
        try:
            yield
        except Exception:
            self.logger.exception("invocation failed")
            raise
        finally:
            self.logger.remove_keys(["request_id"])


def _unit_of(name: str) -> str | None:
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)


@cache
def _described(event: str, names: tuple[str, ...]) -> object:
    """The description of one kind of line, as the format has it and powertools makes it.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html;
    to load powertools' own way of making it takes a thirtieth of a cold start.
    """
    metrics = [{"Name": event, "Unit": "Count"}, *({"Name": name, "Unit": _unit_of(name)} for name in names)]
    return [{"Namespace": NAMESPACE, "Dimensions": [["service"]], "Metrics": metrics}]
