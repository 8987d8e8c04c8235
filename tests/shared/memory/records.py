"""Records for tests: valid ones with ids of the real shape, any field of which may be given."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from quaymaster.domain.ids import run_id, ulid, worker_id
from quaymaster.domain.messages import LogDigest
from quaymaster.domain.objects import chunk_name, chunk_prefix
from quaymaster.domain.pool import Launch, Pool, PoolKind
from quaymaster.domain.requests import RunType, Workspace
from quaymaster.domain.run import HISTORY_LIMIT, Ending, LeftWorkspace, Run, Spec, Timeouts, accepted, claimed
from quaymaster.domain.states import Reason, RunState
from quaymaster.domain.worker import Marker, Worker, WorkerState, freed

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_000, UTC)
POOL = ulid(NOW, b"pool-pool-")
OTHER_POOL = ulid(NOW, b"other-pool")
LONGEST_NAMESPACE = "n" * 31


def a_run(name: str = "run", /, **changes: Any) -> Run:
    """A READY run of `POOL`; `name` makes its id."""
    pool_id: str = changes.pop("pool_id", POOL)
    ready = Run(id=run_id(pool_id, name), pool_id=pool_id, type=RunType.TASK, state=RunState.READY, accepted_at=NOW)
    return replace(accepted(ready, ready.accepted_at, "dispatcher"), **changes)


def a_worker(name: str = "worker", /, **changes: Any) -> Worker:
    """A worker of `POOL` that has just come; `name` is padded into a ULID."""
    pool_id: str = changes.pop("pool_id", POOL)
    worker = Worker(
        id=worker_id("quaymaster", pool_id, ulid(NOW, name.encode().rjust(10)[-10:])),
        pool_id=pool_id,
        state=WorkerState.BUSY,
        session=ulid(NOW, b"session-se"),
        created_at=NOW,
        seen_at=NOW,
    )
    return replace(worker, **changes)


def an_idle(name: str = "worker", random: str = "aaaa", /, **changes: Any) -> tuple[Worker, Marker]:
    """An idle worker, as it is first written, and its marker."""
    idle, _ = freed(a_worker(name, **changes), random, NOW)
    idle = replace(idle, version=1)
    return idle, Marker(random=random, worker=idle)


def a_pool(**changes: Any) -> Pool:
    """A private pool."""
    pool = Pool(
        id=POOL,
        name="team-a",
        kind_of=PoolKind.PRIVATE,
        certificate_id="c" * 64,
        certificate_arn="arn:aws:iot:us-east-1:123456789012:cert/" + "c" * 64,
        created_at=NOW,
        updated_at=NOW,
    )
    return replace(pool, **changes)


def a_spec(run: Run, /, **changes: Any) -> Spec:
    """What the run executes."""
    return replace(Spec(run_id=run.id, request_id="request-1", command=("sh", "-c", "true")), **changes)


def a_launch(name: str = "launch", /, **changes: Any) -> Launch:
    """A launch of two tasks."""
    launch = Launch(
        id=ulid(NOW, name.encode().rjust(10)[-10:]), pool_id=POOL, count=2, task_definition="family:1", created_at=NOW
    )
    return replace(launch, **changes)


def the_largest_run() -> Run:
    """A held run with the longest ids, every field that can be set beside `ending`, and a full, wordy history."""
    run = a_run("largest", stack="s" * 64, retryable=True, bound=True)
    worker = worker_id(LONGEST_NAMESPACE, POOL, "f" * 32)
    timeouts = Timeouts(log=timedelta(minutes=7, milliseconds=1), run=timedelta(hours=23, milliseconds=1))
    at = NOW + timedelta(days=1)
    run = claimed(run, worker, ulid(at, b"session-se"), at, timeouts, at)
    entries = tuple(
        f"{RunState.PREPARING}|{900 + n}|{1_772_366_400_123 + n * 86_400_000}|dispatcher|{chr(97 + n) * 80}"
        for n in range(HISTORY_LIMIT)
    )
    return replace(
        run,
        state=RunState.RUNNING,
        version=99_999,
        attempt=999_999,
        answered_at=at,
        resent_at=at,
        begun_at=at,
        ending=Ending(state=RunState.FAILED, reason=Reason.NO_WORKER_ANSWERED, by="u" * 64, deadline=at),
        output_at=at,
        upload_failing=True,
        chunk=chunk_prefix(POOL, run.id, 999_999) + chunk_name(99_999_999),
        chunk_at=at,
        losses=3,
        offers=10,
        due_at=at,
        expires_at=at.replace(microsecond=0),
        history=entries,
    )


def phased(run: Run) -> Run:
    """The same with as many phases as there can be, the last of them confirmed."""
    return replace(
        run,
        phase=7,
        leg=7,
        leg_end=8,
        phases=8,
        phases_done=("999999,2592000000,2592000000",) * 7,
        left=LeftWorkspace(attempt=999_999, sha256="e" * 64, bytes=2 << 30),
        confirmed_at=NOW + timedelta(days=1),
    )


def the_largest_ended_run() -> Run:
    """A final run: what `ending` took goes to its note and its log's digest."""
    run = the_largest_run()
    return replace(
        run,
        state=RunState.FAILED,
        ending=None,
        due_at=None,
        ended_at=NOW + timedelta(days=1),
        reason=Reason.NO_WORKER_ANSWERED,
        exit_code=-15,
        note="n" * 200,
        log=LogDigest(lines=123_456_789, bytes=1_073_741_823, sha256="d" * 64, complete=False),
    )


def the_largest_worker() -> Worker:
    """A Fargate worker with every field set."""
    at = NOW + timedelta(days=1)
    cluster = "c" * 60
    return a_worker(
        id=worker_id(LONGEST_NAMESPACE, POOL, "f" * 32),
        state=WorkerState.ASKED,
        version=99_999,
        generation=999,
        run=run_id(POOL, "x"),
        attempt=999_999,
        marker="0123456789abcdef",
        log_limit=timedelta(hours=2, milliseconds=1),
        run_limit=timedelta(hours=23, milliseconds=1),
        launch=ulid(at, b"launch-lau"),
        task_arn=f"arn:aws:ecs:ap-southeast-1:123456789012:task/{cluster}/{'f' * 32}",
        runs_done=999_999,
        idle_since=at,
        busy_since=at,
        disconnected_at=at,
        note="n" * 200,
        due_at=at,
        expires_at=at.replace(microsecond=0),
    )


def a_workspace() -> Workspace:
    """A workspace in the bucket."""
    return Workspace(key=f"inputs/{POOL}/request-1/workspace.tar.gz", sha256="e" * 64)
