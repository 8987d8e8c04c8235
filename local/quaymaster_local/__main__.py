"""`python -m quaymaster_local up|down|status`, for where the `quaymaster` command line is not installed."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from quaymaster_local.cloud import DEFAULT_NAME, down, status, up
from quaymaster_local.errors import LocalCloudError
from quaymaster_local.progress import tell_on_stderr


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns 0, or 1 after an error told on standard error (for `status`: when it is not up)."""
    parser = argparse.ArgumentParser(prog="quaymaster_local", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--name", default=DEFAULT_NAME, help="several local clouds have different names")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    options = parser.parse_args(arguments)
    try:
        return {"up": _up, "down": _down, "status": _status}[options.command](options.name, options.json)
    except LocalCloudError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing is left", file=sys.stderr)
        return 130


def _up(name: str, as_json: bool) -> int:
    deployment = up(name, tell=tell_on_stderr)
    if as_json:
        print(json.dumps(asdict(deployment)))
    else:
        print("\n".join(f"export {key}={value}" for key, value in deployment.environment().items()))
    return 0


def _down(name: str, as_json: bool) -> int:
    down(name)
    if as_json:
        print(json.dumps({"name": name, "state": "down"}))
    return 0


def _status(name: str, as_json: bool) -> int:
    found = status(name)
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        print(f"{name}: {found.state}")
    return 0 if found.state == "up" else 1


if __name__ == "__main__":
    sys.exit(main())
