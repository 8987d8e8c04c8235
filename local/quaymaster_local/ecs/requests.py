"""A RunTask request, checked as ECS checks it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from quaymaster_local.ecs.definitions import Definition
from quaymaster_local.ecs.errors import InvalidParameterException

MAX_COUNT = 10
MAX_CLIENT_TOKEN = 64
MAX_STARTED_BY = 128
AWSVPC_REQUIRED = "Network Configuration must be provided when networkMode 'awsvpc' is specified."


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What RunTask asks for. `digest` is equal for requests that differ in nothing but their client token."""

    cluster: str
    definition: str
    count: int
    client_token: str | None
    started_by: str | None
    group: str | None
    overrides: Mapping[str, Any]
    tags: tuple[Mapping[str, str], ...]
    digest: str

    @property
    def container_overrides(self) -> Sequence[Mapping[str, Any]]:
        """What the request changes of the definition's containers."""
        return self.overrides.get("containerOverrides") or ()

    def environment_over(self, environment: Mapping[str, str]) -> dict[str, str]:
        """A container's environment with the request's variables over it."""
        added = {pair["name"]: pair["value"] for one in self.container_overrides for pair in one.get("environment", ())}
        return {**environment, **added}

    def command_over(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """A container's command, or the request's instead of it."""
        commands = [tuple(one["command"]) for one in self.container_overrides if one.get("command")]
        return commands[-1] if commands else command


def read_run_request(document: Mapping[str, Any]) -> RunRequest:
    """Parse and check the body of RunTask; raises InvalidParameterException."""
    if not document.get("taskDefinition"):
        raise InvalidParameterException("TaskDefinition cannot be empty.")
    count = int(document.get("count") or 1)
    if not 1 <= count <= MAX_COUNT:
        raise InvalidParameterException(f"Count must be between 1 and {MAX_COUNT}.")
    if document.get("launchType") and document.get("capacityProviderStrategy"):
        raise InvalidParameterException(
            "Specifying both a launch type and capacity provider strategy is not supported."
        )
    network = cast(Mapping[str, Mapping[str, Any]], document.get("networkConfiguration") or {})
    if not network.get("awsvpcConfiguration", {}).get("subnets"):
        raise InvalidParameterException(AWSVPC_REQUIRED)
    return RunRequest(
        cluster=document.get("cluster") or "default",
        definition=document["taskDefinition"],
        count=count,
        client_token=_at_most(document, "clientToken", MAX_CLIENT_TOKEN),
        started_by=_at_most(document, "startedBy", MAX_STARTED_BY),
        group=document.get("group"),
        overrides=document.get("overrides") or {},
        tags=tuple(document.get("tags") or ()),
        digest=_digest(document),
    )


def check_overrides(request: RunRequest, definition: Definition) -> None:
    """Raise InvalidParameterException if the request overrides a container that the definition does not have."""
    for override in request.container_overrides:
        if override.get("name") != definition.container:
            raise InvalidParameterException(
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition."
            )


def _at_most(document: Mapping[str, Any], name: str, length: int) -> str | None:
    value = document.get(name)
    if value is not None and len(value) > length:
        raise InvalidParameterException(f"{name} must be at most {length} characters long.")
    return value


def _digest(document: Mapping[str, Any]) -> str:
    parameters = {name: value for name, value in document.items() if name != "clientToken"}
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
