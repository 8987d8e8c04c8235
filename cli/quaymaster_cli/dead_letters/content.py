"""Showing a dead letter's content as what it is: whoever sent it may have sent anything."""

import json
import sys

from quaymaster_cli.showing.output import Output
from quaymaster_cli.showing.plain import visible


def kind_of(content: str) -> str:
    """What a content is, and how much of it there is."""
    size = len(content.encode(errors="replace"))
    try:
        json.loads(content)
    except ValueError:
        return f"text of {size} bytes, no JSON"
    return f"JSON of {size} bytes"


def show_content(output: Output, content: str) -> None:
    """Print it: into a pipe as it is; on a terminal JSON in its structure, else with its control characters shown."""
    if not sys.stdout.isatty():
        output.say(content)
        return
    try:
        shown = json.dumps(json.loads(content), indent=2, ensure_ascii=False)
    except ValueError:
        shown = content
    for line in shown.split("\n"):
        output.say(visible(line))
