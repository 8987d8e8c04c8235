"""Judging one request by its service's model, and by the documents of that service."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.strict import dynamodb, ecs, messaging, others
from tests.strict.finding import Finding, Findings
from tests.strict.model import check_shape

type Check = Callable[[str, dict[str, Any], Findings], None]

CHECKS: Mapping[str, Check] = {
    "dynamodb": dynamodb.check,
    "sqs": messaging.check_sqs,
    "iot-data": messaging.check_iot_data,
    "iot": messaging.check_iot,
    "ecs": ecs.check,
    "s3": others.check_s3,
    "ssm": others.check_ssm,
    "lambda": others.check_lambda,
}


def judge(service_model: Any, operation: str, request: dict[str, Any]) -> list[Finding]:
    """Everything that AWS would refuse this request for."""
    findings = Findings()
    shape = service_model.operation_model(operation).input_shape
    if shape is not None:
        check_shape(request, shape, operation, findings)
    check = CHECKS.get(service_model.service_name)
    # What lacks a required member, or has another type, is refused for that alone.
    if check and not any(found.rule in ("required", "member") for found in findings.found):
        check(operation, request, findings)
    return findings.found
