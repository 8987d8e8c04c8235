"""A container engine, by the Docker SDK: whatever speaks Docker's API, over a socket or TCP.

The SDK blocks, so each call has a thread of its own: a daemon's, for an engine that hangs must not keep the agent from
ending. It is imported when the first agent needs it: those that run processes do not pay for it.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from quaymaster_worker.errors import EngineRefused, EngineUnreachable

CALL_SECONDS = 60
STREAMS = 4096
"""Connections to the engine that may be open at a time: each running container has two."""
ONE_SHOT = (1, 41)
HEAD = 8
OUTPUT = {"stdout": 1, "stderr": 1, "stream": 1}


class Engine:
    """Calls of one engine. Every method may raise EngineUnreachable, and EngineRefused with the engine's words."""

    def __init__(self, config_dir: Path | None = None) -> None:
        self._config = str(config_dir / "config.json") if config_dir else None
        self._api: Any = None

    async def call[T](self, work: Callable[[Any], T]) -> T:
        """Have the work done with the SDK's client, in a thread."""
        return await in_daemon_thread(lambda: self.do(work))

    def do[T](self, work: Callable[[Any], T]) -> T:
        """The same, here and now."""
        sdk, failed = _sdk()
        refusal: EngineRefused | EngineUnreachable
        try:
            if self._api is None:
                # The timeout is that of one answer; what lasts longer says so itself.
                known = sdk.utils.kwargs_from_env()
                self._api = sdk.APIClient(version="auto", timeout=CALL_SECONDS, max_pool_size=STREAMS, **known)
            return work(self._api)
        except sdk.errors.APIError as error:
            status = error.response.status_code if error.response is not None else 0
            refusal = EngineRefused(status, _words(error))
        except (sdk.errors.DockerException, *failed) as error:
            refusal = EngineUnreachable(str(error)[:200])
        # Out here nothing holds the SDK's error, and with it connections that did not come about.
        raise refusal

    def close(self) -> None:
        """Close what is open."""
        if self._api is not None:
            self._api.close()

    async def info(self) -> Mapping[str, Any]:
        """What the engine says of itself."""
        return await self.call(lambda api: api.info())

    async def networks(self) -> list[str]:
        """Names and ids of its networks."""
        found = await self.call(lambda api: api.networks())
        return [text for one in found for text in (one["Name"], one["Id"])]

    async def has_image(self, image: str) -> bool:
        """Whether the image is there."""
        try:
            await self.call(lambda api: api.inspect_image(image))
        except EngineRefused as error:
            if error.status == 404:
                return False
            raise
        return True

    async def has_distribution(self, image: str) -> None:
        """Ask the image's registry for it, as a pull would."""

        def work(api: Any) -> None:
            api.reload_config(self._config)
            api.inspect_distribution(image)

        await self.call(work)

    def pull(self, image: str) -> Iterator[Mapping[str, Any]]:
        """Pull it, here and now; yields what the engine says of it. Credentials are read anew: logins expire."""

        def begin(api: Any) -> Iterator[Mapping[str, Any]]:
            api.reload_config(self._config)
            return api.pull(image, stream=True, decode=True)

        lines = self.do(begin)
        try:
            while line := self.do(lambda _: next(lines, None)):
                if error := line.get("error"):
                    raise EngineRefused(0, str(error))
                yield line
        finally:
            getattr(lines, "close", lambda: None)()

    async def create(self, **config: Any) -> str:
        """Make a container; its id."""

        def work(api: Any) -> str:
            host = api.create_host_config(**config.pop("host"))
            return api.create_container(host_config=host, **config)["Id"]

        return await self.call(work)

    async def attach(self, container: str) -> "Output":
        """The container's output, from its beginning if it has not begun."""

        def work(api: Any) -> Any:
            # The SDK's own way takes the socket out of the hands of those who would close it.
            where = f"{api.base_url}/v{api.api_version}/containers/{container}/attach"
            answer = api.post(where, params=OUTPUT, stream=True, timeout=None)
            answer.raise_for_status()
            return answer

        return Output(await self.call(work))

    async def start(self, container: str) -> None:
        """Start it."""
        await self.call(lambda api: api.start(container))

    async def wait(self, container: str) -> int:
        """Its exit code, when it has ended."""
        return await self.call(lambda api: int(api.wait(container, timeout=None)["StatusCode"]))

    async def state(self, container: str) -> Mapping[str, Any] | None:
        """Its state; None if there is no such container."""
        try:
            return await self.call(lambda api: api.inspect_container(container)["State"])
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise

    async def signal(self, container: str, name: str) -> None:
        """Send its first process a signal; one that does not run is left alone."""
        await self.call(lambda api: _tolerant(lambda: api.kill(container, name)))

    async def stats(self, container: str) -> Mapping[str, Any]:
        """What its cgroup counts."""

        def work(api: Any) -> Mapping[str, Any]:
            # An older engine measures for a second or two before it answers.
            quick = {"one_shot": True} if tuple(map(int, api.api_version.split("."))) >= ONE_SHOT else {}
            return api.stats(container, stream=False, **quick)

        return await self.call(work)

    async def remove(self, container: str) -> None:
        """Kill and remove it, and what it wrote; one that is gone is gone."""
        await self.call(lambda api: _tolerant(lambda: api.remove_container(container, v=True, force=True)))

    def labelled(self, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """The containers with these labels, running or not, here and now: each with `Id` and `Labels`."""
        wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
        return self.do(lambda api: api.containers(all=True, filters=wanted))

    def remove_now(self, container: str) -> None:
        """`remove`, here and now."""
        self.do(lambda api: _tolerant(lambda: api.remove_container(container, v=True, force=True)))


class Output:
    """What a container writes; standard output and error are one stream. Little is read ahead.

    It comes in frames: which of both, in a byte, three of nothing, the length in four, and so many bytes.
    Source: the Docker Engine's API, "Attach to a container".
    """

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        return await in_daemon_thread(self._next)

    def _next(self) -> bytes:
        raw = self._answer.raw
        try:
            while len(head := raw.read(HEAD)) == HEAD:
                if data := raw.read(int.from_bytes(head[4:])):
                    return data
        except (OSError, import_module("urllib3").exceptions.HTTPError):
            # The engine has gone, and its containers with it, or it has let go of this connection.
            self._answer.close()
            return b""
        self._answer.close()
        return b""


async def in_daemon_thread[T](work: Callable[[], T]) -> T:
    """Do it in a thread that keeps no process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error:
            done.set_exception(error)
        else:
            done.set_result(result)  # pyright: ignore[reportArgumentType]

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:  # whatever it is, it is for whoever awaits the work
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name="engine", daemon=True).start()
    return await done


def _sdk() -> tuple[Any, tuple[type[BaseException], ...]]:
    """The SDK, and what its transport raises besides its own errors."""
    requests = import_module("requests")
    return import_module("docker"), (requests.exceptions.RequestException, OSError)


def _tolerant(work: Callable[[], object]) -> None:
    """What is gone, does not run, or is being removed already, is as it is wanted."""
    sdk, _ = _sdk()
    try:
        work()
    except sdk.errors.APIError as error:
        if error.response is None or error.response.status_code not in (404, 409):
            raise


def _words(error: Any) -> str:
    """What the engine says, without the address that it was asked at."""
    return " ".join(str(error.explanation or error).split())


def engine_environment() -> dict[str, str]:
    """What a program needs of this one's environment to find the same engine."""
    return {name: value for name, value in os.environ.items() if name.startswith("DOCKER_") or name in {"HOME", "PATH"}}
