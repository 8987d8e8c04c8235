"""The functions' settings: read once, complete or refused with every complaint."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from quaymaster.errors import Refused
from quaymaster.settings import Settings, read_settings

ROOT = Path(__file__).parents[3]
COMPLETE = {
    "QUAYMASTER_NAMESPACE": "fleet",
    "QUAYMASTER_TABLE": "fleet",
    "QUAYMASTER_BUCKET": "fleet-123456789012-eu-west-1",
    "QUAYMASTER_INTERNAL_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/fleet-internal",
    "QUAYMASTER_DEAD_LETTER_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/fleet-dead-letters",
    "QUAYMASTER_SSM_PREFIX": "/quaymaster/fleet",
    "QUAYMASTER_ECS_CLUSTER": "fleet",
    "QUAYMASTER_ECS_ENDPOINT": "",
    "QUAYMASTER_SUBNETS": "subnet-1, subnet-2",
    "QUAYMASTER_SECURITY_GROUPS": "",
    "QUAYMASTER_ASSIGN_PUBLIC_IP": "DISABLED",
    "QUAYMASTER_WORKER_TASK_DEFINITION": "arn:aws:ecs:eu-west-1:123456789012:task-definition/fleet-worker:3",
    "AWS_REGION": "eu-west-1",
}


def test_a_complete_environment_is_read_into_types() -> None:
    settings = read_settings(COMPLETE)
    assert settings.namespace == "fleet"
    assert settings.subnets == ("subnet-1", "subnet-2")
    assert settings.security_groups == ()
    assert settings.assign_public_ip == "DISABLED"


@pytest.mark.parametrize("name", ["QUAYMASTER_ECS_ENDPOINT", "AWS_ENDPOINT_URL"])
def test_what_is_empty_on_aws_is_none(name: str) -> None:
    field = next(field for field, info in model_fields().items() if info.alias == name)
    assert getattr(read_settings({**COMPLETE, name: ""}), field) is None
    assert getattr(read_settings({**COMPLETE, name: "http://127.0.0.1:4566"}), field) == "http://127.0.0.1:4566"


def test_everything_that_is_missing_is_named_at_once() -> None:
    environ = {name: value for name, value in COMPLETE.items() if name not in ("QUAYMASTER_TABLE", "QUAYMASTER_BUCKET")}
    with pytest.raises(Refused) as refused:
        read_settings(environ)
    assert "no QUAYMASTER_TABLE" in str(refused.value)
    assert "no QUAYMASTER_BUCKET" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUAYMASTER_NAMESPACE", "Fleet"),
        ("QUAYMASTER_NAMESPACE", "9fleet"),
        ("QUAYMASTER_TABLE", ""),
        ("QUAYMASTER_INTERNAL_QUEUE_URL", "fleet-internal"),
        ("QUAYMASTER_SSM_PREFIX", "quaymaster"),
        ("QUAYMASTER_ASSIGN_PUBLIC_IP", "yes"),
    ],
)
def test_a_wrong_value_is_refused_and_its_variable_named(name: str, value: str) -> None:
    with pytest.raises(Refused, match=name):
        read_settings({**COMPLETE, name: value})


def test_the_template_sets_every_variable_that_has_no_default_and_none_that_nobody_reads() -> None:
    template = (ROOT / "template.yaml").read_text()
    set_there = set(re.findall(r"^\s+(QUAYMASTER_\w+):", template, re.MULTILINE))
    aliases = {str(info.alias) for info in model_fields().values()}
    assert set_there == {alias for alias in aliases if alias.startswith("QUAYMASTER_")}


def test_settings_do_not_change() -> None:
    settings: Any = read_settings(COMPLETE)
    with pytest.raises(ValueError, match="frozen"):
        settings.table = "other"


def model_fields() -> dict[str, Any]:
    model: type[BaseModel] = Settings
    return dict(model.model_fields)
