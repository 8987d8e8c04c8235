"""Start ministack so that it listens on 127.0.0.1 only and answers what it otherwise cannot.

This file runs under ministack's own interpreter, as a script, and imports nothing of Quaymaster.

* `POST` with the header `x-quaymaster-identify`: who signed this request? The answer is `{"arn": ...}`
  after ministack's own signature check, or 403 with `{"code": ..., "message": ...}`.
* a cluster's capacity providers as a resource of CloudFormation;
* `iam:SimulatePrincipalPolicy` with `ContextEntries` and more than one of `ResourceArns`
  (ministack 1.5.33 ignores both).
"""

# pyright: basic
# ministack is not installed in the project's environment: nothing here can be resolved by the checker.
# pyright: reportMissingImports=false, reportCallIssue=false, reportArgumentType=false

import asyncio.base_events
import contextvars
import hmac
import json
import os
import signal
import sys
import threading
import types
from importlib.machinery import SourceFileLoader
from urllib.parse import parse_qs, quote

IDENTIFY_HEADER = b"x-quaymaster-identify"
LOOPBACK = "127.0.0.1"
ENVIRONMENTS = max(4, 2 * (os.cpu_count() or 1))
"""How many asynchronous events are handled at the same time."""


def bind_loopback_only():
    """Turn every wildcard bind into a loopback one: ministack's MQTT listener ignores `BIND_HOST`."""
    create_server = asyncio.base_events.BaseEventLoop.create_server

    async def create_loopback_server(self, protocol_factory, host=None, port=None, **options):
        if options.get("sock") is None and host in (None, "", "0.0.0.0", "::"):
            host = LOOPBACK
        return await create_server(self, protocol_factory, host, port, **options)

    asyncio.base_events.BaseEventLoop.create_server = create_loopback_server


def die_with_parent(lifeline):
    """Stop when the write end of the pipe `lifeline` closes, unless a byte came through it before."""

    def watch():
        if not os.read(lifeline, 1):
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def identify(scope, body):
    """The ARN that signed this request, or an error, decided by ministack's own signature check."""
    from ministack.app import _request_account_scope
    from ministack.core import iam_evaluator
    from ministack.core.responses import get_account_id, set_request_account_id, set_request_region
    from ministack.core.router import extract_access_key_id, extract_region

    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    access_key = extract_access_key_id(headers, query)
    if not access_key:
        return 403, {"code": "MissingAuthenticationTokenException", "message": "Missing Authentication Token"}
    set_request_account_id(_request_account_scope(access_key))
    set_request_region(extract_region(headers, query))
    raw_path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    iam_evaluator.pin_signed_request(scope["method"], raw_path, query, scope["headers"])
    iam_evaluator.pin_signed_body(body)
    checked = iam_evaluator.authenticate(access_key, get_account_id())
    if checked is None:
        checked = iam_evaluator.resolve_credential(access_key, get_account_id())
    arn = getattr(checked, "principal_arn", None)
    if arn is None:
        return 403, {"code": checked.code, "message": checked.message}
    return 200, {"arn": arn}


