"""Images that runs bring: which of them a pool allows, and the task definitions that are made for them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from quaymaster.domain import keys
from quaymaster.domain.keys import Key
from quaymaster.domain.replacing import replace
from quaymaster.domain.trouble import StartFailure, Trouble, after_failure

REFRESHED = timedelta(days=1)
"""Of a definition in use it is written so often that it is."""
UNUSED = timedelta(days=7)
"""One that no run has wanted for so long is retired: longer than any use can be in the making."""


@dataclass(frozen=True, kw_only=True)
class ImageDefinition:
    """A pool's task definition with another image, and what stands against starting tasks of it.

    `made_from` is the pool's own, as it was: when the pool gets another, what was made from the one before is not used
    any more. A failure that passes is the image's (its registry does not answer): it keeps no other start back.
    """

    pool_id: str
    image: str
    made_from: str
    task_definition: str
    used_at: datetime
    trouble: Trouble | None = None
    version: int = 1

    kind: ClassVar[str] = "image_definition"

    @property
    def key(self) -> Key:
        return keys.image_definition(self.pool_id, self.made_from, self.image)

    def used(self, at: datetime) -> "ImageDefinition":
        """Wanted again."""
        return replace(self, used_at=at, version=self.version + 1)

    def troubled(self, failure: StartFailure, now: datetime, randomness: bytes) -> "ImageDefinition":
        """With one more start that came to nothing."""
        return replace(self, trouble=after_failure(self.trouble, failure, now, randomness), version=self.version + 1)

    def untroubled(self) -> "ImageDefinition":
        """A task of it became a worker."""
        return replace(self, trouble=None, version=self.version + 1)

    def rests(self, now: datetime) -> bool:
        """Whether the next start is not due yet."""
        return self.trouble is not None and now < self.trouble.retry_at


def is_allowed(image: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns stands for the image: `*` in it is any text, also none, and all else is itself."""
    return any(_expression(pattern).fullmatch(image) for pattern in patterns)


def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")))
