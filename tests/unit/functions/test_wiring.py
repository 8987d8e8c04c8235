"""The wiring: complete, lazy, and quiet about secrets."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider
from botocore.exceptions import ClientError, ConnectTimeoutError
from quaymaster import wiring
from quaymaster.adapters.aws.clients import Clients
from quaymaster.adapters.aws.telemetry import Telemetry
from quaymaster.dispatcher.lifetime import WORST_CALL, usable
from quaymaster.domain.pool import PoolSettings
from quaymaster.errors import Refused, Unavailable

from tests.shared.memory.records import POOL
from tests.unit.functions.test_settings import COMPLETE

COMMON = "https://data-ats.iot.eu-west-1.amazonaws.com"
CACHED = (wiring.settings, wiring.ports, wiring.clients, wiring.telemetry)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A function's environment, and nothing remembered of another."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name, value in {**COMPLETE, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    for cached in CACHED:
        cached.cache_clear()
    yield
    for cached in CACHED:
        cached.cache_clear()


def test_the_ports_are_made_once_and_with_no_client_but_the_tables() -> None:
    ports = wiring.ports()
    assert wiring.ports() is ports
    assert {name for name in vars(wiring.clients()) if not name.startswith("_")} == {"dynamodb"}


def test_a_grant_needs_no_client_of_the_bucket() -> None:
    grants = wiring.ports().blobs.grants(POOL, "run", 1, PoolSettings())
    assert grants.chunks.url == "https://fleet-123456789012-eu-west-1.s3.eu-west-1.amazonaws.com"
    assert "s3" not in vars(wiring.clients())


def test_the_ecs_endpoint_is_the_one_service_that_may_be_elsewhere() -> None:
    clients: Any = Clients("eu-west-1", "http://127.0.0.1:4566", "http://127.0.0.1:4577")
    assert clients.ecs.meta.endpoint_url == "http://127.0.0.1:4577"
    for service in ("dynamodb", "iot", "iot_data", "s3", "sqs", "ssm"):
        assert getattr(clients, service).meta.endpoint_url == "http://127.0.0.1:4566"
    assert Clients("eu-west-1").ecs.meta.endpoint_url == "https://ecs.eu-west-1.amazonaws.com"


class Account:
    """IoT's answers to who asks for the account's endpoint; `answer` is raised if it is an error."""

    def __init__(self, answer: Exception | str) -> None:
        self.answer = answer
        self.asked = 0

    def __call__(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        """As botocore calls what answers instead of the service."""
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return SimpleNamespace(status_code=200), {"endpointAddress": self.answer}


@pytest.mark.parametrize(
    ("answer", "endpoint"),
    [
        ("a1b2-ats.iot.eu-west-1.amazonaws.com", "https://a1b2-ats.iot.eu-west-1.amazonaws.com"),
        (ConnectTimeoutError(endpoint_url="iot"), COMMON),
        (ClientError({"Error": {"Code": "ThrottlingException"}}, "DescribeEndpoint"), COMMON),
    ],
)
def test_messages_go_to_the_accounts_own_endpoint(answer: Exception | str, endpoint: str) -> None:
    clients: Any = Clients("eu-west-1")
    account = Account(answer)
    clients._session.register("before-call.iot.DescribeEndpoint", account)
    assert clients.iot_data.meta.endpoint_url == endpoint
    assert clients.iot_data.meta.endpoint_url == endpoint
    assert account.asked == 1


def test_a_message_and_the_question_where_it_goes_take_no_longer_than_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    clients: Any = Clients("eu-west-1")
    make = clients._client

    def remember(*given: Any) -> Any:
        made.append(make(*given))
        return made[-1]

    monkeypatch.setattr(clients, "_client", remember)
    clients._session.register("before-call.iot.DescribeEndpoint", Account("a1b2-ats.iot.eu-west-1.amazonaws.com"))
    assert clients.iot_data
    assert [client.meta.service_model.service_name for client in made] == ["iot", "iot-data"]
    assert sum(longest(client) for client in made) <= WORST_CALL.total_seconds()


@pytest.mark.parametrize("service", ["dynamodb", "ecs", "iot", "iot_data", "s3", "sqs", "ssm"])
def test_no_call_takes_longer_than_functions_reckon_with(service: str) -> None:
    clients: Any = Clients("eu-west-1")
    clients._session.register("before-call.iot.DescribeEndpoint", Account("a1b2-ats.iot.eu-west-1.amazonaws.com"))
    assert longest(getattr(clients, service)) <= WORST_CALL.total_seconds()


def longest(client: Any) -> float:
    """Seconds after which a client has given a call up."""
    config = client.meta.config
    tries = config.retries["total_max_attempts"]
    # Standard mode waits at most 1 s before the second try and 2 s before the third.
    waits = sum(2**number for number in range(tries - 1))
    return tries * (config.connect_timeout + config.read_timeout) + waits


def test_every_function_has_time_for_more_than_a_call_that_hangs() -> None:
    template = (Path(__file__).parents[3] / "template.yaml").read_text()
    shortest = min(int(found) for found in re.findall(r"^ +Timeout: (\d+)", template, re.MULTILINE))
    assert usable(timedelta(seconds=shortest)) > WORST_CALL


def test_an_incomplete_environment_stops_a_function_as_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUAYMASTER_TABLE")
    with pytest.raises(Refused, match="QUAYMASTER_TABLE"):
        wiring.ports()


def test_credentials_say_how_long_they_last_where_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = wiring.clients()
    assert clients.credentials_left() is None
    ends = datetime.now(UTC) + timedelta(minutes=5)
    monkeypatch.setattr(clients.credentials(), "_expiry_time", ends, raising=False)
    left = clients.credentials_left()
    assert left
    assert timedelta(minutes=4) < left <= timedelta(minutes=5)


def test_a_process_without_credentials_presigns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = wiring.clients()
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    with pytest.raises(Unavailable, match="credentials"):
        clients.credentials()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_event_is_one_line_and_counts_itself_and_measures_what_carries_a_unit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Telemetry("fleet-one")("assigned", {"run": "R", "wait_ms": 12, "name": "team-a", "note": None})
    [line] = lines(capsys)
    assert (line["message"], line["run"], line["name_"]) == ("assigned", "R", "team-a")
    assert (line["assigned"], line["wait_ms"], line["service"]) == (1, 12, "fleet-one")
    assert "note" not in line
    [directive] = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Quaymaster"
    assert directive["Dimensions"] == [["service"]]
    assert directive["Metrics"] == [
        {"Name": "assigned", "Unit": "Count"},
        {"Name": "wait_ms", "Unit": "Milliseconds"},
    ]


def test_a_line_describes_its_metrics_as_powertools_would(capsys: pytest.CaptureFixture[str]) -> None:
    Telemetry("fleet-three")("assigned", {"wait_ms": 12, "log_bytes": 3, "took_seconds": 1.5})
    [line] = lines(capsys)
    theirs: Any = AmazonCloudWatchEMFProvider(
        namespace="Quaymaster", service="fleet-three", metric_set={}, dimension_set={}
    )
    theirs.add_metric("assigned", MetricUnit.Count, 1)
    theirs.add_metric("wait_ms", MetricUnit.Milliseconds, 12)
    theirs.add_metric("log_bytes", MetricUnit.Bytes, 3)
    theirs.add_metric("took_seconds", MetricUnit.Seconds, 1.5)
    found = theirs.serialize_metric_set()
    assert line["_aws"]["CloudWatchMetrics"] == found["_aws"]["CloudWatchMetrics"]
    for name in ("assigned", "wait_ms", "log_bytes", "took_seconds"):
        assert [line[name]] == found[name]


def test_each_line_of_an_invocation_names_its_request_and_a_failure_is_logged_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    telemetry = Telemetry("fleet-two")
    context = type("Context", (), {"aws_request_id": "request-1"})()

    def fail() -> None:
        with telemetry.invocation(context):
            telemetry("assigned", {})
            raise ZeroDivisionError("for this test")

    with pytest.raises(ZeroDivisionError):
        fail()
    telemetry("swept", {})
    first, failure, after = lines(capsys)
    assert (first["request_id"], failure["request_id"]) == ("request-1", "request-1")
    assert (failure["level"], failure["exception_name"]) == ("ERROR", "ZeroDivisionError")
    assert "request_id" not in after


def test_a_logged_handler_answers_as_it_would_alone() -> None:
    @wiring.logged
    def handler(event: dict[str, int], context: object) -> int:
        return event["n"] + 1

    assert handler({"n": 1}, None) == 2
    assert handler.__name__ == "handler"


def test_the_wiring_imports_nothing_that_a_cold_start_pays_for_in_vain() -> None:
    """A tracer makes a client as it is imported; boto3 brings its transfer manager."""
    script = (
        "import sys, quaymaster.wiring; print([n for n in ('aws_xray_sdk', 'boto3', 's3transfer') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
