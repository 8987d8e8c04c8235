"""Which ECS task this is, by its metadata endpoint."""

import json
import time
import urllib.request
from collections.abc import Callable

from quaymaster.domain.ids import task_id

from quaymaster_worker.errors import AgentError

PATIENCE_SECONDS = 60.0
CALL_SECONDS = 5.0
LONGEST_PAUSE = 8.0


def task_name(metadata_uri: str, pause: Callable[[float], None] = time.sleep) -> str:
    """The id of the task. Raises AgentError when the endpoint does not say it for a minute.

    It may not answer, or answer 500 or 503, while the task is starting: that is no reason to end it.
    """
    waited, wait = 0.0, 0.5
    while True:
        try:
            with urllib.request.urlopen(f"{metadata_uri}/task", timeout=CALL_SECONDS) as answer:
                return task_id(json.load(answer)["TaskARN"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if waited >= PATIENCE_SECONDS:
                raise AgentError(f"ECS_CONTAINER_METADATA_URI_V4 does not say which task this is: {error!r}") from None
        pause(wait)
        waited, wait = waited + wait, min(LONGEST_PAUSE, 2 * wait)
