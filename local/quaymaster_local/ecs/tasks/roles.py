"""Credentials of a task's role, as ECS serves them to the task's containers."""

from __future__ import annotations

from typing import Any

LIFE_SECONDS = 3600


class TaskRoles:
    """Assumes roles in the name of ECS. `sts` is a client of the local cloud's root."""

    def __init__(self, sts: Any) -> None:
        self._sts = sts

    def credentials(self, role_arn: str, task_id: str) -> dict[str, str]:
        """Fresh credentials, in the form that the container credential providers of AWS's SDKs read.

        The session is named after the task, as it is on ECS.
        """
        key = self._sts.assume_role(RoleArn=role_arn, RoleSessionName=task_id, DurationSeconds=LIFE_SECONDS)
        found = key["Credentials"]
        return {
            "RoleArn": role_arn,
            "AccessKeyId": found["AccessKeyId"],
            "SecretAccessKey": found["SecretAccessKey"],
            "Token": found["SessionToken"],
            "Expiration": found["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
