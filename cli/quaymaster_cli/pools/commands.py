"""`quaymaster pool`: create, list and show pools."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quaymaster_cli.pools.options import with_changes, with_settings
from quaymaster_cli.session import Session, command

if TYPE_CHECKING:
    from quaymaster.domain.api import CreatedPool, MonthView, PoolView, TroubleView

    from quaymaster_cli.showing.output import Output

app = typer.Typer(help="Pools of workers.", no_args_is_help=True)


class Kind(StrEnum):
    """The kinds of pools, as typer offers them."""

    PRIVATE = "private"
    FARGATE = "fargate"


class Processor(StrEnum):
    """The processors of Fargate."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


class Own(StrEnum):
    """What a Fargate pool may have of its own, as typer offers it."""

    IMAGE = "image"
    CPU = "cpu"
    MEMORY = "memory"
    ARCHITECTURE = "architecture"
    TASK_ROLE = "task-role"


class Runs(StrEnum):
    """What workers run commands in, as typer offers it."""

    PROCESS = "process"
    DOCKER = "docker"


Image = Annotated[
    str | None, typer.Option(help="Image of a Fargate pool's workers; with --executor docker, of containers.")
]
Cpu = Annotated[int | None, typer.Option(help="CPU units of a Fargate worker; 1024 are one vCPU.")]
Memory = Annotated[int | None, typer.Option(help="MiB of memory of a Fargate worker.")]
Architecture = Annotated[
    Processor | None, typer.Option(help="Processor of a Fargate worker; its image must be built for it.")
]
TaskRole = Annotated[str | None, typer.Option(help="ARN of the role that a Fargate pool's runs act as.")]


