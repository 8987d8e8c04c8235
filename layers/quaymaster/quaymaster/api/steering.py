"""Routes about runs that somebody steers."""

from http import HTTPStatus

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response

from quaymaster.api.runs import RunRef, signer
from quaymaster.dispatcher.steering.cancel import cancel_run
from quaymaster.dispatcher.steering.confirm import confirm_run, discard_run
from quaymaster.dispatcher.steering.extend import extend_run
from quaymaster.dispatcher.steering.retry import retry_run
from quaymaster.dispatcher.steering.stop import stop_run
from quaymaster.dispatcher.users.deployment import Deployment
from quaymaster.dispatcher.users.runs import find_run
from quaymaster.dispatcher.users.views import view_run
from quaymaster.domain.api import AcceptedRun, ConfirmRun, ExtendRun, RunView, Steer
from quaymaster.domain.steering import person
from quaymaster.ports import Ports


def add_steering_routes(app: LambdaFunctionUrlResolver, ports: Ports, deployment: Deployment) -> None:
    """What can be done to a run, below `/runs/<run>`; each is answered with the run as it then stands."""

    def shown(run: str) -> RunView:
        return view_run(ports, find_run(ports.store, run), deployment)

    @app.post("/runs/<run>/cancel", summary="End a run that has not begun; said twice, the answer is the same")
    def cancel(run: RunRef, request: Steer) -> RunView:  # pyright: ignore[reportUnusedFunction]
        return shown(cancel_run(ports, run, person(signer(app)), request.note).id)

    @app.post("/runs/<run>/stop", summary="Have a run's command end by itself, within its pool's grace")
    def stop(run: RunRef, request: Steer) -> RunView:  # pyright: ignore[reportUnusedFunction]
        return shown(stop_run(ports, run, person(signer(app)), request.note).id)

    @app.post("/runs/<run>/kill", summary="End a run's command at once")
    def kill(run: RunRef, request: Steer) -> RunView:  # pyright: ignore[reportUnusedFunction]
        return shown(stop_run(ports, run, person(signer(app)), request.note, at_once=True).id)

    @app.post("/runs/<run>/confirm", summary="Let an UNCONFIRMED run go on; said twice, the answer is the same")
    def confirm(run: RunRef, request: ConfirmRun) -> RunView:  # pyright: ignore[reportUnusedFunction]
        return shown(confirm_run(ports, run, person(signer(app)), request).id)

    @app.post("/runs/<run>/discard", summary="End an UNCONFIRMED run; said twice, the answer is the same")
    def discard(run: RunRef, request: Steer) -> RunView:  # pyright: ignore[reportUnusedFunction]
        return shown(discard_run(ports, run, person(signer(app)), request.note).id)

    @app.post("/runs/<run>/extend", summary="Give a run that has begun longer timeouts, within its pool's maximum")
    def extend(run: RunRef, request: ExtendRun) -> RunView:  # pyright: ignore[reportUnusedFunction]
        by = person(signer(app))
        return shown(extend_run(ports, run, by, request.note, request.log_timeout, request.run_timeout).id)

    @app.post("/runs/<run>/retry", summary="Request an ended run once more; asked twice, it is the same new run")
    def retry(run: RunRef, request: Steer) -> Response[AcceptedRun]:  # pyright: ignore[reportUnusedFunction]
        accepted = retry_run(ports, run, signer(app), request.note)
        return Response(status_code=HTTPStatus.ACCEPTED.value, content_type="application/json", body=accepted)
