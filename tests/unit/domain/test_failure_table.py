"""The table of failures: each row is reached by what AWS says of it, and the rows before it do not stand in its way."""

import pytest
from quaymaster.domain.failure_table import CALLS, LATE, REFUSED, STOPPED, Row, Said, error_of, refusal_of
from quaymaster.domain.states import Reason
from quaymaster.domain.stopped_tasks import Words, judge_start, row_of
from quaymaster.domain.trouble import TroubleKind

ALL = [*STOPPED, *REFUSED, *CALLS]


def words(row: Row) -> list[Words]:
    """An event that says it: with its container, and, of a reason, without any."""
    if row.said is Said.EXIT_CODE:
        code, reason = "EssentialContainerExited", "Essential container in task exited"
        return [Words(exit_code=int(mark), stop_code=code, stopped_reason=reason) for mark in row.marks]
    if row.said is Said.STOP_CODE:
        return [Words(stop_code=row.example), Words(stop_code=row.example, stopped_reason="Task stopped")]
    codes = ("", "TaskFailedToStart")
    return [
        *(Words(stop_code=code, stopped_reason=row.example) for code in codes),
        *(Words(stop_code=code, container_reason=row.example) for code in codes),
    ]


@pytest.mark.parametrize("row", STOPPED, ids=lambda row: row.example[:60])
def test_each_row_of_stopped_tasks_is_reached_by_its_example(row: Row) -> None:
    for said in words(row):
        assert row_of(said) is row
        failure = judge_start(said)
        assert (failure.kind, failure.reason) == (row.kind, row.reason)


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.example)
def test_each_row_of_refusals_is_reached_by_its_example(row: Row) -> None:
    assert refusal_of(row.example) is row


@pytest.mark.parametrize("row", CALLS, ids=lambda row: row.example[:60])
def test_each_row_of_errors_is_reached_by_its_example(row: Row) -> None:
    assert error_of(row.example) is row


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.example[:60])
def test_each_row_says_where_it_is_written(row: Row) -> None:
    assert row.source.startswith(("https://docs.aws.amazon.com/", "https://repost.aws/", "dispatcher/", "worker/"))
    assert all(mark == mark.lower() for mark in row.marks)


def test_only_the_last_row_of_each_part_fits_everything() -> None:
    for part in (STOPPED, REFUSED, CALLS):
        assert [row for row in part if not row.marks] == [part[-1]]


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        # Secrets are pulled, too; that is no image.
        ("ResourceInitializationError: unable to pull secrets: i/o timeout", TroubleKind.PASSING, Reason.START_FAILED),
        ("failed to pull image: unexpected EOF", TroubleKind.PASSING, Reason.IMAGE_PULL),
        ("CannotPullContainerError: access denied", TroubleKind.PERMANENT, Reason.IMAGE_PULL),
        ("something that nobody has seen yet", TroubleKind.PASSING, Reason.START_FAILED),
    ],
)
def test_what_looks_alike_is_told_apart(said: str, kind: TroubleKind, reason: Reason) -> None:
    failure = judge_start(Words(stopped_reason=said))
    assert (failure.kind, failure.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (78, TroubleKind.PERMANENT, Reason.START_FAILED),
        (137, TroubleKind.PERMANENT, Reason.OUT_OF_MEMORY),
        (143, TroubleKind.PASSING, Reason.START_FAILED),
        (1, TroubleKind.PERMANENT, Reason.START_FAILED),
        (7, TroubleKind.PERMANENT, Reason.START_FAILED),
        (0, TroubleKind.PERMANENT, Reason.START_FAILED),
        (None, TroubleKind.PERMANENT, Reason.START_FAILED),
    ],
)
def test_a_container_that_ended_is_judged_by_its_exit_code(code: int | None, kind: TroubleKind, reason: Reason) -> None:
    words = Words(
        stop_code="EssentialContainerExited", stopped_reason="Essential container in task exited", exit_code=code
    )
    failure = judge_start(words)
    assert (failure.kind, failure.reason) == (kind, reason)
    assert failure.note.endswith("exited" if code is None else f"exited (exit code {code})")


def test_who_stopped_a_task_is_asked_before_how_it_ended() -> None:
    assert judge_start(Words(stop_code="SpotInterruption", exit_code=137)).kind is TroubleKind.CAPACITY
    late = judge_start(Words(stop_code="UserInitiated", stopped_reason=LATE, exit_code=137))
    assert (late.kind, late.reason) == (TroubleKind.PERMANENT, Reason.START_FAILED)


def test_what_runs_a_spot_or_a_drought_into_nothing_is_capacity() -> None:
    assert {row.kind for row in ALL if row.reason is Reason.NO_CAPACITY} == {TroubleKind.CAPACITY}
    assert all(row.reason is Reason.NO_CAPACITY for row in ALL if row.kind is TroubleKind.CAPACITY)
