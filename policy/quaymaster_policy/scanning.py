"""What a policy's text says, as far as it takes to find what its engine would notice only where it gets to.

The engine looks at a rule as it evaluates it: a call of a function that does not exist, behind a condition that is not
met, is no error to it, and such a policy would let pass what it is there to refuse.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r]+|\#[^\n]*)
  | (?P<line>\n)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
  | (?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
  | (?P<number>\d[\w.]*)
  | (?P<other>:=|==|!=|<=|>=|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPEN, _CLOSE = "([{", ")]}"
KEYWORDS = frozenset(
    {
        *("as", "default", "else", "every", "contains", "if", "import", "in", "not", "package", "some", "with"),
        *("true", "false", "null", "set", "input", "data", "_"),
    }
)


@dataclass(frozen=True)
class Token:
    """A word of the text, and where it stands, counted from 1."""

    kind: str
    text: str
    line: int
    column: int
    tight: bool
    """Nothing stands between it and the one before."""


@dataclass(frozen=True)
class Call:
    """`name(…)` with so many arguments."""

    name: Token
    arguments: int


@dataclass(frozen=True)
class Rule:
    """A rule: its name, the parameters of a function (None for none), and the tokens of head and body."""

    name: Token
    parameters: int | None
    head: Sequence[Token]
    body: Sequence[Token]


def tokens_of(text: str) -> list[Token]:
    """All but white space and comments; line ends are kept."""
    found: list[Token] = []
    line, start, tight = 1, 0, False
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind not in ("space",):
            found.append(Token(kind, match[0], line, match.start() - start + 1, tight))
        tight = kind not in ("space", "line")
        if ends := match[0].count("\n"):
            line += ends
            start = match.start() + match[0].rindex("\n") + 1
    return found


def package_of(tokens: Sequence[Token]) -> str | None:
    """The name behind `package`, if it is a plain one."""
    words = [token for token in tokens if token.kind != "line"]
    if len(words) > 1 and words[0].text == "package" and words[1].kind == "name":
        return words[1].text
    return None


def calls_in(tokens: Sequence[Token]) -> Iterator[Call]:
    """Every call, of whatever function."""
    for at, token in enumerate(tokens[:-1]):
        following = tokens[at + 1]
        if token.kind == "name" and token.text not in KEYWORDS and following.text == "(" and following.tight:
            yield Call(token, _count(tokens, at + 1))


def rules_in(tokens: Sequence[Token]) -> list[Rule]:
    """The rules of the text, each from the beginning of its line."""
    rules: list[Rule] = []
    statements = _statements(tokens)
    for statement in statements:
        first = statement[0]
        if first.text in {"package", "import"} or first.kind != "name":
            continue
        if first.text == "default":
            continue
        head, body = _parted(statement)
        is_function = len(head) > 1 and head[1].text == "(" and head[1].tight
        rules.append(Rule(first, _count(head, 1) if is_function else None, head, body))
    return rules


def imported(tokens: Sequence[Token]) -> set[str]:
    """Names that imports bring."""
    found: set[str] = set()
    for statement in _statements(tokens):
        if statement[0].text == "import" and len(statement) > 1:
            words = [token.text for token in statement]
            found.add(words[-1] if "as" in words else words[1].rpartition(".")[2])
    return found


def variables_in(tokens: Sequence[Token]) -> Iterator[Token]:
    """Names that stand for values: no keywords, no calls, no keys of objects that are names of fields."""
    for at, token in enumerate(tokens):
        before = tokens[at - 1].text if at else ""
        following = tokens[at + 1] if at + 1 < len(tokens) else None
        if token.kind != "name" or (before == "." and token.tight):
            continue
        if following and following.text == "(" and following.tight:
            continue
        root = token.text.partition(".")[0]
        if root not in KEYWORDS:
            yield Token("name", root, token.line, token.column, token.tight)


def _statements(tokens: Sequence[Token]) -> list[list[Token]]:
    """What begins at the left of the outermost level, up to the next of it."""
    found: list[list[Token]] = []
    depth, fresh = 0, True
    for token in tokens:
        if token.kind == "line":
            fresh = fresh or depth == 0
            continue
        if fresh and depth == 0 and token.text not in {"{", "else", "=", ":=", "if", "contains"}:
            found.append([])
        fresh = False
        if found:
            found[-1].append(token)
        depth += (token.text in _OPEN and token.kind == "other") - (token.text in _CLOSE and token.kind == "other")
    return [statement for statement in found if statement]


def _parted(statement: Sequence[Token]) -> tuple[list[Token], list[Token]]:
    """Head and body: the body begins at `if`, or at the first brace that is no part of the head."""
    depth = 0
    for at, token in enumerate(statement):
        if depth == 0 and token.text == "if":
            return list(statement[:at]), list(statement[at + 1 :])
        if depth == 0 and token.text == "{" and at and statement[at - 1].text not in {"=", ":=", "contains"}:
            return list(statement[:at]), list(statement[at:])
        depth += (token.text in _OPEN and token.kind == "other") - (token.text in _CLOSE and token.kind == "other")
    return list(statement), []


def _count(tokens: Sequence[Token], opening: int) -> int:
    """How many arguments stand in the brackets that open there."""
    depth, commas, anything = 0, 0, False
    for token in tokens[opening:]:
        if token.kind == "other" and token.text in _OPEN:
            depth += 1
            anything = anything or depth > 1
        elif token.kind == "other" and token.text in _CLOSE:
            depth -= 1
            if depth == 0:
                break
        elif depth == 1 and token.text == ",":
            commas += 1
        elif token.kind != "line":
            anything = True
    return commas + 1 if anything else 0
