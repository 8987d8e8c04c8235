"""The outputs of a run, as its worker has put them into the bucket."""

from pydantic import ValidationError

from quaymaster.domain import objects
from quaymaster.domain.api import OutputsView
from quaymaster.domain.outputs import MAX_OUTPUT_BYTES, Outputs
from quaymaster.domain.run import Run
from quaymaster.errors import NotFound
from quaymaster.ports import Ports

MOST_BYTES = 3 * MAX_OUTPUT_BYTES
"""What is read of an object that a worker has written: its escapes may make it larger than the phase's file was."""


def show_outputs(ports: Ports, run: Run) -> OutputsView:
    """What the run's latest attempt has left. Raises NotFound if nothing, Unavailable."""
    found = ports.blobs.read(objects.outputs_key(run.pool_id, run.id, run.attempt)) if run.attempt else None
    if not found:
        raise NotFound("outputs of run", run.id)
    with found:
        body = found.read(MOST_BYTES + 1)
    try:
        outputs = Outputs.model_validate_json(body)
    except ValidationError:
        # A worker may write anything there.
        raise NotFound("outputs that can be read of run", run.id) from None
    return OutputsView(
        run=run.id, attempt=run.attempt, outputs=outputs.outputs, sensitive=outputs.sensitive, sealed=outputs.sealed
    )
