"""Routes about dead letters."""

from typing import Annotated

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver
from aws_lambda_powertools.event_handler.openapi.params import Path

from quaymaster.dispatcher.dead_letters import redrive
from quaymaster.dispatcher.dead_letters.showing import show_dead_letter
from quaymaster.domain.api import DeadLetterChoice, DeadLetterDetail, DeadLetterList, Purged, Redriven
from quaymaster.ports import Functions, Ports

SHOWN = 100
LetterId = Annotated[str, Path(description="A dead letter's id")]


def add_dead_letter_routes(app: LambdaFunctionUrlResolver, ports: Ports, functions: Functions) -> None:
    """Everything below `/dead-letters`."""

    @app.get("/dead-letters", summary="Input that nothing came of, and why")
    def list_letters() -> DeadLetterList:  # pyright: ignore[reportUnusedFunction]
        now = ports.clock()
        letters = ports.queue.dead_letters(SHOWN)
        return DeadLetterList(at=now, dead_letters=[show_dead_letter(letter, now) for letter in letters])

    @app.get("/dead-letters/<letter>", summary="A dead letter")
    def show(letter: LetterId) -> DeadLetterDetail:  # pyright: ignore[reportUnusedFunction]
        return redrive.find_dead_letter(ports, letter)

    @app.post("/dead-letters/redrive", summary="Send dead letters again; repeating it changes nothing")
    def send_again(request: DeadLetterChoice) -> Redriven:  # pyright: ignore[reportUnusedFunction]
        return redrive.redrive(ports, functions, request)

    @app.post("/dead-letters/purge", summary="Throw dead letters away")
    def throw_away(request: DeadLetterChoice) -> Purged:  # pyright: ignore[reportUnusedFunction]
        return redrive.purge(ports, request)
