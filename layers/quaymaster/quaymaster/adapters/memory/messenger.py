"""MQTT in memory: what was published lies there until somebody takes it."""

from dataclasses import dataclass
from datetime import timedelta

from quaymaster.adapters.iot.messenger import MAX_MESSAGE_BYTES, check_reply_topic
from quaymaster.domain.messages import ToAgent
from quaymaster.domain.requests import EndReply, Reply
from quaymaster.errors import Refused, Unavailable


@dataclass(frozen=True)
class Sent:
    """A message on its way to a worker."""

    pool_id: str
    worker_id: str
    message: ToAgent
    expires: timedelta | None


@dataclass(frozen=True)
class Replied:
    """An answer on its way to a requester."""

    topic: str
    message: Reply


class MemoryMessenger:
    """Fulfils `ports.Messenger`. While `down` is set, every publish fails."""

    def __init__(self, namespace: str = "quaymaster") -> None:
        self.sent: list[Sent] = []
        self.replies: list[Replied] = []
        self.ends: list[tuple[str, EndReply]] = []
        """What was told of ends, with its topics."""
        self.down: str | None = None
        self._namespace = namespace

    def send(self, pool_id: str, worker_id: str, message: ToAgent, expires: timedelta | None = None) -> None:
        size = len(message.encode())
        if size > MAX_MESSAGE_BYTES:
            raise Refused("message", f"{size} bytes", f"at most {MAX_MESSAGE_BYTES} bytes over MQTT")
        self._publish()
        self.sent.append(Sent(pool_id, worker_id, message, expires))

    def reply(self, topic: str, message: Reply | EndReply) -> None:
        check_reply_topic(self._namespace, topic)
        self._publish()
        if isinstance(message, EndReply):
            self.ends.append((topic, message))
        else:
            self.replies.append(Replied(topic, message))

    def take(self, worker_id: str | None = None) -> list[ToAgent]:
        """The messages to one worker (or to all) since the last take, in order; they are gone from `sent`."""
        taken = [sent.message for sent in self.sent if worker_id in (None, sent.worker_id)]
        self.sent = [sent for sent in self.sent if worker_id not in (None, sent.worker_id)]
        return taken

    def _publish(self) -> None:
        if self.down:
            raise Unavailable("iot", self.down)
