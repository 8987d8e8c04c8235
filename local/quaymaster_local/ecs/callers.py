"""Who calls the ECS endpoint, and what IAM lets them do: both are asked of ministack, nothing is decided here."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quaymaster_local.ecs.errors import AccessDeniedException, Unauthenticated


@dataclass(frozen=True, kw_only=True)
class SignedCall:
    """A request as it arrived, byte for byte: its signature covers the host it was sent to."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The principal that signed a call."""

    arn: str

    @property
    def is_root(self) -> bool:
        """Root may do everything."""
        return self.arn.endswith(":root")

    @property
    def policy_source(self) -> str:
        """The IAM entity whose policies apply: for a session, its role."""
        if ":assumed-role/" not in self.arn:
            return self.arn
        account, role = self.arn.split(":")[4], self.arn.split("/")[1]
        return f"arn:aws:iam::{account}:role/{role}"


@dataclass(frozen=True, kw_only=True)
class Permission:
    """One action on some resources, with the condition keys of the request."""

    action: str
    resources: Sequence[str]
    context: Mapping[str, str]


class Callers:
    """Identifies callers and checks their permissions."""

    def __init__(self, endpoint_url: str, secret: str, iam: Any) -> None:
        self._endpoint_url = endpoint_url
        self._secret = secret
        self._iam = iam

    def identify(self, call: SignedCall) -> Caller:
        """The caller, once the signature has been checked; raises Unauthenticated."""
        headers = {**call.headers, "x-quaymaster-identify": self._secret}
        request = urllib.request.Request(
            self._endpoint_url + call.path, data=call.body, headers=headers, method=call.method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return Caller(arn=json.load(answer)["arn"])
        except urllib.error.HTTPError as error:
            refused = json.load(error)
            raise Unauthenticated(refused["code"], refused["message"]) from error

    def require(self, caller: Caller, permission: Permission) -> None:
        """Raise AccessDeniedException unless the caller's policies allow the action on every resource."""
        if caller.is_root:
            return
        for resource in self.denied(caller.policy_source, permission):
            raise AccessDeniedException(
                f"User: {caller.arn} is not authorized to perform: {permission.action} on resource: {resource} "
                f"because no identity-based policy allows the {permission.action} action"
            )

    def denied(self, policy_source: str, permission: Permission) -> list[str]:
        """The resources on which the policies of this role or user do not allow the action."""
        answer = self._iam.simulate_principal_policy(
            PolicySourceArn=policy_source,
            ActionNames=[permission.action],
            ResourceArns=list(permission.resources),
            ContextEntries=[
                {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
                for key, value in permission.context.items()
            ],
        )
        results = answer["EvaluationResults"]
        return [result["EvalResourceName"] for result in results if result["EvalDecision"] != "allowed"]
