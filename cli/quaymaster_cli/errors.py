"""What ends a command: one line for a person, and an exit code for a program.

CliError
├── Usage         the command line itself cannot work              2
├── ApiRefused    the API answered with an error          1, or 2 for input that is wrong
│   └── Unknown   what was named does not exist                    1
├── Unreachable   no credentials, no such deployment               1
│   └── Disconnected   the network does not work                   1
├── LogLost       a log cannot be read                             1
├── Unfollowed    a run was started and cannot be followed       125
└── Interrupted   Ctrl-C                                         130
"""

_WRONG_INPUT = frozenset({400, 413, 422})


class CliError(Exception):
    """Base of all errors that end a command; its text is the line that is shown."""

    exit_code = 1


class Usage(CliError):
    """The command line cannot work as it was written."""

    exit_code = 2


class ApiRefused(CliError):
    """The API answered with an error; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        if status in _WRONG_INPUT:
            # The same mistake has the same exit code, whoever notices it.
            self.exit_code = Usage.exit_code


class Unknown(ApiRefused):
    """The API does not know what was named."""


class Unreachable(CliError):
    """The deployment cannot be found, reached or signed for."""


class Disconnected(Unreachable):
    """The network does not work, or does not now."""


class LogLost(CliError):
    """A log's object cannot be read."""


class Unfollowed(CliError):
    """How a run ended is not known here: no exit code that its command might have had."""

    exit_code = 125


class Interrupted(CliError):
    """The user pressed Ctrl-C."""

    exit_code = 130

    def __init__(self, left: str = "what was started goes on") -> None:
        super().__init__(f"interrupted; {left}")
