"""What must hold of every single write, as it is made: what came before it, and who made it."""

from collections.abc import Mapping
from dataclasses import dataclass

from quaymaster.domain.keys import Key
from quaymaster.domain.messages import FromAgent, HandedBack, PhaseFinished, Prepared, Preparing, Renew
from quaymaster.domain.pool import Launch
from quaymaster.domain.run import Run
from quaymaster.domain.states import HELD, NEXT, Reason, RunState
from quaymaster.domain.worker import Worker, WorkerState

from tests.simulation.violation import Invariant, must

ABOUT_A_RUN = (Prepared, Preparing, Renew, PhaseFinished, HandedBack)
LETS_GO = (PhaseFinished, HandedBack)

type Rows = Mapping[Key, Run | Worker | Launch | None]


@dataclass(frozen=True, kw_only=True)
class Word:
    """What an agent said, and who it is by the channel."""

    worker_id: str
    message: FromAgent
    lie: bool = False


def check_change(before: Rows, after: Rows, word: Word | None) -> None:
    """Raises Violation for a transaction that no rule lets through; `word` is what its handler was called with."""
    for key, new in after.items():
        old = before[key]
        if isinstance(new, Run) and isinstance(old, Run) and new != old:
            _check_run(old, new)
            _check_fence(old, word)
        if isinstance(new, Worker) and isinstance(old, Worker) and new != old:
            _check_worker(old, new, word)


def _check_run(old: Run, new: Run) -> None:
    if old.is_final:
        # ECS may say later what a worker was told to end for.
        explained = (old.reason, new.reason) == (Reason.INTERRUPTED, Reason.SPOT_INTERRUPTED)
        same = (old.state, old.attempt) == (new.state, new.attempt) and (explained or old.reason is new.reason)
        must(Invariant.FINAL, same, f"{old.id} was {old.state} ({old.reason}), and is {new.state} ({new.reason})")
    if new.state is not old.state:
        must(Invariant.ALLOWED, new.state in NEXT[old.state], f"{old.id}: {old.state} to {new.state}")
    claimed = old.state is RunState.READY and new.state is RunState.PREPARING
    must(Invariant.ATTEMPT_BY_CLAIM, new.attempt == old.attempt + claimed, f"{old.id}: {old.attempt} to {new.attempt}")
    if old.state in HELD and new.state in HELD:
        same = (old.worker, old.session) == (new.worker, new.session)
        must(Invariant.ONE_HOLDER, same, f"{old.id} went from {old.worker} to {new.worker}")


def _check_fence(old: Run, word: Word | None) -> None:
    """A run that somebody holds is changed by what its holder says of it, and by nothing that others say."""
    if not word or not isinstance(word.message, ABOUT_A_RUN) or old.state not in HELD:
        return
    said = word.message
    # Not by the run's own method: the defects that must be caught here take that apart.
    own = (old.id, old.worker, old.session, old.attempt) == (said.run, word.worker_id, said.session, said.attempt)
    must(
        Invariant.FENCE,
        own,
        f"{type(said).__name__} of {word.worker_id}, session {said.session}, about attempt {said.attempt} of {said.run}"
        f" changed {old.id}, which stood at attempt {old.attempt} of {old.worker}, session {old.session}",
    )


def _check_worker(old: Worker, new: Worker, word: Word | None) -> None:
    must(Invariant.NEWEST_SESSION, new.session >= old.session, f"{old.id}: {old.session} to {new.session}")
    if word and word.worker_id == new.id and hasattr(word.message, "session"):
        stale = word.message.session < old.session and new.state is not old.state
        own_claim = old.state is WorkerState.IDLE and new.state is WorkerState.BUSY
        must(Invariant.FENCE, not stale or own_claim, f"an older session of {old.id} made it {new.state}")
    if old.state is WorkerState.BUSY and new.state is WorkerState.IDLE:
        let_go = word is not None and word.worker_id == new.id and isinstance(word.message, LETS_GO)
        must(Invariant.BUSY_UNTIL_LET_GO, let_go, f"{old.id} is IDLE, and held attempt {old.attempt} of {old.run}")
