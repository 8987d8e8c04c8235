"""What goes wrong at AWS, in the words of `quaymaster.errors`: the one place that knows the codes."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from quaymaster.errors import QuaymasterError, Refused, Unavailable

THROTTLED = frozenset(
    {
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
MISSING = frozenset({"404", "NoSuchKey", "NotFound", "ParameterNotFound", "ResourceNotFoundException"})


def code_of(error: ClientError) -> str:
    """The service's name for the error."""
    return error.response.get("Error", {}).get("Code", "")


def text_of(error: ClientError) -> str:
    """The service's words for the error. Those of a refused permission name the action and the resource."""
    found = error.response.get("Error", {})
    return f"{error.operation_name}: {found.get('Code', '')}: {found.get('Message', '')}"


def status_of(error: ClientError) -> int:
    """The HTTP status of the answer; 0 when it had none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def may_pass(error: ClientError) -> bool:
    """Whether the same call may succeed later: throttled, or the service's own fault."""
    return code_of(error) in THROTTLED or status_of(error) >= 500 or status_of(error) == 429


@contextmanager
def translated(service: str, judge: Callable[[ClientError], QuaymasterError | None] | None = None) -> Generator[None]:
    """Raise what AWS raises inside as Unavailable of that service, or as what `judge` makes of an error answer.

    A call that no service would take, for its parameters alone, is Refused.
    """
    try:
        yield
    except ClientError as error:
        raise (judge and judge(error)) or Unavailable(service, text_of(error)) from error
    except ParamValidationError as error:
        raise Refused(service, " ".join(str(error).split())[:300], "parameters of the right shape") from error
    except BotoCoreError as error:
        raise Unavailable(service, f"{type(error).__name__}: {error}") from error
