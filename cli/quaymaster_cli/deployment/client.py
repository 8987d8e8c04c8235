"""The API as the commands call it: models in, models out, errors as `CliError`."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError
from quaymaster.domain import api
from quaymaster.domain.requests import RunRequest, refusal

from quaymaster_cli.errors import ApiRefused, CliError, Disconnected, Unknown

if TYPE_CHECKING:
    from quaymaster.domain.states import RunState

PAUSES = (0.3, 1.0, 3.0)
"""Seconds between tries."""
TRIES = len(PAUSES) + 1
_AGAIN = frozenset({429, 502, 503, 504})
_FORBIDDEN = (
    "the API refused your AWS identity (403): it needs what the stack's output ApiPolicyArn grants, and a clock "
    "that is right"
)


class ApiClient:
    """A deployment's API. `http` signs and knows the URL; `plain` fetches and puts what is presigned."""

    def __init__(self, http: httpx.Client, plain: httpx.Client) -> None:
        self._http = http
        self.plain = plain
        self._reached = False

    def about(self) -> api.About:
        """What answers."""
        return self._get(api.About, "about")

    def pools(self) -> api.PoolList:
        """All pools."""
        return self._get(api.PoolList, "pools")

    def pool(self, name: str) -> api.PoolView:
        """A pool by name or id."""
        return self._get(api.PoolView, "pools", name)

    def create_pool(self, request: api.CreatePool) -> api.CreatedPool:
        """Create a pool. Never repeated by itself: each try would certify the key once more."""
        return self._post(api.CreatedPool, "pools", request, tries=1)

    def workers(self, pool: str, *, gone: bool = False) -> Iterator[api.WorkerView]:
        """A pool's workers, page by page: those that are there or sought, or those that are gone for good."""
        cursor: str | None = None
        while True:
            page = self._get(api.WorkerList, "pools", pool, "workers", gone=gone or None, cursor=cursor)
            yield from page.workers
            cursor = page.cursor
            if not cursor:
                return

    def runs(
        self,
        pool: str,
        limit: int,
        cursor: str | None = None,
        *,
        state: "RunState | None" = None,
        stack: str | None = None,
    ) -> api.RunList:
        """A page of a pool's runs, newest first."""
        return self._get(api.RunList, "pools", pool, "runs", state=state, stack=stack, limit=limit, cursor=cursor)

    def change_pool(self, pool: str, change: api.ChangePool) -> api.PoolView:
        """Change a pool; repeating it changes nothing more."""
        content = change.model_dump_json(exclude_unset=True).encode()
        return _read(api.PoolView, self._call("PATCH", _join(("pools", pool)), content, TRIES))

    def retry_pool(self, pool: str) -> api.PoolView:
        """Have a Fargate pool's tasks started again now; repeating it changes nothing."""
        return _read(api.PoolView, self._call("POST", _join(("pools", pool, "retry")), None, TRIES))

    def start_run(self, request: RunRequest) -> api.AcceptedRun:
        """Request a run; the same request id again is the same run."""
        return self._post(api.AcceptedRun, "runs", request)

    def run(self, run: str) -> api.RunView:
        """A run."""
        return self._get(api.RunView, "runs", run)

    def steer_run(self, run: str, what: str, request: api.Steer) -> api.RunView:
        """`cancel`, `stop`, `kill` or `discard` a run; repeating it changes nothing."""
        return self._post(api.RunView, _join(("runs", run, what)), request)

    def confirm_run(self, run: str, request: api.ConfirmRun) -> api.RunView:
        """Let a run go on that waits for confirmation; repeating it changes nothing."""
        return self._post(api.RunView, _join(("runs", run, "confirm")), request)

    def extend_run(self, run: str, request: api.ExtendRun) -> api.RunView:
        """Give a run longer timeouts; repeating it changes nothing."""
        return self._post(api.RunView, _join(("runs", run, "extend")), request)

    def retry_run(self, run: str, request: api.Steer) -> api.AcceptedRun:
        """Request an ended run once more; repeating it leads to the same run."""
        return self._post(api.AcceptedRun, _join(("runs", run, "retry")), request)

    def why(self, run: str) -> api.Explanation:
        """Why a run is where it is."""
        return self._get(api.Explanation, "runs", run, "why")

    def log(
        self, run: str, after: str | None = None, *, watch: bool = False, attempt: int | None = None
    ) -> api.LogView:
        """What lies of a run's log behind a cursor; `watch` has the worker ship it every second for a while."""
        return self._get(api.LogView, "runs", run, "logs", after=after, watch=watch or None, attempt=attempt)

    def outputs(self, run: str) -> api.OutputsView:
        """What a run has left for others."""
        return self._get(api.OutputsView, "runs", run, "outputs")

    def prepare_upload(self, request: api.PrepareUpload) -> api.Upload:
        """Where to put a workspace."""
        return self._post(api.Upload, "inputs", request)

    def dead_letters(self) -> api.DeadLetterList:
        """What lies in the dead-letter queue."""
        return self._get(api.DeadLetterList, "dead-letters")

    def dead_letter(self, letter: str) -> api.DeadLetterDetail:
        """A dead letter."""
        return self._get(api.DeadLetterDetail, "dead-letters", letter)

    def redrive(self, choice: api.DeadLetterChoice) -> api.Redriven:
        """Send dead letters again; repeating it changes nothing."""
        return self._post(api.Redriven, "dead-letters/redrive", choice)

    def purge(self, choice: api.DeadLetterChoice) -> api.Purged:
        """Throw dead letters away."""
        return self._post(api.Purged, "dead-letters/purge", choice)

    def _get[T: BaseModel](self, model: type[T], *path: str, **query: object) -> T:
        pairs = [f"{name}={quote(_text(value), safe='')}" for name, value in query.items() if value is not None]
        return _read(model, self._call("GET", _join(path) + (f"?{'&'.join(pairs)}" if pairs else ""), None, TRIES))

    def _post[T: BaseModel](self, model: type[T], path: str, body: BaseModel, tries: int = TRIES) -> T:
        content = body.model_dump_json(by_alias=True, exclude_none=True).encode()
        return _read(model, self._call("POST", path, content, tries))

    def _call(self, method: str, path: str, content: bytes | None, tries: int) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if content is not None else {}
        request = self._http.build_request(method, path, content=content, headers=headers)
        for pause in PAUSES[: tries - 1]:
            response = self._try(request)
            if response and response.status_code not in _AGAIN:
                break
            time.sleep(pause)
        else:
            response = self._send(request)
        _check(response)
        return response

    def _try(self, request: httpx.Request) -> httpx.Response | None:
        """The answer; None when a network that worked before does not now, which may pass."""
        try:
            return self._send(request)
        except Disconnected:
            if not self._reached:
                raise
            return None

    def _send(self, request: httpx.Request) -> httpx.Response:
        with readable(self._http.base_url.host):
            response = self._http.send(request)
        self._reached = True
        return response


@contextmanager
def readable(host: str) -> Generator[None]:
    """Turns what the network does into one line."""
    try:
        yield
    except httpx.TimeoutException:
        raise Disconnected(f"{host} did not answer in time") from None
    except httpx.HTTPError as error:
        raise Disconnected(f"cannot reach {host}: {str(error) or type(error).__name__}") from None


def _join(path: tuple[str, ...]) -> str:
    return "/".join(quote(part, safe="") for part in path)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    problem = _problem(response)
    status = response.status_code
    if problem and status == 404:
        raise Unknown(problem.error, status)
    if problem:
        raise ApiRefused(problem.error, status)
    if status == 403:
        raise ApiRefused(_FORBIDDEN, status)
    raise ApiRefused(f"the API answered {status} {response.reason_phrase}", status)


def _problem(response: httpx.Response) -> api.Problem | None:
    try:
        return api.Problem.model_validate_json(response.content)
    except ValidationError:
        return None


def _read[T: BaseModel](model: type[T], response: httpx.Response) -> T:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise CliError(f"the API's answer is not understood ({refusal(error)}); is this command too old?") from None
