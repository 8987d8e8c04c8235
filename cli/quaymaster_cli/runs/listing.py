"""Listing runs: of one pool, or of all."""

from dataclasses import dataclass

from quaymaster.domain.api import RunList
from quaymaster.domain.states import RunState

from quaymaster_cli.deployment.client import ApiClient
from quaymaster_cli.runs.showing import took
from quaymaster_cli.showing.output import Output


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which runs are wanted."""

    state: RunState | None
    stack: str | None


def list_one(api: ApiClient, pool: str, wanted: Filter, limit: int, cursor: str | None = None) -> RunList:
    """A page of a pool's runs, newest first."""
    return api.runs(pool, limit, cursor, state=wanted.state, stack=wanted.stack)


def list_all(api: ApiClient, wanted: Filter, limit: int) -> RunList:
    """The newest runs of all pools."""
    found = [run for pool in api.pools().pools for run in list_one(api, pool.id, wanted, limit).runs]
    return RunList(runs=sorted(found, key=lambda run: run.accepted_at, reverse=True)[:limit])


def show_list(output: Output, found: RunList) -> None:
    """Print a list of runs."""
    columns = ("RUN", "STATE", "REASON", "EXIT", "POOL", "REQUEST", "COMMAND", "TYPE", "STACK", "ACCEPTED", "TOOK")
    rows = [
        (
            one.run, one.state, one.reason, one.exit_code, one.pool_name or one.pool, one.request_id,
            " ".join(one.command), one.type, one.stack, one.accepted_at, took(one),
        )
        for one in found.runs
    ]  # fmt: skip
    spare = ("TOOK", "EXIT", "TYPE", "STACK", "REQUEST", "POOL", "COMMAND", "REASON", "ACCEPTED")
    output.table(columns, rows, spare)
    if found.cursor:
        output.note(f"more: --cursor {found.cursor}")
