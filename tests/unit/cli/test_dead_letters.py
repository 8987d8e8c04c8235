"""`quaymaster dead-letters`, against the API in memory."""

import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from quaymaster.dispatcher.dead_letters.redrive import LOOKED_AT
from quaymaster.domain import ids
from quaymaster.ports import DeadLetter

from tests.shared.memory.cli_calls import Cli


@pytest.fixture
def cli() -> Cli:
    made = Cli()
    made.api.pool("red")
    return made


def put(cli: Cli, name: str, age: timedelta = timedelta(0), **fields: Any) -> None:
    body = json.dumps({"id": name, "pool": "red", "command": ["true"], **fields})
    attributes = {"reason": "pool: was not there", "source": "requests"}
    sent_at = cli.api.clock() - age
    cli.api.queue.refused.append(DeadLetter(id=f"letter-{name}", sent_at=sent_at, body=body, attributes=attributes))


def left(cli: Cli) -> list[str]:
    return [letter.id for letter in cli.api.queue.refused]


def test_letters_are_listed_with_reason_and_age(cli: Cli) -> None:
    put(cli, "a", timedelta(hours=3))
    header, row = cli("dead-letters", "list").rows
    letter = dict(zip(header, row, strict=True))
    assert (letter["LETTER"], letter["AGE"], letter["REASON"]) == ("letter-a", "3h", "pool: was not there")
    assert cli("dead-letters", "list", "--json").json["dead_letters"][0]["age_seconds"] == 3 * 3600


def test_a_letter_is_shown_with_where_it_would_go(cli: Cli) -> None:
    put(cli, "a", environment={"PASSWORD": "hunter2"})
    put(cli, "b", command=[])
    good, bad = cli("dead-letters", "show", "letter-a"), cli("dead-letters", "show", "letter-b")
    assert "to dispatch-runs" in good.out
    assert "hunter2" not in good.out
    assert "keeps it: command: " in bad.out
    assert cli("dead-letters", "show", "letter-a", "--json").json["goes_to"] == "dispatch-runs"
    unknown = cli("dead-letters", "show", "nope")
    assert (unknown.code, unknown.err) == (1, "quaymaster: no dead letter 'nope'\n")


def test_named_letters_are_redriven_and_twice_changes_nothing(cli: Cli) -> None:
    put(cli, "a")
    put(cli, "b")
    run = ids.run_id(cli.api.call("GET", "/pools/red").body["id"], "a")
    once = cli("dead-letters", "redrive", "letter-a")
    assert (once.code, once.rows[1]) == (0, ["letter-a", "dispatch-runs", run])
    twice = cli("dead-letters", "redrive", "letter-a")
    assert (twice.code, twice.out) == (1, ""), "nothing was redriven"
    assert "may have been redriven or purged already" in twice.err
    assert left(cli) == ["letter-b"]
    assert len(cli.api.queue.take()) == 1


def test_what_is_kept_is_told_and_is_no_success(cli: Cli) -> None:
    put(cli, "a", command=[])
    put(cli, "b")
    ended = cli("dead-letters", "redrive", "--all", "--json")
    assert (ended.code, [one["id"] for one in ended.json["redriven"]]) == (1, ["letter-b"])
    assert ended.err.startswith("kept letter-a: command: ")
    assert left(cli) == ["letter-a"]


def test_all_means_all_of_a_long_queue(cli: Cli) -> None:
    for number in range(2 * LOOKED_AT + 1):
        put(cli, str(number))
    assert len(cli("dead-letters", "redrive", "--all", "--json").json["redriven"]) == 2 * LOOKED_AT + 1
    assert left(cli) == []
    for number in range(LOOKED_AT + 1):
        put(cli, str(number), command=[])
    assert len(cli("dead-letters", "purge", "--all", "--yes", "--json").json["purged"]) == LOOKED_AT + 1


def test_the_old_ones_are_meant_by_their_age(cli: Cli) -> None:
    put(cli, "new", timedelta(hours=1))
    put(cli, "old", timedelta(hours=3))
    assert cli("dead-letters", "purge", "--older-than", "2h", "--yes").out == "letter-old\n"
    assert left(cli) == ["letter-new"]


def test_purging_wants_a_yes_between_programs(cli: Cli) -> None:
    put(cli, "a")
    ended = cli("dead-letters", "purge", "letter-a")
    assert (ended.code, "--yes" in ended.err, left(cli)) == (2, True, ["letter-a"])
    assert cli("dead-letters", "purge", "letter-a", "--yes").code == 0
    assert left(cli) == []
    again = cli("dead-letters", "purge", "letter-a", "--yes")
    assert (again.code, "no dead letter 'letter-a'" in again.err) == (1, True)


@pytest.mark.parametrize("words", [("redrive", "--all"), ("purge", "--all", "--yes"), ("purge", "--all"),
                                   ("redrive", "--older-than", "1h")])  # fmt: skip
def test_where_there_is_nothing_it_is_an_error(cli: Cli, words: tuple[str, ...]) -> None:
    if "--older-than" in words:
        put(cli, "a")
    ended = cli("dead-letters", *words)
    assert (ended.code, ended.err.startswith("quaymaster: there are no dead letters")) == (1, True), ended.err


@pytest.mark.parametrize(("answer", "code", "gone"), [(True, 0, True), (False, 1, False)])
def test_purging_asks_on_a_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, answer: bool, code: int, gone: bool
) -> None:
    put(cli, "a")
    asked: list[str] = []

    def confirm(text: str, *, err: bool) -> bool:
        asked.append(text)
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)
    assert cli("dead-letters", "purge", "--all").code == code
    assert asked == ["Throw 1 letters away?"]
    assert (left(cli) == []) is gone


@pytest.mark.parametrize(
    "words", [(), ("letter-a", "--all"), ("--all", "--older-than", "1h"), ("--older-than", "soon")]
)
@pytest.mark.parametrize("verb", [("redrive",), ("purge", "--yes")])
def test_which_letters_are_meant_has_to_be_said_in_one_way(
    cli: Cli, verb: tuple[str, ...], words: tuple[str, ...]
) -> None:
    put(cli, "a")
    assert cli("dead-letters", *verb, *words).code == 2
    assert left(cli) == ["letter-a"]
