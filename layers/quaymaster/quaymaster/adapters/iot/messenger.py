"""MQTT from the control plane: `ports.Messenger` over the IoT data plane."""

from collections.abc import Callable
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from quaymaster.adapters.aws.errors import code_of, text_of, translated
from quaymaster.domain import ids
from quaymaster.domain.messages import ToAgent
from quaymaster.domain.requests import EndReply, Reply
from quaymaster.errors import Refused
from quaymaster.telling import describe

if TYPE_CHECKING:
    from mypy_boto3_iot_data import IoTDataPlaneClient

MAX_MESSAGE_BYTES = 128 * 1024
_NEVER = frozenset({"InvalidRequestException", "RequestEntityTooLargeException", "413"})


class IotMessenger:
    """Fulfils `ports.Messenger`; at least once (QoS 1), and never retained."""

    def __init__(self, namespace: str, client: Callable[[], "IoTDataPlaneClient"]) -> None:
        self._namespace = namespace
        self._client = client

    def send(self, pool_id: str, worker_id: str, message: ToAgent, expires: timedelta | None = None) -> None:
        self._publish(ids.topic_to(self._namespace, pool_id, worker_id), message.encode(), expires)

    def reply(self, topic: str, message: Reply | EndReply) -> None:
        """Raises Refused as well, for a topic that is not one for replies."""
        check_reply_topic(self._namespace, topic)
        self._publish(topic, message.encode(), None)

    def _publish(self, topic: str, payload: bytes, expires: timedelta | None) -> None:
        if len(payload) > MAX_MESSAGE_BYTES:
            raise Refused("message", f"{len(payload)} bytes", f"at most {MAX_MESSAGE_BYTES} bytes over MQTT")
        client = self._client()
        with translated("iot", _refused):
            if expires is None:
                client.publish(topic=topic, qos=1, payload=payload)
            else:
                seconds = max(1, ceil(expires.total_seconds()))
                client.publish(topic=topic, qos=1, payload=payload, messageExpiry=seconds)


def check_reply_topic(namespace: str, topic: str) -> None:
    """Raises Refused for a topic that answers must not go to."""
    prefix = f"{namespace}/replies/"
    if not topic.startswith(prefix) or len(topic) == len(prefix) or len(topic) > 256 or topic.count("/") > 7:
        raise Refused("reply_to", describe(topic), f"a topic under {prefix}")
    if any(character in topic for character in "+#\0"):
        raise Refused("reply_to", describe(topic), "a topic without wildcards")


def _refused(error: ClientError) -> Refused | None:
    return Refused("message", text_of(error), "what IoT publishes") if code_of(error) in _NEVER else None
