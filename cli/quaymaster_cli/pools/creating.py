"""Creating a pool: its key, its certificate request, and for Fargate its parameters in the user's account."""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError
from quaymaster.domain import ids
from quaymaster.domain.api import CreatedPool, CreatePool
from quaymaster.domain.pool import PoolKind
from quaymaster.domain.requests import refusal

from quaymaster_cli.deployment.connecting import Connection
from quaymaster_cli.errors import ApiRefused, CliError, Unknown, Usage
from quaymaster_cli.pools.parameters import Parameters
from quaymaster_cli.pools.secret_files import new_secret
from quaymaster_cli.showing.output import Output

SERVER_ERROR = 500
"""From this status on, an answer does not say that nothing was done."""


TASK_FIELDS = ("image", "cpu", "memory", "architecture", "task_role")
"""What makes a Fargate pool's tasks differ from the deployment's."""


@dataclass(frozen=True, kw_only=True)
class NewPool:
    """A pool as it was asked for on the command line."""

    name: str
    kind: PoolKind
    executor: str
    csr: Path | None
    key: Path | None
    settings: dict[str, str | int]
    image: str | None
    architecture: str | None
    cpu: int | None
    memory: int | None
    task_role: str | None


def create_private_pool(connection: Connection, new: NewPool, output: Output) -> CreatedPool:
    """A pool whose workers connect by themselves; the key never leaves this machine."""
    if (new.csr is None) == (new.key is None):
        raise Usage("a private pool needs --csr FILE, or --key FILE (which is made if it does not exist)")
    if new.csr:
        return connection.api.create_pool(_request(new, _checked_csr(new.csr)))
    key, made = _key(new.key)
    request = _request(new, _csr(key))
    _refuse_known_name(connection, new.name)
    return _keeping(new.key if made else None, key, output, lambda: connection.api.create_pool(request))


def create_fargate_pool(connection: Connection, new: NewPool, output: Output) -> CreatedPool:
    """A pool whose workers Quaymaster starts.

    The key is put where only the pool's tasks read it, with the user's own credentials and before the pool exists, so
    that nothing is left behind when that is not allowed.
    """
    if new.csr:
        raise Usage("a Fargate pool's tasks need its private key: give --key FILE, or neither, and one is made")
    key, made = _key(new.key)
    pool_id = ids.ulid(datetime.now(UTC), secrets.token_bytes(10))
    request = _request(new, _csr(key), pool_id)
    _refuse_known_name(connection, new.name)
    parameters = Parameters(connection.target, connection.api.about().ssm_prefix, pool_id)

    def create() -> CreatedPool:
        parameters.put_key(key.decode())
        try:
            return connection.api.create_pool(request)
        except CliError as error:
            if _nothing_was_done(error):
                parameters.remove_key()
            else:
                _keep_key(parameters, pool_id, output)
            raise

    created = _keeping(new.key if made else None, key, output, create)
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
    output.note(f"`quaymaster pool show {pool_id}` says whether the pool was created all the same")
    output.note(f"its key stays in the parameter {parameters.key_name}; delete it if it was not")


def _refuse_known_name(connection: Connection, name: str) -> None:
    try:
        known = connection.api.pool(name)
    except Unknown:
        return
    raise CliError(f"a pool named {known.name!r} exists already: {known.id}")


def _key(path: Path | None) -> tuple[bytes, bool]:
    """The pool's key, and whether it is new; a new one lies nowhere yet."""
    from quaymaster_sealing.keys import generate_key

    if path and path.exists():
        return _read(path, "--key").encode(), False
    return generate_key(), True


def _keeping(path: Path | None, key: bytes, output: Output, create: Callable[[], CreatedPool]) -> CreatedPool:
    """Create a pool with its new key in its file, which stays unless nothing was created for certain."""
    if path is None:
        return create()
    with new_secret(path, "--key") as write:
        write(key)
        created = _unless_unknown(create)
    output.note(f"wrote a new private key to {path}; keep it safe, nobody else has it")
    if isinstance(created, CliError):
        output.note(
            "nobody knows whether the pool was created; delete the key if `quaymaster pool list` does not show it"
        )
        raise created
    return created


def _unless_unknown(create: Callable[[], CreatedPool]) -> CreatedPool | CliError:
    """What was created, or the error that leaves it open. Raises an error that says that nothing was."""
    try:
        return create()
    except CliError as error:
        if _nothing_was_done(error):
            raise
        return error


def _nothing_was_done(error: CliError) -> bool:
    """Whether an error says that there is no new pool."""
    return isinstance(error, ApiRefused) and error.status < SERVER_ERROR


def _checked_csr(path: Path) -> str:
    from quaymaster_sealing.keys import read_csr

    try:
        return read_csr(_read(path, "--csr"))
    except ValueError as error:
        raise Usage(f"--csr: {error}") from None


def _csr(key: bytes) -> str:
    from quaymaster_sealing.keys import make_csr

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
    fields = {name: getattr(new, name) for name in ("name", "kind", "executor", "settings", *TASK_FIELDS)}
    try:
        return CreatePool.model_validate({**fields, "csr": csr, "id": pool_id})
    except ValidationError as error:
        raise Usage(str(refusal(error))) from None
