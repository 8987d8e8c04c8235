"""Creating a pool: its key, its certificate request, and for Fargate its parameters in the user's account."""

import base64
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from longshore.domain import ids
from longshore.domain.api import CreatedPool, CreatePool
from longshore.domain.pool import PoolKind
from longshore.domain.requests import refusal
from pydantic import ValidationError

from longshore_cli.errors import ApiRefused, CliError, Unknown, Usage
from longshore_cli.output import Output
from longshore_cli.parameters import Parameters
from longshore_cli.session import Connection

SERVER_ERROR = 500
"""From this status on, an answer does not say that nothing was done."""


@dataclass(frozen=True, kw_only=True)
class NewPool:
    """A pool as it was asked for on the command line."""

    name: str
    kind: PoolKind
    csr: Path | None
    key: Path | None
    settings: dict[str, str | int]
    image: str | None
    cpu: int | None
    memory: int | None
    task_role: str | None


def create_private_pool(connection: Connection, new: NewPool, output: Output) -> CreatedPool:
    """A pool whose workers connect by themselves; the key never leaves this machine."""
    if (new.csr is None) == (new.key is None):
        raise Usage("a private pool needs --csr FILE, or --key FILE (which is made if it does not exist)")
    if new.csr:
        return connection.api.create_pool(_request(new, _read(new.csr, "--csr")))
    _refuse_known_name(connection, new.name)
    return connection.api.create_pool(_request(new, _csr(_key_at(new.key or Path(), output))))


def create_fargate_pool(connection: Connection, new: NewPool, output: Output) -> CreatedPool:
    """A pool whose workers Longshore starts.

    The key is put where only the pool's tasks read it, with the user's own credentials and before the pool exists, so
    that nothing is left behind when that is not allowed.
    """
    if new.csr:
        raise Usage("a Fargate pool's tasks need its private key: give --key FILE, or neither, and one is made")
    _refuse_known_name(connection, new.name)
    from longshore_sealing.keys import generate_key

    key = _key_at(new.key, output) if new.key else generate_key()
    csr = _csr(key)
    pool_id = ids.ulid(datetime.now(UTC), secrets.token_bytes(10))
    parameters = Parameters(connection.target, connection.api.about().ssm_prefix, pool_id)
    request = _request(new, csr, pool_id)
    parameters.put_key(key.decode())
    try:
        created = connection.api.create_pool(request)
    except ApiRefused as error:
        if error.status < SERVER_ERROR:
            parameters.remove_key()
        else:
            _keep_key(parameters, pool_id, output)
        raise
    except CliError:
        _keep_key(parameters, pool_id, output)
        raise
    try:
        parameters.put_token(base64.b64decode(created.token).decode())
    except CliError as error:
        output.note(f"pool {created.pool.name} was created, but its tasks cannot read its token yet: {error}")
        output.note(f"put this into the SecureString parameter {parameters.token_name}, base64-decoded:")
        output.note(created.token)
        raise
    return created


def _keep_key(parameters: Parameters, pool_id: str, output: Output) -> None:
    """Nobody knows whether the pool was created, and without its key it could never work."""
    output.note(f"`longshore pool show {pool_id}` says whether the pool was created all the same")
    output.note(f"its key stays in the parameter {parameters.key_name}; delete it if it was not")


def _refuse_known_name(connection: Connection, name: str) -> None:
    try:
        known = connection.api.pool(name)
    except Unknown:
        return
    raise CliError(f"a pool named {known.name!r} exists already: {known.id}")


def _key_at(path: Path, output: Output) -> bytes:
    if path.exists():
        return _read(path, "--key").encode()
    from longshore_sealing.keys import make_key

    try:
        key = make_key(path)
    except OSError as error:
        raise CliError(f"--key: cannot write {path}: {error.strerror}") from None
    output.note(f"wrote a new private key to {path}; keep it safe, nobody else has it")
    return key


def _csr(key: bytes) -> str:
    from longshore_sealing.keys import make_csr

    try:
        return make_csr(key)
    except ValueError as error:
        raise Usage(f"--key: {error}") from None


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise Usage(f"{option}: {path} is not a text file (PEM)") from None
    except OSError as error:
        raise Usage(f"{option}: cannot read {path}: {error.strerror}") from None


def _request(new: NewPool, csr: str, pool_id: str | None = None) -> CreatePool:
    fields = {name: getattr(new, name) for name in ("name", "kind", "settings", "image", "cpu", "memory", "task_role")}
    try:
        return CreatePool.model_validate({**fields, "csr": csr, "id": pool_id})
    except ValidationError as error:
        raise Usage(str(refusal(error))) from None
