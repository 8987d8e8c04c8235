"""What others have written reaches a terminal without controlling it."""

import io
import json
import os
import subprocess
import sys

import pytest
from quaymaster_cli.logs.printing import print_lines
from quaymaster_cli.logs.reader import LogLine
from quaymaster_cli.showing.output import Output
from quaymaster_cli.showing.plain import coloured, visible

from tests.shared.memory.cli_calls import Cli
from tests.shared.memory.run_records import add_run

EVIL = "\x1b[2J\x1b]0;title\x07net\nrun-2\tFINISHED\r\x9b1A\u202egnp"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("net", "net"),
        ("größe 界 😀", "größe 界 😀"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("a\u2028b", "a\\u2028b"),
        ("\x7f\0", "\\x7f\\x00"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain\tand\r100 %", "plain\tand\r100 %"),
        (
            "\x1b[31mred\x1b[0m \x1b[38;5;3mx\x1b[38:2::1:2:3my\x1b[m",
            "\x1b[31mred\x1b[0m \x1b[38;5;3mx\x1b[38:2::1:2:3my\x1b[m",
        ),
        ("\x1b[2J\x1b[Hcleared", "cleared"),
        ("\x1b[?1049hother screen\x1b[?25l", "other screen"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("\x1bP1$r0m\x1b\\b\x1bcreset\x1b7\x1b(0", "breset"),
        ("\x9b2Jc1\x07\x08\x0b\x0c\x7f", "2Jc1"),
        ("cut off \x1b[", "cut off "),
        ("cut off \x1b]0;never ends", "cut off "),
        ("\x1b", ""),
    ],
)
def test_a_line_of_a_log_keeps_its_colours_and_nothing_else_that_controls(line: str, shown: str) -> None:
    assert coloured(line) == shown


def test_a_stack_with_control_characters_forges_no_row() -> None:
    cli = Cli()
    cli.api.pool("red")
    add_run(cli.api, request="one", stack=EVIL)
    listed = cli("run", "list", "--pool", "red")
    assert len(listed.out.splitlines()) == 2
    assert not {"\x1b", "\r", "\x9b", "\u202e"} & set(listed.out)
    shown = cli("run", "show", "one", "--pool", "red")
    assert "\x1b" not in shown.out
    assert "\\x1b[2J" in shown.out


def program(*words: str | bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "quaymaster_cli.main", *words]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)


def test_an_argument_that_is_no_utf8_is_a_mistake_of_the_users() -> None:
    ended = program("run", "show", b"\xff\xfe")
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr == b"quaymaster: argument 3 is not UTF-8: \\udcff\\udcfe\n"


def test_an_encoding_that_lacks_a_character_does_not_end_the_command() -> None:
    url = {"QUAYMASTER_API_URL": "https://größe-界.example.com", "AWS_REGION": "", "AWS_DEFAULT_REGION": ""}
    ended = program("run", "show", "--", "größe-界", PYTHONIOENCODING="ascii", **url)
    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr
    assert b"this is a bug" not in ended.stderr
    assert ended.stderr.startswith(b"quaymaster: no region")
    helped = program("--help", PYTHONIOENCODING="ascii")
    assert (helped.returncode, helped.stderr) == (0, b"")


def test_a_log_reaches_a_pipe_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    line = LogLine(text="\x1b[2J\x1b[31mred\n", raw="{}", agent=False)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    print_lines(iter([line]), Output())
    assert out.getvalue() == "\x1b[2J\x1b[31mred\n"
    monkeypatch.setattr(out, "isatty", lambda: True)
    print_lines(iter([line]), Output())
    assert out.getvalue().endswith("\n\x1b[31mred\n")


def test_a_piece_that_ends_in_the_middle_of_a_colour_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", out)
    pieces = [("a\x1b[3", False), ("1mred\n", False), ("question? ", False), ("the worker's\n", True), ("no", False)]
    print_lines([LogLine(text=text, raw="{}", agent=agent) for text, agent in pieces], Output())
    assert out.getvalue() == "a\x1b[31mred\nquestion? \nno\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["run", "show", "nope"], 1),
        (["run", "start"], 2),
        (["run", "start", "--pool", "red", "--colour", "red", "--", "true"], 2),
        (["run", "list", "--limit", "many"], 2),
        (["run", "list", "--state", "HOT"], 2),
        (["pool", "create", "Red", "--key", "k"], 2),
        (["nonsense"], 2),
    ],
)
def test_every_error_is_one_line_and_json_where_json_was_asked_for(words: list[str], code: int) -> None:
    cli = Cli()
    cli.api.pool("red")
    plain = cli(*words)
    assert (plain.code, plain.out) == (code, "")
    assert len(plain.err.splitlines()) == 1, plain.err
    assert plain.err.startswith("quaymaster: ")
    at = words.index("--") if "--" in words else len(words)
    as_json = cli(*words[:at], "--json", *words[at:])
    assert (as_json.code, as_json.out) == (code, "")
    found = json.loads(as_json.err)
    assert found["exit_code"] == code
    assert found["error"]
