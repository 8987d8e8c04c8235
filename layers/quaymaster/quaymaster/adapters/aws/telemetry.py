"""`Ports.log` in a function: each event is one line, which is structured log and metrics (EMF) at once."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import cast

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

type Field = str | int | float | None

_UNITS = {"_ms": MetricUnit.Milliseconds, "_bytes": MetricUnit.Bytes, "_seconds": MetricUnit.Seconds}
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
        metrics = AmazonCloudWatchEMFProvider(
            namespace=NAMESPACE, service=self._service, metric_set={}, dimension_set={}
        )
        metrics.add_metric(event, MetricUnit.Count, 1)
        for name, found in fields.items():
            unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)
            if unit and not isinstance(found, str):
                metrics.add_metric(name, unit, found)
        found = cast("Mapping[str, object]", metrics.serialize_metric_set())  # pyright: ignore[reportUnknownMemberType]
        # Each metric comes as a list of one value; alone it reads better and counts the same.
        return {
            name: cast("list[object]", value)[0] if isinstance(value, list) else value for name, value in found.items()
        }

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
