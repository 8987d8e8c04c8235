"""Finding a run by what people have of it: its id, its beginning, or its request's id, with or without the pool."""

import re

from quaymaster.domain.api import RunSummary, RunView
from quaymaster.domain.ids import run_id

from quaymaster_cli.deployment.client import ApiClient
from quaymaster_cli.errors import Unknown, Usage

SHORTEST = 4
"""Characters of an id that are enough to look for a run by them."""
SEARCHED = 200
"""Of the newest runs of each pool, so many are looked through for a shortened id."""
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)
_BEGINNING = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{3,24}", re.IGNORECASE)


def find_run(api: ApiClient, name: str, pool: str | None) -> RunView:
    """A run. Raises Unknown, which names what was asked for, and Usage if several runs could be meant."""
    found = _by_id(api, name, pool) or _by_request(api, name, pool) or _by_beginning(api, name, pool)
    if not found:
        where = f" in pool {pool!r}" if pool else ""
        raise Unknown(f"no run {name!r}{where}", 404)
    return found


def _by_id(api: ApiClient, name: str, pool: str | None) -> RunView | None:
    if not _ULID.fullmatch(name):
        return None
    found = _look(api, name.upper())
    if found and pool and pool not in (found.pool, found.pool_name):
        return None
    return found


def _by_request(api: ApiClient, name: str, pool: str | None) -> RunView | None:
    # The run's id is made here: a request's id may have characters that no path of the API has.
    pools = [api.pool(pool).id] if pool else [one.id for one in api.pools().pools]
    found = [run for one in pools if (run := _look(api, run_id(one, name)))]
    if len(found) > 1:
        names = ", ".join(sorted(run.pool_name or run.pool for run in found))
        raise Usage(f"{name!r} is a request's id in the pools {names}: say --pool")
    return found[0] if found else None


def _by_beginning(api: ApiClient, name: str, pool: str | None) -> RunView | None:
    if not _BEGINNING.fullmatch(name):
        return None
    pools = [pool] if pool else [one.id for one in api.pools().pools]
    found: list[RunSummary] = []
    for one in pools:
        found += [run for run in api.runs(one, SEARCHED).runs if run.run.startswith(name.upper())]
    if len(found) > 1:
        raise Usage(f"{name!r} begins the ids of {len(found)} runs, like {found[0].run} and {found[1].run}")
    return _look(api, found[0].run) if found else None


def _look(api: ApiClient, run: str) -> RunView | None:
    try:
        return api.run(run)
    except Unknown:
        return None
