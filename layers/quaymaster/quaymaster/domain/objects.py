"""Names of the objects in the bucket. They start with the class that decides how long they live."""

from datetime import timedelta

INPUTS_KEPT = timedelta(days=30)
"""How long the bucket keeps what runs begin with: the template's rule for `inputs/` and `workspaces/`."""
ATTEMPT_DIGITS = 6
SEQUENCE_DIGITS = 8


def chunk_prefix(pool_id: str, run_id: str, attempt: int) -> str:
    """Where one attempt's log chunks lie; ends in `/`, so a grant for attempt 1 never covers attempt 10."""
    return f"chunks/{pool_id}/{run_id}/{attempt:0{ATTEMPT_DIGITS}}/"


def chunk_name(sequence: int) -> str:
    """A chunk's name below its prefix; names sort in the order in which the chunks were cut, whatever the phase."""
    return f"perform-{sequence:0{SEQUENCE_DIGITS}}.ndjson.gz"


def log_prefix(pool_id: str, run_id: str, attempt: int) -> str:
    """Where one attempt's final log and its end marker lie."""
    return f"logs/{pool_id}/{run_id}/{attempt:0{ATTEMPT_DIGITS}}/"


def log_key(pool_id: str, run_id: str, attempt: int) -> str:
    """One attempt's whole log: gzip of NDJSON lines."""
    return log_prefix(pool_id, run_id, attempt) + "log.ndjson.gz"


def log_end_key(pool_id: str, run_id: str, attempt: int) -> str:
    """One attempt's end marker: what the log's bytes are and how the phase ended."""
    return log_prefix(pool_id, run_id, attempt) + "log.json"


def outputs_key(pool_id: str, run_id: str, attempt: int) -> str:
    """What one attempt's phase has left for others to read."""
    return f"outputs/{pool_id}/{run_id}/{attempt:0{ATTEMPT_DIGITS}}/outputs.json"


def workspace_key(pool_id: str, name: str) -> str:
    """A packed workspace that a request brings along; `name` is fresh for every upload."""
    return f"inputs/{pool_id}/{name}/workspace.tar.gz"


def left_workspace_key(pool_id: str, run_id: str, attempt: int) -> str:
    """The packed workspace that an attempt has left for what needs confirmation."""
    return f"workspaces/{pool_id}/{run_id}/{attempt:0{ATTEMPT_DIGITS}}/workspace.tar.gz"


def spec_key(pool_id: str, run_id: str, sha256: str) -> str:
    """A run's command and environment, where a message cannot carry them; named by their digest."""
    return f"inputs/{pool_id}/{run_id}/{sha256}.spec.json"


INPUT_ENVIRONMENT = ".quaymaster-environment.json"
"""A workspace's member that holds an environment too large for a message: a JSON object of strings.

The worker adds it to the command's environment and takes the file out of the workspace.
"""
LEFT_OUTPUTS = ".quaymaster-outputs.json"
"""A member that holds the outputs that earlier phases have left; the worker puts it where the next phase finds it."""
