"""One commit to DynamoDB: its request, and what its failures mean.

A transaction is repeated under its token, so that the table itself knows it again. A single write has no token: if its
answer was lost, and others changed the item before it was repeated, it is called Lost although it was made for a while.
Whoever catches Lost reads again, and finds what became of it.
"""

import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from quaymaster.adapters.aws.errors import THROTTLED, code_of, text_of
from quaymaster.adapters.records import months
from quaymaster.adapters.records.codec import encode, key_item
from quaymaster.adapters.records.items import Item
from quaymaster.domain.keys import Key
from quaymaster.errors import Busy, Lost, QuaymasterError, Unavailable
from quaymaster.ports import Count, Create, Delete, Replace, Require, Write

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SERVICE = "DynamoDB"
_CANCELED = "TransactionCanceledException"
_FAILED = "ConditionalCheckFailed"
_CONTENDED = THROTTLED | {
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "ThrottlingError",
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
}


class Commit:
    """Writes that are made together. One write alone is no transaction, because that would cost twice as much."""

    def __init__(self, client: "DynamoDBClient", table: str, writes: Mapping[Key, Write]) -> None:
        self._client = client
        self._writes = list(writes.items())
        self._actions: list[Any] = [_action(table, key, write) for key, write in self._writes]
        self._doubtful = False

    def attempt(self) -> bool:
        """Try once; False when others were writing the same items, so that it may be tried again.

        Raises Lost or Unavailable.
        """
        try:
            self._send()
        except ClientError as error:
            return self._judge(error)
        except BotoCoreError as error:
            raise Unavailable(SERVICE, f"{type(error).__name__}: {error}") from error
        return True

    def given_up(self) -> QuaymasterError:
        """The error after the last try."""
        if self._doubtful:
            return Unavailable(SERVICE, "no answer, then contention: the commit may have been made")
        return Busy(f"contention at {', '.join(f'{key.pk}/{key.sk}' for key, _ in self._writes[:3])}")

    @cached_property
    def _token(self) -> str:
        return str(uuid.uuid4())

    def _send(self) -> None:
        match self._actions:
            case [{"Put": put}]:
                self._client.put_item(**put)
            case [{"Delete": delete}]:
                self._client.delete_item(**delete)
            case [{"Update": update}]:
                self._client.update_item(**update)
            case several:
                self._client.transact_write_items(TransactItems=several, ClientRequestToken=self._token)

    def _judge(self, error: ClientError) -> bool:
        # An earlier attempt that went unanswered may have been the one that made the commit.
        self._doubtful |= error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
        reasons = _reasons(error)
        failed = {
            key: reason.get("Item") or None
            for (key, _), reason in zip(self._writes, reasons, strict=False)
            if _failed(reason)
        }
        if failed:
            if self._doubtful and self._is_made(failed):
                return True
            raise Lost(failed) from error
        if all(reason.get("Code") in _CONTENDED for reason in reasons if reason.get("Code") != "None"):
            return False
        raise Unavailable(SERVICE, text_of(error)) from error

    def _is_made(self, failed: Mapping[Key, Item | None]) -> bool:
        """Whether the items found are the very ones that this commit wrote, and those it deleted are gone.

        Another commit could by chance have written just these; so this is asked only after a missing answer. A count
        says nothing: it moves on. It is never written without the record that it counts.
        """
        return all(
            key in failed and failed[key] == (None if isinstance(write, Delete) else encode(write.record))
            for key, write in self._writes
            if not isinstance(write, Require | Count)
        )


def _failed(reason: Mapping[str, Any]) -> bool:
    return reason.get("Code") in (_FAILED, f"{_FAILED}Exception")


def _reasons(error: ClientError) -> list[Mapping[str, Any]]:
    """Why each action failed; a plain write has the error's own code as its one reason."""
    answer: Any = error.response
    if code_of(error) == _CANCELED:
        return answer.get("CancellationReasons", [])
    return [{"Code": code_of(error), "Item": answer.get("Item")}]


def _action(table: str, key: Key, write: Write) -> dict[str, Any]:
    where = {"TableName": table, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    match write:
        case Create(record):
            return {"Put": where | {"Item": encode(record), "ConditionExpression": "attribute_not_exists(pk)"}}
        case Replace(record):
            return {"Put": where | {"Item": encode(record)} | _stands_at(record.version - 1)}
        case Delete(record):
            return {"Delete": where | {"Key": key_item(key)} | _stands_at(record.version)}
        case Count():
            return {"Update": where | {"Key": key_item(key)} | _counted(write)}
        case Require(record):
            return {"ConditionCheck": where | {"Key": key_item(key)} | _stands_at(record.version)}


def _counted(write: Count) -> dict[str, Any]:
    values = {":workers": {"N": str(write.workers)}, ":one": {"N": "1"}}
    condition = "attribute_exists(pk)"
    if write.most is not None:
        room = write.most - write.workers
        # A count of nothing is not written out.
        unwritten = "attribute_not_exists(workers_reserved) OR " if room >= 0 else ""
        condition += f" AND ({unwritten}workers_reserved <= :room)"
        values[":room"] = {"N": str(room)}
    added = "workers_reserved :workers, version :one"
    if write.reservations is not None:
        unwritten = "" if write.reservations else "attribute_not_exists(reservations) OR "
        condition += f" AND ({unwritten}reservations = :reservations)"
        values[":reservations"] = {"N": str(write.reservations)}
        added += ", reservations :one"
    for name, value in (months.added(write.spent) if write.spent else {}).items():
        added += f", {name} :{name}"
        values[f":{name}"] = {"N": str(value)}
    return {
        "UpdateExpression": f"ADD {added}",
        "ConditionExpression": condition,
        "ExpressionAttributeValues": values,
    }


def _stands_at(version: int) -> dict[str, Any]:
    return {
        "ConditionExpression": "version = :version",
        "ExpressionAttributeValues": {":version": {"N": str(version)}},
    }
