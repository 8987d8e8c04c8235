"""Text of others on a terminal: nothing in it moves the cursor, clears the screen or forges a line."""

import re

# C0 and C1, the line separators, and what turns the direction of reading (Unicode, "Bidirectional Character Types").
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# ECMA-48: a control sequence, of which SGR (`m`) only colours; a string (OSC, DCS, APC, PM, SOS); any other escape.
_SEQUENCE = re.compile(
    "(?P<colour>\x1b\\[[0-9;:]*m)"
    "|\x1b\\[[0-?]*[ -/]*[@-~]?"
    "|\x1b[\\]PX^_](?:[^\x07\x1b]|\x1b(?!\\\\))*(?:\x07|\x1b\\\\)?"
    "|\x1b[ -/]*[0-~]?"
    "|[\0-\x08\x0a-\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"
)


def visible(text: str) -> str:
    """Text of one cell or line, its control characters written out: names come from whoever sent a request."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def coloured(line: str) -> str:
    """A line of a log as a terminal may show it: of what controls, colours, tabs and carriage returns stay."""
    return _SEQUENCE.sub(lambda found: found["colour"] or "", line)
