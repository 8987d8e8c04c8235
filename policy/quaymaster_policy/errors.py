"""What can be wrong with a policy: where, and what."""


class PolicyRefused(Exception):
    """A policy that nothing is decided by. `line` and `column` count from 1; 0 where no place can be named."""

    def __init__(self, file: str, what: str, line: int = 0, column: int = 0) -> None:
        where = f"{file}:{line}:{column}" if line else file
        super().__init__(f"{where}: {what}")
        self.file = file
        self.what = what
        self.line = line
        self.column = column


class EngineMissing(PolicyRefused):
    """No engine for Rego can be installed on this kind of machine."""
