"""Dead letters that somebody has chosen: sent again to where they were going, or thrown away.

Sending one again is safe to repeat. A request keeps its id, or gets its letter's, so that it leads to the same run
however often it is sent; wake-ups and events may always come twice. A letter is removed after it was sent, never
before.
"""

from collections.abc import Callable

from quaymaster.dispatcher.dead_letters.resending import Resending, readdress
from quaymaster.dispatcher.dead_letters.showing import content_of, origin_of, show_dead_letter
from quaymaster.domain.api import DeadLetterChoice, DeadLetterDetail, KeptLetter, Purged, Redriven, RedrivenLetter
from quaymaster.errors import NotFound, QuaymasterError
from quaymaster.ports import DeadLetter, Functions, Ports

LOOKED_AT = 200
"""Letters that one call looks at: what it sends again ends within the API's time."""


def find_dead_letter(ports: Ports, name: str) -> DeadLetterDetail:
    """One letter in full. Raises NotFound when it is not among the first `LOOKED_AT`."""
    letter = next((one for one in ports.queue.dead_letters(LOOKED_AT) if one.id == name), None)
    if not letter:
        raise NotFound("dead letter", name)
    try:
        goes_to, kept = readdress(ports, letter).to, None
    except QuaymasterError as error:
        goes_to, kept = None, str(error)
    shown = show_dead_letter(letter, ports.clock())
    return DeadLetterDetail(
        **dict(shown),
        content=content_of(letter),
        # What SQS moved has its sender's attributes, which may be anything.
        attributes={} if letter.moved_from else letter.attributes,
        goes_to=goes_to,
        kept_because=kept,
    )


def redrive(ports: Ports, functions: Functions, choice: DeadLetterChoice) -> Redriven:
    """Send the chosen letters again; one that would only fail once more is kept, with the reason."""
    sent: list[RedrivenLetter] = []
    kept: list[KeptLetter] = []

    def resend(letter: DeadLetter) -> bool:
        try:
            found = readdress(ports, letter)
            _send(ports, functions, found)
        except QuaymasterError as error:
            kept.append(KeptLetter(id=letter.id, reason=str(error)))
            return False
        sent.append(RedrivenLetter(id=letter.id, to=found.to, run=found.run))
        ports.log("dead_letter_redriven", {"letter": letter.id, "to": found.to, "run": found.run})
        return True

    looked = ports.queue.sift_dead_letters(_chosen(choice, resend), LOOKED_AT)
    found = {one.id for one in sent} | {one.id for one in kept}
    return Redriven(redriven=sent, kept=kept, missing=_missing(choice, found), more=looked >= LOOKED_AT)


def purge(ports: Ports, choice: DeadLetterChoice) -> Purged:
    """Throw the chosen letters away."""
    gone: list[str] = []

    def throw_away(letter: DeadLetter) -> bool:
        ports.log("dead_letter_purged", {"letter": letter.id, "source": origin_of(letter).source})
        gone.append(letter.id)
        return True

    looked = ports.queue.sift_dead_letters(_chosen(choice, throw_away), LOOKED_AT)
    return Purged(purged=gone, missing=_missing(choice, set(gone)), more=looked >= LOOKED_AT)


def _chosen(choice: DeadLetterChoice, act: Callable[[DeadLetter], bool]) -> Callable[[DeadLetter], bool]:
    ids = frozenset(choice.ids or ())

    def judge(letter: DeadLetter) -> bool:
        chosen = letter.id in ids or (choice.before is not None and letter.sent_at <= choice.before)
        return chosen and act(letter)

    return judge


def _missing(choice: DeadLetterChoice, found: set[str]) -> list[str]:
    return [name for name in choice.ids or () if name not in found]


def _send(ports: Ports, functions: Functions, found: Resending) -> None:
    if found.function:
        functions.invoke(found.function, found.body)
    else:
        ports.queue.send(found.body)
