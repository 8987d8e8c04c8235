"""How each kind of record lies in its item: what its key says already, and what is written shorter.

Run and worker are written many times in a life, and each write costs by the KB: so they have short attribute names,
and nothing in them is stored twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quaymaster.adapters.records.history import pack_entry, unpack_entry
from quaymaster.adapters.records.items import Item
from quaymaster.adapters.records.months import read_months, write_months
from quaymaster.adapters.records.values import fields_of, moment, number
from quaymaster.domain.images import ImageDefinition
from quaymaster.domain.keys import POOLS, Key
from quaymaster.domain.objects import chunk_prefix
from quaymaster.domain.pool import Counters, Launch, Pool, PoolEntry, PoolName, Starts, Ticket
from quaymaster.domain.run import Run, Spec
from quaymaster.domain.worker import Agent, Marker, Worker
from quaymaster.ports import Record

type Known = Mapping[str, object]

_RUN_NAMES = {
    "stack": "sn",
    "state": "st",
    "attempt": "at",
    "retryable": "rt",
    "owes_reply": "or",
    "bound": "bo",
    "phase": "ph",
    "leg": "le",
    "leg_end": "ln",
    "phases": "ps",
    "phases_done": "pd",
    "left": "lw",
    "confirm_by": "cb",
    "confirmed_at": "cf",
    "worker": "w",
    "session": "ss",
    "claimed_at": "cl",
    "answered_at": "an",
    "resent_at": "rs",
    "begun_at": "bg",
    "image": "im",
    "log_timeout": "lt",
    "run_timeout": "ru",
    "ending": "en",
    "output_at": "ou",
    "upload_failing": "uf",
    "chunk": "ch",
    "chunk_at": "ca",
    "losses": "lo",
    "offers": "of",
    "worker_seconds": "ws",
    "start_seconds": "sa",
    "spot": "sp",
    "spot_seconds": "sc",
    "ended_at": "ed",
    "reason": "re",
    "exit_code": "ec",
    "note": "no",
    "usage": "us",
    "push": "pu",
    "history": "h",
}
_WORKER_NAMES = {
    "state": "st",
    "session": "ss",
    "generation": "ge",
    "run": "r",
    "attempt": "at",
    "marker": "mk",
    "log_limit": "ll",
    "run_limit": "rl",
    "launch": "la",
    "spot": "sp",
    "bound": "bo",
    "task_arn": "ta",
    "runs_done": "rd",
    "created_at": "cr",
    "idle_since": "is",
    "busy_since": "bs",
    "seen_at": "se",
    "disconnected_at": "di",
    "asked_at": "as",
    "taken_back": "tb",
    "interrupted": "ir",
    "note": "no",
    "push": "pu",
}


@dataclass(frozen=True)
class Layout:
    """Where the records of one kind lie, and how they are written to their attributes and read back.

    What the key and the index attributes say is not written again.
    """

    kind: type[Record]
    partition: str
    prefix: str
    write: Callable[[Any], Item]
    read: Callable[[Key, Item], Any]


def _plain[T: Record](kind: type[T], at: tuple[str, str], known: Callable[[Key], Known], unstored: set[str]) -> Layout:
    fields = fields_of(kind, (), frozenset(unstored))
    return Layout(kind, *at, fields.write, lambda key, item: fields.read(item, known(key)))


def _after(text: str) -> str:
    return text.partition("#")[2]


_RUN = fields_of(Run, tuple(_RUN_NAMES.items()), frozenset({"id", "pool_id", "accepted_at"}))


def _write_run(run: Run) -> Item:
    return _RUN.write(
        run,
        worker=run.worker and run.worker.replace(f".{run.pool_id}.", "..", 1),
        chunk=run.chunk and run.chunk.replace(chunk_prefix(run.pool_id, run.id, run.attempt), "/", 1),
        history=tuple(pack_entry(entry, run.accepted_at) for entry in run.history),
    )


def _read_run(key: Key, item: Item) -> Run:
    run_id, pool_id = _after(key.pk), _after(item["listing_pk"]["S"])
    accepted_at = moment(int(item["listing_at"]["S"].partition("#")[0]))
    run = _RUN.read(item, {"id": run_id, "pool_id": pool_id, "accepted_at": accepted_at})
    chunk = run.chunk
    if chunk and chunk.startswith("/"):
        chunk = chunk_prefix(pool_id, run_id, run.attempt) + chunk[1:]
    return replace(
        run,
        worker=run.worker and run.worker.replace("..", f".{pool_id}.", 1),
        chunk=chunk,
        history=tuple(unpack_entry(entry, accepted_at) for entry in run.history),
    )


_WORKER = fields_of(Worker, tuple(_WORKER_NAMES.items()), frozenset({"id", "pool_id"}))


def _read_worker(key: Key, item: Item) -> Worker:
    return _WORKER.read(item, {"id": _after(key.sk), "pool_id": _after(key.pk)})


def _write_marker(marker: Marker) -> Item:
    return {"version": number(marker.version), "worker": {"M": _WORKER.write(marker.worker)}}


def _read_marker(key: Key, item: Item) -> Marker:
    _, random, worker_id = key.sk.split("#", 2)
    worker = _WORKER.read(item["worker"]["M"], {"id": worker_id, "pool_id": _after(key.pk)})
    return Marker(random=random, worker=worker, version=int(item["version"]["N"]))


_COUNTERS = fields_of(Counters, (), frozenset({"pool_id", "months"}))


def _write_counters(counters: Counters) -> Item:
    return _COUNTERS.write(counters) | write_months(counters.months)


def _read_counters(key: Key, item: Item) -> Counters:
    return _COUNTERS.read(item, {"pool_id": _after(key.pk), "months": read_months(item)})


def _known_ticket(key: Key) -> Known:
    kind, rank, at, run_id = key.sk.split("#", 3)
    return {
        "pool_id": _after(key.pk),
        "rank": int(rank),
        "accepted_at": moment(int(at)),
        "run_id": run_id,
        "bound": kind == "bound",
    }


_TICKET_KEY = {"pool_id", "rank", "accepted_at", "run_id", "bound"}
_POOL, _PAST, _RUN_PK = "pool#", "past#", "run#"


LAYOUTS: tuple[Layout, ...] = (
    Layout(Run, _RUN_PK, "run", _write_run, _read_run),
    Layout(Worker, _POOL, "worker#", _WORKER.write, _read_worker),
    Layout(Worker, _PAST, "worker#", _WORKER.write, _read_worker),
    Layout(Marker, _POOL, "idle#", _write_marker, _read_marker),
    _plain(Spec, (_RUN_PK, "spec"), lambda key: {"run_id": _after(key.pk)}, {"run_id"}),
    _plain(Pool, (_POOL, "pool"), lambda key: {"id": _after(key.pk)}, {"id"}),
    _plain(PoolEntry, (POOLS, "pool#"), lambda key: {"pool_id": _after(key.sk)}, {"pool_id"}),
    _plain(PoolName, (POOLS, "name#"), lambda key: {"name": _after(key.sk)}, {"name"}),
    Layout(Counters, _POOL, "counters", _write_counters, _read_counters),
    _plain(Starts, (_POOL, "counters#starts"), lambda key: {"pool_id": _after(key.pk)}, {"pool_id"}),
    _plain(Ticket, (_POOL, "ticket#"), _known_ticket, _TICKET_KEY),
    _plain(Ticket, (_POOL, "bound#"), _known_ticket, _TICKET_KEY),
    _plain(ImageDefinition, (_POOL, "image#"), lambda key: {"pool_id": _after(key.pk)}, {"pool_id"}),
    _plain(
        Agent,
        (_POOL, "agent#"),
        lambda key: {"pool_id": _after(key.pk), "worker_id": _after(key.sk)},
        {"pool_id", "worker_id"},
    ),
    _plain(
        Launch,
        (_POOL, "launch#"),
        lambda key: {"pool_id": _after(key.pk), "id": _after(key.sk)},
        {"pool_id", "id"},
    ),
)
_BY_KIND = {layout.kind: layout for layout in LAYOUTS}


def layout_of(record: Record) -> Layout:
    """How this record lies in the table."""
    return _BY_KIND[type(record)]


def layout_at(key: Key) -> Layout | None:
    """How what lies at this key is to be read; None where no record of ours lies."""
    for layout in LAYOUTS:
        if _begins(key.pk, layout.partition) and _begins(key.sk, layout.prefix):
            return layout
    return None


def _begins(found: str, prefix: str) -> bool:
    return found.startswith(prefix) if prefix.endswith("#") else found == prefix
