"""`quaymaster-agent --check`: the whole configuration and every host that it needs, tried; nothing is taken on."""

import asyncio
import json
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from quaymaster.domain.messages import Endpoint
from quaymaster.domain.messages import Executor as Kind

from quaymaster_worker.configuration.settings import Settings
from quaymaster_worker.connection.credentials import check_credentials
from quaymaster_worker.connection.tls_probe import TlsProbe
from quaymaster_worker.errors import ConfigurationRefused, EngineRefused, EngineUnreachable, ExitCode
from quaymaster_worker.processes.run_users import RunUsers
from quaymaster_worker.running import make_executor, read_run_policy
from quaymaster_worker.trial import try_out
from quaymaster_worker.workspace.folders import StateFolder

if TYPE_CHECKING:
    from quaymaster_worker.containers.docker_executor import DockerExecutor

SECONDS = 5.0
PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Finding:
    """One thing that was tried. `host` is HOST:PORT, for the allow-list of a firewall, where it is one."""

    what: str
    told: str
    ok: bool = True
    host: str | None = None


async def check(settings: Settings, count: int) -> list[Finding]:
    """Try everything. Raises ConfigurationRefused for the first setting that is wrong."""
    check_credentials(settings.token, settings.private_key)
    policy = read_run_policy(settings)
    folder, users = StateFolder(settings.state_dir), RunUsers(settings)
    executor = make_executor(settings, "check")
    with closing(users):
        try:
            folder.make()
            chosen = users.choose(count)
            await try_out(folder, executor, chosen[0])
        except OSError as error:
            raise ConfigurationRefused("QUAYMASTER_STATE_DIR", str(error), "a folder the agent may write to") from None
        who = [user.name if user else "the agent's own user" for user in chosen]
    found = [Finding("option", note) for note in settings.notes]
    found.append(Finding("policy", f"{policy.file}: ok" if policy else "none: every run is allowed"))
    if settings.executor is Kind.DOCKER:
        found += await _containers(settings, executor)  # pyright: ignore[reportArgumentType]
    await executor.close()
    found += await asyncio.gather(*(_broker(settings, endpoint) for endpoint in settings.token.mqtt))
    found.append(await _store(settings.token.store))
    found.append(Finding("would be", _intent(settings, count, who)))
    return found


def show(found: Sequence[Finding], *, as_json: bool) -> int:
    """Print what was found; the exit code."""
    allowed = sorted({one.host for one in found if one.host})
    if as_json:
        print(json.dumps({"findings": [asdict(one) for one in found], "outbound": allowed}, indent=2))
    else:
        width = max(len(one.what) for one in found)
        for one in found:
            print(f"{'ok  ' if one.ok else 'FAIL'}  {one.what:<{width}}  {one.told}")
        print("\nallow outbound (TCP):", *allowed, sep="\n  ")
    return ExitCode.GOODBYE if all(one.ok for one in found) else ExitCode.UNREACHABLE


async def _broker(settings: Settings, endpoint: Endpoint) -> Finding:
    host = f"{endpoint.host}:{endpoint.port}"
    trouble = await TlsProbe(settings.token, settings.private_key).trouble(endpoint)
    return Finding("broker", f"{host}: {trouble or 'takes the certificate'}", trouble is None, host)


async def _store(url: str | None) -> Finding:
    if not url:
        return Finding("store", "its host comes with each assignment; the pool's token is of an older version")
    parts = urlsplit(url)
    port = parts.port or PORTS.get(parts.scheme, 443)
    host = f"{parts.hostname}:{port}"
    trouble = await asyncio.to_thread(_connect, parts.hostname or "", port)
    return Finding("store", f"{host}: {trouble or 'answers'}", trouble is None, host)


def _connect(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        return error.strerror or str(error) or "no answer"
    return None


async def _containers(settings: Settings, executor: "DockerExecutor") -> list[Finding]:
    """The engine answers, or the trial would have failed; the registries of the host's own images are asked by it."""
    info = await executor.engine.info()
    found = [Finding("engine", f"{info.get('ServerVersion')} at {settings.docker.engine or '/var/run/docker.sock'}")]
    images = {settings.docker.default_image, settings.docker.default_ansible_image} - {None}
    for image in sorted(filter(None, images)):
        there = False
        try:
            there = await executor.engine.has_image(image)
            await executor.engine.has_distribution(image)
            found.append(Finding("image", f"{image}: its registry has it"))
        except (EngineRefused, EngineUnreachable) as error:
            told = f"{image}: {'here, but ' if there else ''}{error}"
            found.append(Finding("image", told, there))
    return found


def _intent(settings: Settings, count: int, who: Sequence[str]) -> str:
    token = settings.token
    what = "in containers" if settings.executor is Kind.DOCKER else "as processes"
    users = who[0] if len(set(who)) == 1 else f"{who[0]} to {who[-1]}"
    workers = f"{count} worker{'s' * (count > 1)} of pool {token.pool_id} in {token.namespace}"
    return f"{workers}; runs {what}, as {users}, below {settings.state_dir}"
