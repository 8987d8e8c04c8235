"""Routes about runs, their logs and their inputs."""

from http import HTTPStatus
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Path, Query

from quaymaster.dispatcher.logs.outputs import show_outputs
from quaymaster.dispatcher.logs.reading import prepare_upload, show_log, watch_log
from quaymaster.dispatcher.users import views
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.pools import find_pool
from quaymaster.dispatcher.users.runs import find_run, request_run
from quaymaster.dispatcher.users.why import explain_run
from quaymaster.domain.api import AcceptedRun, Explanation, LogView, OutputsView, PrepareUpload, RunView, Upload
from quaymaster.domain.requests import RunRequest
from quaymaster.ports import Ports

RunRef = Annotated[str, Path(description="A run's id; its request's id if `pool` is given")]
OfPool = Annotated[str | None, Query(description="The pool (name or id) whose request's id leads to the run")]


def signer(app: LambdaFunctionUrlResolver) -> str:
    """The ARN of whoever signed the request in hand, as the Function URL says; nothing where it says nothing."""
    context: dict[str, Any] = app.current_event.raw_event.get("requestContext", {})
    return str(context.get("authorizer", {}).get("iam", {}).get("userArn", ""))


def add_run_routes(app: LambdaFunctionUrlResolver, ports: Ports, deployment: Deployment) -> None:
    """Everything below `/runs`, and `/inputs`."""

    @app.post("/runs", summary="Request a run; it is in the table soon, not at once")
    def start(request: RunRequest) -> Response[AcceptedRun]:  # pyright: ignore[reportUnusedFunction]
        accepted = request_run(ports, request, signer(app))
        return Response(status_code=HTTPStatus.ACCEPTED.value, content_type="application/json", body=accepted)

    @app.post("/inputs", summary="Where to put a packed workspace")
    def inputs(request: PrepareUpload) -> Upload:  # pyright: ignore[reportUnusedFunction]
        return prepare_upload(ports, find_pool(ports.store, request.pool))

    @app.get("/runs/<run>", summary="A run")
    def show(run: RunRef, pool: OfPool = None) -> RunView:  # pyright: ignore[reportUnusedFunction]
        return views.view_run(ports, find_run(ports.store, run, pool), deployment)

    @app.get("/runs/<run>/why", summary="Why a run is where it is, in one line")
    def why(run: RunRef, pool: OfPool = None) -> Explanation:  # pyright: ignore[reportUnusedFunction]
        found, _ = find_run(ports.store, run, pool)
        return Explanation(run=found.id, state=found.state, why=explain_run(ports, found))

    @app.get("/runs/<run>/outputs", summary="What a run has left for others, but for what is sensitive")
    def outputs(run: RunRef, pool: OfPool = None) -> OutputsView:  # pyright: ignore[reportUnusedFunction]
        found, _ = find_run(ports.store, run, pool)
        return show_outputs(ports, found)

    @app.get("/runs/<run>/logs", summary="What lies in the bucket of a run's log, with links that read it")
    def logs(  # pyright: ignore[reportUnusedFunction]
        run: RunRef,
        pool: OfPool = None,
        after: Annotated[str | None, Query(max_length=256)] = None,
        attempt: Annotated[int | None, Query(ge=1)] = None,
        watch: Annotated[bool, Query(description="Have the worker ship its log every second for a while")] = False,
    ) -> LogView:
        found, _ = find_run(ports.store, run, pool)
        if watch:
            watch_log(ports, found)
        return show_log(ports, found, after, attempt)
