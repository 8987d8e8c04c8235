"""Who sent a worker's message, and when it came in: taken from the topic and the rule, never from the body."""

from dataclasses import dataclass
from datetime import datetime

from quaymaster.domain.pool import Pool


@dataclass(frozen=True, kw_only=True)
class Sender:
    """A worker as its certificate's policy pins it."""

    pool: Pool
    worker_id: str
    at: datetime
