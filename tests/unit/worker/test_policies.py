"""Policies: what is wrong is refused with its place before anything is decided, and what is denied is told."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from quaymaster.domain.messages import Executor, ImageRule, ImageUsed, PhaseOrder
from quaymaster.domain.states import Reason
from quaymaster_policy.engine import Query
from quaymaster_policy.errors import EngineMissing, PolicyRefused
from quaymaster_policy.policy import FIELDS, check_policy, read_policy, samples
from quaymaster_worker.errors import PreparationFailed
from quaymaster_worker.phase.policies import check, document_of
from quaymaster_worker.protocol.state.held import Identity

from tests.unit.worker.test_protocol import assignment

V0, V1 = "package spacelift\n", "package quaymaster\nimport rego.v1\n"

BROKEN = {
    "a brace that is not closed": (V0 + 'deny["no"] { input.run.type == "x"\n', (3, 1), "expecting `}`"),
    "half a condition": (V0 + 'deny["no"] { input.run.type == \n}\n', (2, 12), "expecting }"),
    "no package": ('deny["x"] { true }\n', (1, 1), "package"),
    "nothing at all": ("", (1, 1), "package"),
    "bytes": ("\0\1\2", (1, 1), "package"),
    "no if where there must be one": (V1 + 'deny contains "x" { true }\n', (3, 19), "`if` keyword is required"),
    "an unknown function": (V0 + 'deny["no"] { nosuch(input.run.type) }\n', (2, 14), "could not find function nosuch"),
    "one behind a condition that is never met": (
        V0 + 'deny["no"] { input.run.type == "never"; nosuch(1) }\n', (2, 41), "could not find function nosuch",
    ),
    "one in a function that nobody calls": (
        V1 + 'deny contains "x" if false\nf(x) := y if { y := nosuch(x) }\n', (4, 21), "could not find function nosuch",
    ),
    "too few arguments": (V0 + 'deny["x"] { false; startswith("a") }\n', (2, 20), "`startswith` expects 2 arguments"),
    "an unsafe message": (V0 + 'deny[msg] { input.run.type == "task" }\n', (2, 6), "var msg is unsafe"),
    "one behind a condition": (V0 + "deny[msg] { false; input.image }\n", (2, 6), "var msg is unsafe"),
    "an unsafe variable": (V0 + 'deny["x"] { false; y > 3 }\n', (2, 20), "`y` is unsafe"),
    "one that is only negated": (V0 + 'deny["x"] { not y == 3 }\n', (2, 17), "`y` is unsafe"),
    "one in a rule that nobody needs": (V0 + 'deny["x"] { false }\nhelper["y"] { z > 3 }\n', (3, 15), "`z` is unsafe"),
    "one in a function": (V0 + 'deny["x"] { false }\nf(x) = y { y := q }\n', (3, 17), "unsafe"),
    "a rule that is not there": (V0 + 'deny["x"] { nothere }\n', (2, 13), "`nothere` is unsafe"),
    "rules that need each other": (V0 + 'deny["x"] { a }\na { b }\nb { a }\n', (3, 1), "recursion"),
    "other data": (V0 + 'deny["x"] { data.other.y }\n', (2, 13), "data.other.y is not there"),
    "an import of other data": (V0 + 'import data.lib.foo\ndeny["x"] { foo.bar }\n', (2, 8), "data.lib.foo is not"),
    "a field that no input has": (V0 + 'deny["x"] { input.rum.type == "task" }\n', (2, 13), "input has no rum"),
    "what asks the world": (V0 + 'deny["x"] { http.send({"url": "http://x"}) }\n', (2, 13), "http.send is not there"),
    "no deny": (V0 + "allow { true }\n", (0, 0), "found no rule `deny`"),
    "a deny that is a function": (V0 + "deny(x) = y { y := x }\n", (0, 0), "found no rule `deny`"),
    "a deny that is true or false": (V0 + "deny { true }\n", (0, 0), "deny is bool"),
    "a deny that may be one": (V0 + 'deny { input.run.type == "never" }\n', (0, 0), "deny is nothing"),
    "a deny that is one text": (V0 + 'deny = "no" { true }\n', (0, 0), "deny is str"),
    "a pattern that is none": (V0 + 'deny["x"] { regex.match("(", "a") }\n', (2, 26), "invalid regex"),
    "a variable given twice": (V0 + 'deny["x"] { a := 1; a := 2 }\n', (2, 13), "used before definition"),
}  # fmt: skip
GOOD: dict[str, tuple[str, list[str]]] = {
    "v0": (V0 + 'deny["no tasks"] { input.run.type == "task" }\n', ["no tasks"]),
    "v1": (V1 + 'deny contains "no tasks" if input.run.type == "task"\n', ["no tasks"]),
    "v1 without the import": ('package p\ndeny contains "no tasks" if input.run.type == "task"\n', ["no tasks"]),
    "several lines": (
        V0
        + "# nosuch(1), and { not closed\n"
        + 'deny[msg] {\n  input.run.type == "task"\n  msg := sprintf("no %s", [input.run.type])\n}\n'
        + 'allowed = {"a", "b"}\ndeny["image"] { not allowed[input.image] }\n',
        ["image", "no task"],
    ),
    "a function": (V1 + 'f(x) := y if { y := x + 1 }\ndeny contains "x" if f(1) == 2\n', ["x"]),
    "an else": (
        V0 + 'level = "a" { input.run.type == "x" } else = "b" { true }\ndeny["x"] { level == "b" }\n', ["x"],
    ),
    "a comprehension": (
        V1 + 'deny contains msg if {\n  xs := [n | some n in input.environment; startswith(n, "AWS")]\n'
        '  count(xs) > 0\n  msg := concat(" ", xs)\n}\n', ["AWS_PROFILE"],
    ),
    "phases": (
        V1 + 'deny contains "destroys" if {\n  some phase in input.run.phases\n  "-destroy" in phase.command\n}\n',
        ["destroys"],
    ),
    "a message that is no text": (V0 + 'deny[{"a": 1}] { true }\n', ['{"a": 1}']),
    "words that look like calls": (V0 + 'deny["nosuch(1) {"] { true }\n', ["nosuch(1) {"]),
    "metadata": (V1 + 'deny contains "no ticket" if not input.metadata.ticket\n', ["no ticket"]),
    "what nothing speaks against": (V0 + 'deny["x"] { input.run.type == "drift" }\n', []),
}  # fmt: skip


def document() -> dict[str, Any]:
    assign = assignment().model_copy(update={"type": "task", "tool": "terraform"})
    phase = PhaseOrder(
        name="plan", command=["terraform", "plan", "-destroy"], log_timeout_seconds=1, run_timeout_seconds=1
    )
    identity = Identity(worker_id="ns.P.W", session="s", agent_version="1", executor=Executor.DOCKER)
    image = ImageUsed(name="tool:1", rule=ImageRule.POOL)
    return dict(document_of(assign, [phase], ["AWS_PROFILE"], image, identity))


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_refused_with_file_line_and_column(name: str) -> None:
    text, place, what = BROKEN[name]
    with pytest.raises(PolicyRefused) as refused:
        check_policy(text, "policy.rego")
    assert (refused.value.line, refused.value.column) == place
    assert what in refused.value.what
    assert str(refused.value).startswith("policy.rego:" + (f"{place[0]}:{place[1]}: " if place[0] else " "))


@pytest.mark.parametrize("name", GOOD)
def test_what_is_in_order_decides(name: str) -> None:
    text, expected = GOOD[name]
    assert check_policy(text, "policy.rego").objections(document()) == expected


def test_what_cannot_be_evaluated_denies() -> None:
    policy = check_policy(V1 + 'deny contains "x" if count(input.metadata) > 3\n', "policy.rego")
    (objection,) = policy.objections(document() | {"metadata": 5})
    assert objection.startswith("the policy cannot be evaluated: policy.rego:3:")


def test_an_input_has_the_fields_that_a_policy_may_name() -> None:
    assert set(document()) <= set(FIELDS)
    assert {field for sample in samples() for field in sample} == set(FIELDS)
    assert document()["run"].keys() == samples()[0]["run"].keys()
    assert document()["worker"].keys() == samples()[0]["worker"].keys()
    assert "command" in document()["run"]["phases"][0]


def test_a_denied_run_fails_with_what_speaks_against_it() -> None:
    policy = check_policy(V0 + 'deny["one"] { true }\ndeny["two"] { true }\n', "policy.rego")
    said: list[str] = []
    with pytest.raises(PreparationFailed) as failed:
        check(policy, document(), said.append)
    assert said == ["denied: one; two"]
    assert (failed.value.reason, failed.value.note) == (Reason.POLICY_DENIED, "one; two")
    check(check_policy(GOOD["what nothing speaks against"][0], "policy.rego"), document(), said.append)


def test_a_file_is_text_and_not_too_large(tmp_path: Path) -> None:
    file = tmp_path / "policy.rego"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyRefused, match="no text in UTF-8"):
        read_policy(file)
    file.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(PolicyRefused, match="at most 1048576"):
        read_policy(file)


def test_where_no_engine_is_a_policy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opa_eval", None)
    with pytest.raises(EngineMissing, match="no engine for Rego"):
        check_policy(GOOD["v1"][0], "policy.rego")


def test_nothing_of_it_stays_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert Query(GOOD["v0"][0], "data.spacelift.deny", "p").answer(json.loads(json.dumps(document()))) == ["no tasks"]
    assert list(tmp_path.iterdir()) == []
    shutil.rmtree(tmp_path)
