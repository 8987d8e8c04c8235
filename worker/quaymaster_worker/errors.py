"""What can go wrong in the agent, one class per thing that someone can act on.

AgentError
├── ConfigurationRefused   the agent does not start; says the variable, what was found and what is allowed
├── PreparationFailed      an attempt cannot be prepared; carries the reason for the table
├── PackingFailed          the workspace cannot be left for a later attempt
├── EngineUnreachable      the container engine does not answer
├── EngineRefused          it does, and will not do this
├── StartFailed            the phase's command could not be started; carries the exit code a shell would give
└── UploadError            an object did not reach the store
    ├── GrantRefused       the grant has expired or does not cover the object: ask for a new one
    ├── UploadRefused      the store will not take this object, however often it is sent
    └── UploadFailed       anything that may pass: try again
"""

from enum import IntEnum

from quaymaster.domain.states import Reason


class ExitCode(IntEnum):
    """How the agent's process ends, for whoever restarts it."""

    GOODBYE = 0
    """It was asked to end, and has said so to the control plane."""
    UNREACHABLE = 69
    """`--check` has not reached something that the agent needs."""
    FAILED = 70
    """A defect of the agent itself."""
    NOT_ENDED = 71
    """A process of its last run could not be ended: only the end of the host, or of its task, does that."""
    CYCLED = 75
    """The pool asked its workers to start again: restart it."""
    TAKEN_OVER = 76
    """Another process connected with the same worker id."""
    REJECTED = 77
    """The broker refuses the certificate or its policy: restarting changes nothing."""
    CONFIGURATION_REFUSED = 78
    """A setting is missing or wrong: restarting changes nothing."""


class AgentError(Exception):
    """Base of the agent's own errors."""


class ConfigurationRefused(AgentError):
    """A setting that the agent will not start with."""

    def __init__(self, variable: str, found: str, allowed: str) -> None:
        super().__init__(f"{variable}: found {found}; allowed: {allowed}")
        self.variable = variable
        self.found = found
        self.allowed = allowed


class PreparationFailed(AgentError):
    """An attempt that cannot be prepared."""

    def __init__(self, reason: Reason, note: str) -> None:
        super().__init__(note)
        self.reason = reason
        self.note = note


class PackingFailed(AgentError):
    """The workspace cannot be left for a later attempt; the text says why."""


class EngineUnreachable(AgentError):
    """The container engine does not answer; the text is its transport's."""


class EngineRefused(AgentError):
    """The container engine has answered with an error; `status` is HTTP's, 0 for one in the middle of an answer."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class StartFailed(AgentError):
    """A command that could not be started."""

    def __init__(self, exit_code: int, note: str) -> None:
        super().__init__(note)
        self.exit_code = exit_code
        self.note = note


class UploadError(AgentError):
    """An object that did not reach the store."""


class GrantRefused(UploadError):
    """The store answered 403."""


class UploadRefused(UploadError):
    """The store answered that the request itself is wrong."""


class UploadFailed(UploadError):
    """No answer, or one that may be different next time."""
