"""What AWS says of tasks that did not come up, and what it means: one table, read from above, the first row that fits.

ECS has codes for few of these; of the rest only the text tells. Marks are parts of that text in lower case, all of
which must be in it. A row without marks is what is left. An example has the form of what AWS says, and is quoted
only where its page has it; a source is the page on that kind of failure, not proof of the row's wording.
"""

from dataclasses import dataclass
from enum import StrEnum

from quaymaster.domain.states import Reason
from quaymaster.domain.trouble import TroubleKind

LATE = "quaymaster: no worker came of it"
"""The reason that a task is stopped with when it runs, but has not become a worker in time."""


class Said(StrEnum):
    """Where AWS says it."""

    STOP_CODE = "stopCode"
    REASON = "stoppedReason, or a container's reason"
    EXIT_CODE = "the worker container's exit code"
    FAILURE = "a failure in RunTask's answer"
    ERROR = "an error of a call"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is said, what sort of trouble it is, and what a run would end with for it."""

    said: Said
    marks: tuple[str, ...]
    kind: TroubleKind
    reason: Reason
    example: str
    source: str

    def fits(self, text: str) -> bool:
        """Whether a text in lower case is one of these; an exit code is one of the marks, or is not."""
        if self.said is Said.EXIT_CODE:
            return text in self.marks
        return all(mark in text for mark in self.marks)


_GUIDE = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide"
_CODES = f"{_GUIDE}/stopped-task-error-codes.html"
_PULL = f"{_GUIDE}/task_cannot_pull_image.html"
_RESOURCES = f"{_GUIDE}/resource-initialization-error.html"
_FAILURES = f"{_GUIDE}/api_failures_messages.html"
_TASK = "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html"
_RUN_TASK = "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html"
_ENDED = "https://repost.aws/knowledge-center/ecs-task-stopped"
_CAPACITY = "https://repost.aws/knowledge-center/ecs-fargate-runtask-capacity"


def _capacity(said: Said, mark: str, example: str, source: str) -> Row:
    kind, reason = TroubleKind.CAPACITY, Reason.NO_CAPACITY
    return Row(said=said, marks=(mark,), kind=kind, reason=reason, example=example, source=source)


def _pull_passes(mark: str, cause: str) -> tuple[Row, Row]:
    """A cause for which an image cannot be pulled for a while, in both forms in which ECS puts it."""
    code, words = (
        Row(
            said=Said.REASON,
            marks=(pull, mark),
            kind=TroubleKind.PASSING,
            reason=Reason.IMAGE_PULL,
            example=f"{example}: {cause}",
            source=_PULL,
        )
        for pull, example in (("cannotpull", "CannotPullContainerError"), ("pull image", "failed to pull image"))
    )
    return code, words


def _passes(mark: str, example: str, source: str = _CODES, said: Said = Said.REASON) -> Row:
    kind, reason, marks = TroubleKind.PASSING, Reason.START_FAILED, (mark,) if mark else ()
    return Row(said=said, marks=marks, kind=kind, reason=reason, example=example, source=source)


def _stays(mark: str, example: str, source: str, reason: Reason = Reason.START_FAILED, said: Said = Said.REASON) -> Row:
    kind, marks = TroubleKind.PERMANENT, (mark,) if mark else ()
    return Row(said=said, marks=marks, kind=kind, reason=reason, example=example, source=source)


def _ends_with(kind: TroubleKind, source: str, *codes: str, reason: Reason = Reason.START_FAILED) -> Row:
    """What a container that ran, and ended before it was a worker, ended with."""
    return Row(said=Said.EXIT_CODE, marks=codes, kind=kind, reason=reason, example=codes[0], source=source)


STOPPED: tuple[Row, ...] = (
    _capacity(Said.STOP_CODE, "spotinterruption", "SpotInterruption", _TASK),
    _capacity(Said.STOP_CODE, "terminationnotice", "TerminationNotice", _TASK),
    _capacity(Said.REASON, "capacity is unavailable", "Capacity is unavailable at this time.", _CAPACITY),
    _capacity(Said.REASON, "capacity unavailable", "Fargate Spot capacity unavailable", _CAPACITY),
    _capacity(Said.REASON, "insufficient capacity", "There is insufficient capacity", _CAPACITY),
    _stays("outofmemory", "OutOfMemoryError: Container killed due to memory usage", _CODES, Reason.OUT_OF_MEMORY),
    # Pulling an image: what is the network's or the registry's hour passes, whatever else stays.
    *_pull_passes("i/o timeout", "pull: dial tcp 10.0.0.1:443: i/o timeout"),
    *_pull_passes("eof", "read tcp: unexpected EOF"),
    *_pull_passes("connection reset", "read: connection reset by peer"),
    *_pull_passes("connection refused", "dial tcp: connect: connection refused"),
    *_pull_passes("tls handshake timeout", "net/http: TLS handshake timeout"),
    *_pull_passes("deadline exceeded", "context deadline exceeded"),
    *_pull_passes("request canceled", "request canceled while waiting for connection"),
    *_pull_passes("timed out", "the registry timed out"),
    *_pull_passes("host is unreachable", "dial tcp: no route, host is unreachable"),
    *_pull_passes("toomanyrequests", "toomanyrequests: You have reached your pull rate limit"),
    *_pull_passes("too many requests", "429 Too Many Requests"),
    *_pull_passes("rate exceeded", "ecr: Rate exceeded"),
    *_pull_passes("throttl", "ThrottlingException"),
    *_pull_passes("service unavailable", "503 Service Unavailable"),
    *_pull_passes("internal server error", "500 Internal Server Error"),
    _stays("cannotpull", "CannotPullContainerError: manifest for image:1 not found", _PULL, Reason.IMAGE_PULL),
    _stays(
        "pull image",
        "failed to pull image: no match for platform in manifest",
        _PULL,
        Reason.IMAGE_PULL,
    ),
    # Before its container: the network, the addresses, the secrets and logs that it needs.
    _passes("timeout waiting for network interface", "Timeout waiting for network interface provisioning to complete."),
    _passes(
        "insufficientfreeaddressesinsubnet",
        "Unexpected EC2 error while attempting to Create Network Interface: InsufficientFreeAddressesInSubnet",
    ),
    _passes("i/o timeout", "ResourceInitializationError: unable to pull secrets: dial tcp: i/o timeout", _RESOURCES),
    _passes("eof", "ResourceInitializationError: unexpected EOF", _RESOURCES),
    _passes("connection reset", "ResourceInitializationError: connection reset by peer", _RESOURCES),
    _passes("connection refused", "ResourceInitializationError: connection refused", _RESOURCES),
    _passes("tls handshake timeout", "ResourceInitializationError: TLS handshake timeout", _RESOURCES),
    _passes("deadline exceeded", "ResourceInitializationError: context deadline exceeded", _RESOURCES),
    _passes("request canceled", "ResourceInitializationError: request canceled", _RESOURCES),
    _passes("timed out", "ContainerRuntimeTimeoutError: Could not transition to running; timed out after waiting 1m"),
    _passes("host is unreachable", "ResourceInitializationError: host is unreachable", _RESOURCES),
    _passes("toomanyrequests", "ResourceInitializationError: TooManyRequestsException", _RESOURCES),
    _passes("too many requests", "ResourceInitializationError: 429 Too Many Requests", _RESOURCES),
    _passes("rate exceeded", "ResourceInitializationError: unable to pull secrets: Rate exceeded", _RESOURCES),
    _passes("throttl", "ResourceInitializationError: ThrottlingException", _RESOURCES),
    _passes("service unavailable", "ResourceInitializationError: 503 Service Unavailable", _RESOURCES),
    _passes("internal server error", "ResourceInitializationError: 500 Internal Server Error", _RESOURCES),
    _stays("accessdenied", "ResourceInitializationError: unable to pull secrets: AccessDeniedException", _RESOURCES),
    _stays(
        "not authorized",
        "ResourceInitializationError: User is not authorized to perform: ssm:GetParameters",
        _RESOURCES,
    ),
    _stays("unable to assume", "ECS was unable to assume the role that was provided for this task.", _CODES),
    _stays(
        "resourceinitializationerror", "ResourceInitializationError: invalid parameters: /quaymaster/token", _RESOURCES
    ),
    # Its container: a size, a command or an architecture that cannot work.
    _stays("exec format error", "exec /usr/bin/quaymaster-agent: exec format error", _CODES),
    _stays("cannotcreatecontainer", "CannotCreateContainerError: API error (400): invalid parameter", _CODES),
    _stays("cannotstartcontainer", "CannotStartContainerError: failed to get container status", _CODES),
    _stays("cannotinspectcontainer", "CannotInspectContainerError: no such container", _CODES),
    _stays(LATE, LATE, "dispatcher/tasks/follow.py"),
    # It ran and ended before it was a worker. Of the agent's own codes: its configuration, or the broker's refusal.
    _ends_with(TroubleKind.PERMANENT, "worker/quaymaster_worker/errors.py", "77", "78"),
    # The shell's codes for a program that is not there; the kernel's SIGKILL, mostly for memory; a SIGTERM.
    _ends_with(TroubleKind.PERMANENT, _ENDED, "126", "127"),
    _ends_with(TroubleKind.PERMANENT, _ENDED, "137", reason=Reason.OUT_OF_MEMORY),
    _ends_with(TroubleKind.PASSING, _ENDED, "143"),
    # With any other, the next one would end the same way.
    _stays("essentialcontainerexited", "EssentialContainerExited", _TASK, said=Said.STOP_CODE),
    # Of every hundred tasks one fails to start, for nothing that anybody could change.
    _passes("", "TaskFailedToStart", _TASK, said=Said.STOP_CODE),
)
"""Of a stopped task."""

REFUSED: tuple[Row, ...] = (
    _capacity(Said.FAILURE, "agent", "AGENT", _FAILURES),
    _capacity(Said.FAILURE, "resource:", "RESOURCE:ENI", _FAILURES),
    _capacity(Said.FAILURE, "capacity", "Capacity is unavailable at this time.", _CAPACITY),
    _stays("", "MISSING", _FAILURES, said=Said.FAILURE),
)
"""Of a failure in RunTask's answer."""

CALLS: tuple[Row, ...] = (
    _capacity(
        Said.ERROR,
        "capacity is unavailable",
        "RunTask: ClientException: Capacity is unavailable at this time.",
        _CAPACITY,
    ),
    Row(
        said=Said.ERROR,
        marks=("throttling",),
        kind=TroubleKind.THROTTLED,
        reason=Reason.START_FAILED,
        example="RunTask: InvalidParameterException: Error retrieving security group information: Throttling",
        source=_RUN_TASK,
    ),
    _stays("", "RunTask: InvalidParameterException: Subnets can not be empty.", _RUN_TASK, said=Said.ERROR),
)
"""Of an error that a call got and that is not the service's own (those pass): two of the passing ones have no code."""


def refusal_of(reason: str) -> Row:
    """What a failure in RunTask's answer means; the last row fits everything."""
    return next(row for row in REFUSED if row.fits(reason.lower()))


def error_of(text: str) -> Row:
    """What an error means, by its code and its message; the last row fits everything."""
    return next(row for row in CALLS if row.fits(text.lower()))
