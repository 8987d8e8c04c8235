"""The table's shape, and how tests get one of their own."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SHAPE: dict[str, Any] = {
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "S"},
        {"AttributeName": "due_pk", "AttributeType": "S"},
        {"AttributeName": "due_at", "AttributeType": "N"},
        {"AttributeName": "listing_pk", "AttributeType": "S"},
        {"AttributeName": "listing_at", "AttributeType": "S"},
    ],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": name,
            "KeySchema": [
                {"AttributeName": f"{name}_pk", "KeyType": "HASH"},
                {"AttributeName": f"{name}_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
        for name in ("due", "listing")
    ],
}


@contextmanager
def own_table(client: "DynamoDBClient", name: str) -> Generator[str]:
    """A fresh table of the system's shape, gone afterwards: no deployed function looks at it."""
    client.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **SHAPE)
    try:
        yield name
    finally:
        client.delete_table(TableName=name)


def shape_of(client: "DynamoDBClient", table: str) -> dict[str, Any]:
    """The keys and indexes of a table that exists, written as `SHAPE` is."""
    found: Any = client.describe_table(TableName=table)["Table"]
    wanted = ("IndexName", "KeySchema", "Projection")
    indexes = [{name: index[name] for name in wanted} for index in found["GlobalSecondaryIndexes"]]
    return {
        "KeySchema": found["KeySchema"],
        "AttributeDefinitions": sorted(found["AttributeDefinitions"], key=lambda a: a["AttributeName"]),
        "GlobalSecondaryIndexes": sorted(indexes, key=lambda index: index["IndexName"]),
    }
