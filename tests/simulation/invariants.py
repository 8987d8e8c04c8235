"""What must hold of the table after every step, whoever wrote it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from quaymaster.domain import keys
from quaymaster.domain.pool import Counters, Launch, Pool, Ticket
from quaymaster.domain.run import Run
from quaymaster.domain.states import HELD, RunState
from quaymaster.domain.worker import Marker, Worker, WorkerState
from quaymaster.ports import Record

from tests.simulation.violation import Invariant, must


@dataclass
class Table:
    """The records of one pool, by kind."""

    @property
    def anybodys(self) -> set[str]:
        """The runs that any idle worker may take."""
        return {run_id for run_id, ticket in self.tickets.items() if not ticket.bound}

    pool: Pool | None = None
    counters: Counters | None = None
    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    workers: dict[str, Worker] = field(default_factory=dict[str, Worker])
    markers: dict[str, Marker] = field(default_factory=dict[str, Marker])
    tickets: dict[str, Ticket] = field(default_factory=dict[str, Ticket])
    launches: list[Launch] = field(default_factory=list[Launch])


def read_table(records: Sequence[Record], pool_id: str) -> Table:
    """The records that belong to a pool."""
    table = Table()
    for record in records:
        match record:
            case Run(pool_id=of) if of == pool_id:
                table.runs[record.id] = record
            case Worker(pool_id=of) if of == pool_id:
                table.workers[record.id] = record
            case Marker() if record.worker.pool_id == pool_id:
                table.markers[record.worker.id] = record
            case Ticket(pool_id=of) if of == pool_id:
                table.tickets[record.run_id] = record
            case Launch(pool_id=of) if of == pool_id:
                table.launches.append(record)
            case Pool(id=of) if of == pool_id:
                table.pool = record
            case Counters(pool_id=of) if of == pool_id:
                table.counters = record
            case _:
                continue
    return table


def check_table(table: Table) -> None:
    """Raises Violation for anything in the table that does not fit the rest."""
    for run in table.runs.values():
        _check_run(run, table.workers)
    for worker in table.workers.values():
        _check_worker(worker, table.runs)
    ready = {run.id for run in table.runs.values() if run.state is RunState.READY}
    must(Invariant.TICKET_IF_READY, table.tickets.keys() == ready, f"tickets {set(table.tickets)}, READY {ready}")
    idle = {worker.id: worker for worker in table.workers.values() if worker.state is WorkerState.IDLE}
    offered = {name: marker.worker for name, marker in table.markers.items()}
    must(Invariant.MARKER_IF_IDLE, offered == idle, f"markers {set(offered)}, IDLE {set(idle)}")
    for name, marker in table.markers.items():
        key = keys.marker(marker.worker.pool_id, idle[name].marker or "", name)
        must(Invariant.MARKER_IF_IDLE, marker.key == key, f"{name} has another marker than it says")
    _check_reserved(table)
    _check_bound(table)


def _check_bound(table: Table) -> None:
    for ticket in table.tickets.values():
        run = table.runs[ticket.run_id]
        must(Invariant.ITS_OWN_TASK, ticket.bound == run.bound, f"{run.id} has a ticket of the other kind")
    of_launch = {launch.id: launch.run for launch in table.launches}
    for worker in table.workers.values():
        held = table.runs[worker.run] if worker.run else None
        if held:
            must(Invariant.ITS_OWN_TASK, held.bound == worker.bound, f"{worker.id} holds {held.id}")
        if held and held.bound:
            own = of_launch.get(worker.launch or "", held.id)
            must(Invariant.ITS_OWN_TASK, own == held.id, f"{worker.id} was started for {own} and holds {held.id}")
        offered = worker.bound and worker.state is WorkerState.IDLE
        must(Invariant.ITS_OWN_TASK, not offered, f"{worker.id} was started for one run and is offered others")


def _check_run(run: Run, workers: dict[str, Worker]) -> None:
    if run.state in HELD:
        worker = workers.get(run.worker or "")
        must(Invariant.ONE_HOLDER, worker, f"{run.id} is held by nobody known")
        assert worker
        stands = (worker.state, worker.run, worker.attempt, worker.session)
        said = (WorkerState.BUSY, run.id, run.attempt, run.session)
        must(Invariant.ONE_HOLDER, stands == said, f"{run.id} is held by {worker.id}, which is {stands}")
        must(Invariant.DEADLINE, run.due_at, f"{run.id} is held and has no deadline")
    if run.state is RunState.RUNNING:
        must(Invariant.ALLOWED, run.begun_at, f"{run.id} is RUNNING since nobody knows when")
    if run.is_final:
        whole = run.ended_at and run.expires_at and not run.ending
        must(Invariant.FINAL, whole, f"{run.id} is final without an end")


def _check_worker(worker: Worker, runs: dict[str, Run]) -> None:
    if worker.state is WorkerState.BUSY:
        run = runs.get(worker.run or "")
        holds = run and run.state in HELD and (run.worker, run.attempt) == (worker.id, worker.attempt)
        must(Invariant.ONE_HOLDER, holds, f"{worker.id} holds {worker.run}, which does not say so")
    else:
        must(Invariant.ONE_HOLDER, worker.run is None and worker.attempt is None, f"{worker.id} holds a run unawares")
    if worker.state in (WorkerState.ASKED, WorkerState.LEAVING):
        must(Invariant.DEADLINE, worker.due_at, f"{worker.id} is {worker.state} without a deadline")
    if worker.state is WorkerState.BUSY and worker.disconnected_at:
        must(Invariant.DEADLINE, worker.due_at, f"{worker.id} is disconnected without a deadline")
    gone = worker.state is WorkerState.GONE
    must(Invariant.DEADLINE, bool(worker.expires_at) == gone, f"{worker.id} is {worker.state}; {worker.expires_at}")


def _check_reserved(table: Table) -> None:
    if not table.counters or not table.pool:
        return
    reserved = table.counters.workers_reserved
    places = sum(max(0, launch.count - len(launch.stopped)) for launch in table.launches)
    must(Invariant.RESERVED, reserved == places, f"{reserved} places are reserved, the launches hold {places}")
    most = table.pool.settings.max_workers
    must(Invariant.WITHIN_LIMIT, reserved <= most, f"{reserved} places of {most} are reserved")
    owners: dict[str, str] = {}
    for launch in table.launches:
        followed = launch.is_over or launch.due_at or not launch.starting
        must(Invariant.DEADLINE, followed, f"launch {launch.id} has tasks on their way and no deadline")
        for arn in launch.tasks:
            owner = owners.setdefault(arn, launch.id)
            must(Invariant.RESERVED, owner == launch.id, f"{arn} is of launch {launch.id}, and of {owner}")
