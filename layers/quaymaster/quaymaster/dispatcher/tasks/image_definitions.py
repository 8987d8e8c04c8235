"""Task definitions for images that runs bring: registered when one is first wanted, used again, retired when unused.

A revision is registered before its record is written, so that a crash between the two leaves one that no record names:
the sweep compares what ECS has with what is known here, and retires the rest.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from quaymaster.dispatcher.apart import apart
from quaymaster.domain.images import REFRESHED, UNUSED, ImageDefinition
from quaymaster.domain.pool import Launch, Pool
from quaymaster.errors import Busy, Lost
from quaymaster.ports import Create, Delete, Ports, Replace

TRIES = 4
IN_THE_MAKING = timedelta(hours=1)
"""A revision as young as this may be about to be written down."""
EVERY = 60
"""The definitions of a pool are compared in one minute of so many."""


def definition_for(ports: Ports, pool: Pool, image: str) -> ImageDefinition:
    """The pool's task definition with this image. Raises what `Tasks.define_image` raises, and Busy."""
    made_from = pool.task_definition or ""
    for _ in range(TRIES):
        found, now = ports.store.image_definition(pool.id, made_from, image), ports.clock()
        if found and now - found.used_at < REFRESHED:
            return found
        if found:
            wanted = found.used(now)
        else:
            arn = ports.tasks.define_image(made_from, image)
            wanted = ImageDefinition(
                pool_id=pool.id, image=image, made_from=made_from, task_definition=arn, used_at=now
            )
        try:
            ports.store.commit(Replace(wanted) if found else Create(wanted))
        except Lost:
            # Another has written its own, or this one was retired meanwhile.
            continue
        if not found:
            ports.log("image_defined", {"pool": pool.id, "image": image, "definition": wanted.task_definition})
        return wanted
    raise Busy(f"image {image} of pool {pool.id}: others kept writing")


def definition_of(ports: Ports, launch: Launch) -> ImageDefinition | None:
    """What the tasks of a launch for one run are made from, if it is still known."""
    known = ports.store.image_definitions(launch.pool_id)
    return next((one for one in known if one.task_definition == launch.task_definition), None)


def retire_unused(ports: Ports, pool: Pool, until: datetime) -> None:
    """Once an hour: forget what no run has wanted for long, then let ECS run no revision of the pool that is not known.

    The launches are read last: one that is being made now took its definition from a record.
    """
    if int(ports.clock().timestamp() // 60) % EVERY != int(pool.created_at.timestamp()) % EVERY:
        return
    revisions = ports.tasks.definitions(pool.id)
    known = _still_used(ports, pool, ports.store.image_definitions(pool.id))
    used = {pool.task_definition, *known, *(launch.task_definition for launch in ports.store.launches(pool.id))}

    def retire(arn: str) -> None:
        if ports.tasks.retire(arn, IN_THE_MAKING):
            ports.log("definition_retired", {"pool": pool.id, "definition": arn})

    unknown = [arn for arn in revisions if arn not in used]
    apart(ports, until, unknown, retire, lambda arn: ("definition_not_retired", {"pool": pool.id, "definition": arn}))


def _still_used(ports: Ports, pool: Pool, found: Sequence[ImageDefinition]) -> list[str]:
    kept: list[str] = []
    for one in found:
        if ports.clock() - one.used_at < UNUSED:
            kept.append(one.task_definition)
            continue
        try:
            ports.store.commit(Delete(one))
        except Lost:
            kept.append(one.task_definition)
        else:
            ports.log("image_forgotten", {"pool": pool.id, "image": one.image})
    return kept
