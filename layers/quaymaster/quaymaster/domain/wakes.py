"""Wake-ups: doorbells in the internal queue that ask the dispatcher to look at a pool or an item."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationError, model_validator

from quaymaster.domain.keys import Key
from quaymaster.domain.messages import Message
from quaymaster.domain.requests import refusal


@dataclass(frozen=True)
class Wake:
    """A doorbell: look at a pool, or at one item of the table. It may come late, twice or never."""

    pool_id: str
    key: Key | None = None


class WakeMessage(Message):
    """A wake-up as it travels."""

    kind: Literal["wake"] = "wake"
    pool: Annotated[str, Field(min_length=1, max_length=64)]
    pk: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    sk: Annotated[str, Field(min_length=1, max_length=512)] | None = None

    @model_validator(mode="after")
    def _whole_key(self) -> "WakeMessage":
        if (self.pk is None) != (self.sk is None):
            raise ValueError("pk and sk name an item together, or are both absent")
        return self


def encode_wake(wake: Wake) -> bytes:
    """A wake-up as JSON."""
    key = wake.key
    return WakeMessage(pool=wake.pool_id, pk=key.pk if key else None, sk=key.sk if key else None).encode()


def read_wake(payload: str | bytes) -> Wake | None:
    """The wake-up in a message of the internal queue, or None when it is something else (a request, most likely).

    Raises Refused for a wake-up that is malformed.
    """
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or cast("dict[str, Any]", found).get("kind") != "wake":
        return None
    try:
        message = WakeMessage.model_validate(found)
    except ValidationError as error:
        raise refusal(error) from None
    return Wake(message.pool, Key(message.pk, message.sk) if message.pk and message.sk else None)
