"""Who the caller is, said as AWS says it. Loaded by the launcher, in ministack's own interpreter.

ministack 1.5.33 leaves policy variables as they stand, tells a function behind a URL nothing of who signed, and names
the account as the sender of every queue message.
"""

# pyright: basic
# ministack is not installed in the project's environment: nothing here can be resolved by the checker.
# pyright: reportMissingImports=false, reportCallIssue=false, reportArgumentType=false

import re
from dataclasses import replace

VARIABLE = re.compile(r"\$\{([^}*?$]+)\}")


def name_callers():
    """Patch ministack."""
    fill_policy_variables()
    name_signers_of_function_urls()
    name_senders_of_messages()


def fill_policy_variables():
    """Replace `${aws:userid}` and its like in the resources of a policy by the caller's own."""
    from ministack.core import iam_evaluator

    first_match = iam_evaluator._first_match

    def first_match_filled(context, statements, effect):
        return first_match(context, [filled(one, context.principal_keys) for one in statements], effect)

    iam_evaluator._first_match = first_match_filled


def filled(statement, keys):
    """The statement for this caller; a resource with a variable that the caller has not is none."""
    if not any("${" in resource for resource in statement.resources):
        return statement
    resources = []
    for resource in statement.resources:
        names = [name.lower() for name in VARIABLE.findall(resource)]
        if all(name in keys for name in names):
            resources.append(VARIABLE.sub(lambda found: str(keys[found[1].lower()]), resource))
    # Nothing else names a resource that does not exist: an empty list would mean every resource.
    return replace(statement, resources=resources or ["-"])


def identity_of(access_key):
    """What GetCallerIdentity says of an access key, or None."""
    from ministack.core.iam_evaluator import resolve_caller_identity

    return resolve_caller_identity(access_key) if access_key else None


def name_signers_of_function_urls():
    """Give a function behind a URL `requestContext.authorizer.iam`."""
    from ministack.core.router import extract_access_key_id
    from ministack.services import lambda_svc

    build = lambda_svc._build_function_url_event

    def build_signed(url_id, account_id, region, method, path, headers, body, query_params, **more):
        event = build(url_id, account_id, region, method, path, headers, body, query_params, **more)
        signer = identity_of(extract_access_key_id(headers, query_params))
        if signer:
            event["requestContext"]["authorizer"] = {
                "iam": {
                    "accessKey": signer["accessKey"],
                    "accountId": signer["accountId"],
                    "callerId": signer["userId"],
                    "cognitoIdentity": None,
                    "principalOrgId": None,
                    "userArn": signer["userArn"],
                    "userId": signer["userId"],
                }
            }
        return event

    lambda_svc._build_function_url_event = build_signed


def name_senders_of_messages():
    """Give a message the `SenderId` of whoever signed for sending it, also in the batch that a function gets."""
    from ministack.core import iam_evaluator
    from ministack.services import lambda_svc, sqs

    build, execute = sqs._build_send_sys_attrs, lambda_svc._execute_function

    def build_signed(now, given):
        attributes = build(now, given)
        sender = identity_of(iam_evaluator._verified_key.get())
        return {**attributes, "SenderId": sender["userId"]} if sender else attributes

    def execute_with_senders(func, event):
        if isinstance(event, dict):
            for record in event.get("Records", []):
                if record.get("eventSource") == "aws:sqs":
                    record["attributes"]["SenderId"] = sender_of(sqs, record)
        return execute(func, event)

    sqs._build_send_sys_attrs = build_signed
    lambda_svc._execute_function = execute_with_senders


def sender_of(sqs, record):
    """The sender of a message that a queue still holds."""
    queue = sqs._queue_by_arn(record["eventSourceARN"])
    for message in queue["messages"] if queue else ():
        if message["id"] == record["messageId"]:
            return message["sys"]["SenderId"]
    return record["attributes"]["SenderId"]
