"""How a followed run's end becomes an exit code. `docs/operations.md` lists them."""

from quaymaster.domain.states import Reason, RunState

from quaymaster_cli.errors import Unfollowed

TIMED_OUT = 124
"""As timeout(1) has it."""
ENDED_WITHOUT_CODE = Unfollowed.exit_code
"""As where a run could not be followed to its end: no code of the command's is known."""

_TIMEOUTS = frozenset({Reason.LOG_TIMEOUT, Reason.RUN_TIMEOUT, Reason.PREPARE_TIMEOUT})


def exit_code_of(state: RunState, reason: Reason | None, exit_code: int | None) -> int:
    """The command's own exit code where the run ended with one, else what stands for how it ended."""
    if state in (RunState.FINISHED, RunState.UNCONFIRMED):
        # What was to be run before somebody confirms the rest went well.
        return 0
    if reason in _TIMEOUTS:
        return TIMED_OUT
    if state is RunState.FAILED and exit_code and 0 < exit_code < 256:
        return exit_code
    return ENDED_WITHOUT_CODE
