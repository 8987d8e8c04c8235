"""Secrets of a task definition, read as the execution role would read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quaymaster_local.ecs.callers import Callers, Permission
from quaymaster_local.ecs.definitions import Definition
from quaymaster_local.settings import REGION


class SecretsUnavailable(Exception):
    """The task cannot start: its text is the task's `stoppedReason`."""


class Secrets:
    """Resolves `secrets` of containers from SSM parameters, if the execution role may read them."""

    def __init__(self, ssm: Any, callers: Callers) -> None:
        self._ssm = ssm
        self._callers = callers

    def resolve(self, definition: Definition) -> Mapping[str, str]:
        """The values by variable name; raises SecretsUnavailable."""
        if not definition.secrets:
            return {}
        names = {variable: _parameter_name(source) for variable, source in definition.secrets.items()}
        self._check_role(definition, sorted(set(names.values())))
        values: dict[str, str] = {}
        for name in sorted(set(names.values())):
            found = self._ssm.get_parameters(Names=[name], WithDecryption=True)["Parameters"]
            if not found:
                raise SecretsUnavailable(_unable(f"invalid ssm parameters: {name}"))
            values[name] = found[0]["Value"]
        return {variable: values[name] for variable, name in names.items()}

    def _check_role(self, definition: Definition, names: list[str]) -> None:
        role = definition.execution_role_arn
        if role is None:
            raise SecretsUnavailable(_unable("an execution role is needed to read secrets"))
        account = role.split(":")[4]
        arns = [f"arn:aws:ssm:{REGION}:{account}:parameter/{name.lstrip('/')}" for name in names]
        permission = Permission(action="ssm:GetParameters", resources=arns, context={})
        for arn in self._callers.denied(role, permission):
            raise SecretsUnavailable(
                _unable(f"AccessDeniedException: {role} is not authorized to perform: ssm:GetParameters on {arn}")
            )


def _parameter_name(source: str) -> str:
    if not source.startswith("arn:"):
        return source
    resource = source.split(":", 5)[5].removeprefix("parameter")
    # The ARN of `/a/b` ends in `parameter/a/b`; that of `a` in `parameter/a`.
    return resource if resource.count("/") > 1 else resource.lstrip("/")


def _unable(cause: str) -> str:
    return f"ResourceInitializationError: unable to pull secrets or registry auth: {cause}"