@command(app, "create")
@with_settings
def create(
    session: Session,
    settings: dict[str, str | int],
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")],
    kind: Annotated[Kind, typer.Option(help="Workers connect by themselves, or tasks are started.")] = Kind.PRIVATE,
    csr: Annotated[Path | None, typer.Option(help="Certificate request (PEM) of a private pool's key.")] = None,
    executor: Annotated[
        Runs, typer.Option(help="What workers run commands in: processes of their hosts, or containers.")
    ] = Runs.PROCESS,
    key: Annotated[Path | None, typer.Option(help="The pool's private key (PEM); made if it does not exist.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="Write the token here (mode 0600), not to stdout.")] = None,
    image: Image = None,
    cpu: Cpu = None,
    memory: Memory = None,
    architecture: Architecture = None,
    task_role: TaskRole = None,
) -> None:
    """Create a pool; prints its token, which is shown this once."""
    from quaymaster.domain.pool import PoolKind

    from quaymaster_cli.errors import CliError
    from quaymaster_cli.pools.creating import NewPool, create_fargate_pool, create_private_pool
    from quaymaster_cli.pools.secret_files import new_secret

    new = NewPool(
        name=name,
        kind=PoolKind(kind.value),
        executor=executor.value,
        csr=csr,
        key=key,
        settings=settings,
        image=image,
        cpu=cpu,
        memory=memory,
        architecture=architecture.value if architecture else None,
        task_role=task_role,
    )
    make = create_fargate_pool if kind is Kind.FARGATE else create_private_pool
    if not token_file:
        _show_created(session.output, make(session.connection, new, session.output), None)
        return
    # Made first: a pool whose token nobody has would be of no use.
    with new_secret(token_file, "--token-file") as write:
        created = make(session.connection, new, session.output)
        try:
            write(created.token.encode())
        except CliError:
            session.output.note("the token is:", created.token)
            raise
    _show_created(session.output, created, token_file)


def _show_created(output: "Output", created: "CreatedPool", token_file: Path | None) -> None:
    written = created.model_copy(update={"token": ""}) if token_file else None
    if output.json:
        output.show_json(written or created)
        return
    output.note(f"created {created.pool.kind} pool {created.pool.name} ({created.pool.id})")
    if token_file:
        output.note(f"wrote its token to {token_file}")
    elif created.token_parameter:
        output.note(f"its token and key lie in {created.token_parameter} and {created.key_parameter}")
    else:
        output.note("its token, which is not shown again:")
        output.say(created.token)


@command(app, "list")
def list_pools(session: Session) -> None:
    """List all pools and what they are doing."""
    found = session.api.pools()
    if session.output.json:
        session.output.show_json(found)
        return
    columns = ("NAME", "KIND", "IDLE", "BUSY", "STARTING", "QUEUED", "ID")
    rows = [
        (one.name, one.kind, one.counts.idle, one.counts.busy, one.counts.starting, one.counts.queued, one.id)
        for one in found.pools
    ]
    session.output.table(columns, rows, spare=("ID", "STARTING", "KIND"))


@command(app, "show")
def show(session: Session, pool: Annotated[str, typer.Argument(help="A pool's name or id.")]) -> None:
    """Show a pool and its settings."""
    found = session.api.pool(pool)
    if session.output.json:
        session.output.show_json(found)
    else:
        session.output.fields(_fields(found))


@command(app, "change")
@with_changes
def change(
    session: Session,
    settings: dict[str, str | int],
    pool: Annotated[str, typer.Argument(help="A pool's name or id.")],
    image: Image = None,
    cpu: Cpu = None,
    memory: Memory = None,
    architecture: Architecture = None,
    task_role: TaskRole = None,
    reset: Annotated[
        list[Own] | None, typer.Option(help="Make this the deployment's again, and the role none; may be repeated.")
    ] = None,
) -> None:
    """Change a pool's settings, or what its tasks are made of; what is not said stays."""
    from quaymaster.domain.api import ChangePool

    from quaymaster_cli.errors import Usage

    made = {"image": image, "cpu": cpu, "memory": memory, "architecture": architecture, "task_role": task_role}
    said = {name: value for name, value in made.items() if value is not None}
    again = {one.value.replace("-", "_"): None for one in reset or []}
    if both := sorted(said.keys() & again):
        raise Usage(f"--reset {both[0].replace('_', '-')}, and another one: say one of them")
    said |= again
    if not said and not settings:
        raise Usage("say what is to change: `quaymaster pool change --help` lists what may")
    found = session.api.change_pool(pool, ChangePool.model_validate({"settings": settings, **said}))
    if session.output.json:
        session.output.show_json(found)
    else:
        session.output.fields(_fields(found))


@command(app, "retry")
def retry(session: Session, pool: Annotated[str, typer.Argument(help="A Fargate pool's name or id.")]) -> None:
    """Have a Fargate pool's tasks started again now, whatever failed before."""
    found = session.api.retry_pool(pool)
    if session.output.json:
        session.output.show_json(found)
    else:
        session.output.note(f"pool {found.name} starts tasks again; {found.counts.queued} runs wait")


def _trouble(found: "TroubleView | None") -> str | None:
    from quaymaster_cli.showing.output import tell

    if not found:
        return None
    text = f"failed {found.times} times in a row from {tell(found.since)} to {tell(found.last_at)} ({found.kind}): "
    text += f"{found.note}; next at {tell(found.retry_at)}"
    return text + (f"; runs fail from {tell(found.runs_fail_at)}" if found.runs_fail_at else "")


def _month(found: "MonthView | None") -> str | None:
    from datetime import timedelta

    from quaymaster.domain.durations import format_duration

    if not found:
        return None
    taken = format_duration(timedelta(seconds=found.seconds + found.spot_seconds))
    if found.spot_seconds:
        taken += f", {format_duration(timedelta(seconds=found.spot_seconds))} of it on Spot"
    cost = "its price is not known here" if found.cost is None else f"${found.cost:.2f}"
    return f"{cost}: {found.tasks} tasks, {taken}; {found.runs} runs, some {found.calls} calls of AWS for them"


def _drought(pool: "PoolView") -> str | None:
    from quaymaster_cli.showing.output import tell

    found = pool.spot
    if not found:
        return None
    text = f"nothing to give, {found.times} times from {tell(found.since)} to {tell(found.last_at)}: {found.note}"
    return f"{text}; asked again at {tell(found.retry_at)}"


def _fields(pool: "PoolView") -> list[tuple[str, object]]:
    counts = pool.counts
    workers = f"{counts.idle} idle, {counts.busy} busy, {counts.absent} not answering, {counts.starting} starting"
    return [
        ("pool", pool.name),
        ("id", pool.id),
        ("kind", pool.kind),
        ("workers", workers),
        ("queued", counts.queued),
        ("reserved", f"{pool.workers_reserved} of {pool.settings['max_workers']}" if pool.task_definition else None),
        ("ECS said", pool.launch_note),
        ("starts", _trouble(pool.trouble)),
        ("Spot", _drought(pool)),
        ("this month", _month(pool.month)),
        ("created", pool.created_at),
        ("certificate", pool.certificate_id),
        ("certificate until", pool.certificate_expires_at),
        ("task definition", pool.task_definition),
        ("executor", pool.executor),
        ("image", pool.image),
        *((f"image {one.image}", _trouble(one.trouble) or "starts") for one in pool.images),
        ("cpu", pool.cpu),
        ("memory", pool.memory),
        ("architecture", pool.architecture),
        ("task role", pool.task_role),
        *((name.replace("_", "-"), value) for name, value in pool.settings.items()),
    ]