def answering_identify(app, secret):
    """Wrap ministack's ASGI application so that it answers `x-quaymaster-identify: <secret>`."""

    async def wrapped(scope, receive, send):
        asked = dict(scope.get("headers") or []).get(IDENTIFY_HEADER)
        if scope["type"] != "http" or asked is None or not hmac.compare_digest(asked, secret.encode()):
            return await app(scope, receive, send)
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != IDENTIFY_HEADER]}
        status, answer = identify(scope, body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    return wrapped


def members(params, name):
    """The values `name.member.1`, `name.member.2`, … of a query-protocol request."""
    found = []
    while f"{name}.member.{len(found) + 1}" in params:
        found.append(params[f"{name}.member.{len(found) + 1}"][0])
    return found


def context_entries(params):
    """`ContextEntries` as the lower-case keys and values that ministack's evaluator looks up."""
    context, index = {}, 1
    while f"ContextEntries.member.{index}.ContextKeyName" in params:
        prefix = f"ContextEntries.member.{index}."
        values = members(params, f"{prefix}ContextKeyValues")
        context[params[f"{prefix}ContextKeyName"][0].lower()] = values[0] if len(values) == 1 else values
        index += 1
    return context


def simulate_with_context(params):
    """Answer SimulatePrincipalPolicy for every action on every resource, with the context keys given."""
    from ministack.core import iam_evaluator
    from ministack.core.responses import get_account_id, get_region
    from ministack.services import iam

    source = params["PolicySourceArn"][0]
    kind, _, path = source.split(":", 5)[5].partition("/")
    gather = {"role": iam_evaluator._gather_role_policies, "user": iam_evaluator._gather_user_policies}[kind]
    account = get_account_id()
    policies = gather(path.rsplit("/", 1)[-1], account)
    words = {"Allow": "allowed", "Deny": "explicitDeny"}
    results = ""
    for action in members(params, "ActionNames"):
        for resource in members(params, "ResourceArns") or ["*"]:
            context = iam_evaluator.EvalContext(
                principal_arn=source,
                principal_type="AssumedRole" if kind == "role" else "User",
                principal_account=account,
                action=action,
                resource_arn=resource,
                region=get_region(),
                source_ip=LOOPBACK,
                secure_transport=False,
                service_context=context_entries(params),
            )
            decision = words.get(iam_evaluator.evaluate(context, policies).decision, "implicitDeny")
            results += (
                f"<member><EvalActionName>{action}</EvalActionName><EvalResourceName>{resource}</EvalResourceName>"
                f"<EvalDecision>{decision}</EvalDecision><MatchedStatements/><MissingContextValues/></member>"
            )
    body = (
        f"<SimulatePrincipalPolicyResult><EvaluationResults>{results}</EvaluationResults>"
        "<IsTruncated>false</IsTruncated></SimulatePrincipalPolicyResult>"
    )
    return iam._xml(200, "SimulatePrincipalPolicyResponse", body, ns="iam")


def name_policy_targets():
    """Check iot:AttachPolicy against the certificate it names, as AWS does; ministack itself checks it against `*`."""
    from ministack.core import iam_actions

    extract = iam_actions.extract_resource_arn

    def extract_with_target(service, method, path, headers, body, *rest):
        if service == "iot" and path.startswith("/target-policies/"):
            return json.loads(body or b"{}").get("target") or "*"
        return extract(service, method, path, headers, body, *rest)

    iam_actions.extract_resource_arn = extract_with_target


def associate_capacity_providers():
    """Know `AWS::ECS::ClusterCapacityProviderAssociations`, which names a cluster's providers behind its creation."""
    from ministack.services import ecs
    from ministack.services.cloudformation import provisioners

    def associate(cluster, providers):
        status, _, body = ecs._put_cluster_capacity_providers(
            {"cluster": cluster, "capacityProviders": providers, "defaultCapacityProviderStrategy": []}
        )
        if status != 200:
            raise ValueError(body)
        return cluster, {}

    provisioners._RESOURCE_HANDLERS["AWS::ECS::ClusterCapacityProviderAssociations"] = {
        "create": lambda logical_id, props, stack_name: associate(props["Cluster"], props["CapacityProviders"]),
        "update": lambda physical_id, old, new, stack_name: associate(new["Cluster"], new["CapacityProviders"]),
        "delete": lambda physical_id, props: associate(physical_id, []),
    }


def queue_asynchronous_events():
    """Deliver what a rule sends to a function as AWS does: the event waits until there is room, and is retried.

    ministack starts an environment for each such event at once and forgets it if it fails: twenty agents that
    register together would start twenty interpreters, none of which is ready in time on two cores.
    """
    from ministack.services import iot, lambda_svc

    room = threading.Semaphore(ENVIRONMENTS)
    asynchronous = contextvars.ContextVar("asynchronous", default=False)
    execute, invoke = lambda_svc._execute_function, lambda_svc.invoke_async_with_retry

    def execute_when_there_is_room(func, event):
        if not asynchronous.get():
            return execute(func, event)
        with room:
            # It calls itself once more, under the function's own account and region.
            token = asynchronous.set(False)
            try:
                return execute(func, event)
            finally:
                asynchronous.reset(token)

    def invoke_in_turn(func, event):
        token = asynchronous.set(True)
        try:
            invoke(func, event)
        finally:
            asynchronous.reset(token)

    def dispatch_rule(account_id, region, function_arn, event):
        func, config, _ = lambda_svc._get_func_record_for_ref_in_scope(
            function_arn, account_id=account_id, region=region
        )
        if func and config:
            invoke_in_turn(lambda_svc._execution_record_for_config(func, config), event)

    lambda_svc._execute_function = execute_when_there_is_room
    lambda_svc.invoke_async_with_retry = invoke_in_turn
    iot._dispatch_rule_to_lambda = dispatch_rule


def load(name):
    """A module beside this one. Its folder is not searched: a name in it may stand for something else in ministack."""
    module = types.ModuleType(name)
    SourceFileLoader(name, os.path.join(os.path.dirname(__file__), f"{name}.py")).exec_module(module)
    return module


def main():
    # Out of the environment at once: functions inherit ministack's.
    secret = os.environ.pop("QUAYMASTER_LOCAL_SECRET")
    lifeline = int(os.environ.pop("QUAYMASTER_LOCAL_LIFELINE"))
    os.set_inheritable(lifeline, False)
    die_with_parent(lifeline)
    bind_loopback_only()

    from ministack import app
    from ministack.services import iam

    name_policy_targets()
    associate_capacity_providers()
    queue_asynchronous_events()
    load("callers").name_callers()
    iam._IAM_HANDLERS["SimulatePrincipalPolicy"] = simulate_with_context
    app.app = answering_identify(app.app, secret)
    sys.argv = ["ministack"]
    app.main()


if __name__ == "__main__":
    main()
