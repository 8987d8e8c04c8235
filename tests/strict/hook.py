"""Puts the gate before every AWS call of a process: this one's, and those of the local cloud's functions.

What the product's own code asks for and AWS would refuse is refused here, with the error that AWS gives, and written
down; what a test asks for on purpose goes through. Functions are other processes, with an interpreter that knows
nothing of this project: a module named `sitecustomize`, made by `write_sitecustomize` and found by PYTHONPATH,
installs it there.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.strict.finding import Finding, Findings
from tests.strict.gate import judge
from tests.strict.others import check_form, check_presigned

REPOSITORY = Path(__file__).resolve().parents[2]
PRODUCT = tuple(f"{REPOSITORY / folder}/" for folder in ("layers", "functions", "cli", "local", "worker", "bench"))
FUNCTION = "AWS_LAMBDA_FUNCTION_NAME"
SITECUSTOMIZE = """\
import os, sys
if {function!r} in os.environ:
    sys.path.insert(0, {repository!r})
    from tests.strict import hook
    sys.path.remove({repository!r})
    hook.install({folder!r})
"""


class Record:
    """What was found, in files that all processes of a session append to."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._told = False

    def call(self) -> None:
        """A call was judged here."""
        if not self._told:
            self._told = True
            self._append("judged", {"function": os.environ.get(FUNCTION), "pid": os.getpid()})

    def refused(self, service: str, operation: str, found: Sequence[Finding]) -> None:
        """The product asked for something that AWS would refuse."""
        told = [str(one) for one in found[:5]]
        self._append("refused", {"call": f"{service} {operation}", "found": told, "where": product_frames()})

    def broken(self) -> None:
        """The gate itself failed."""
        self._append("broken", {"error": traceback.format_exc()[-1500:]})

    def _append(self, name: str, entry: dict[str, Any]) -> None:
        entry["test"] = os.environ.get("PYTEST_CURRENT_TEST") or os.environ.get(FUNCTION)
        with self._lock, open(os.path.join(self._folder, f"{name}.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def product_frames() -> list[str]:
    """Where in the product's code this call comes from; nothing if a test itself makes it."""
    if FUNCTION in os.environ:
        return [os.environ[FUNCTION]]
    frames = traceback.extract_stack()
    outside = [f for f in frames if "/site-packages/" not in f.filename and "/tests/strict/" not in f.filename]
    product = [f for f in outside if f.filename.startswith(PRODUCT)]
    return [f"{f.filename}:{f.lineno} {f.name}" for f in product[-3:]]


def install(folder: str) -> None:
    """Judge every call that botocore is asked to make from now on; also if it is imported later."""
    record = Record(folder)
    patches = {"botocore.client": _patch_client, "botocore.auth": _patch_presigning}
    for name, patch in patches.items():
        if name in sys.modules:
            patch(sys.modules[name], record)
    sys.meta_path.insert(0, _PatchOnImport(patches, record))


def write_sitecustomize(repository: Path, folder: Path) -> None:
    """The module that installs the gate in functions; `folder` is put on their PYTHONPATH."""
    text = SITECUSTOMIZE.format(function=FUNCTION, repository=str(repository), folder=str(folder))
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")


def problems(logs: Path | None) -> list[str]:
    """What a session must fail for; `logs` is where its logs are.

    What the product asked for and AWS would refuse; errors of the gate itself; and functions that ran while the gate
    saw no call of theirs, so that a hook that got lost cannot pass in silence.
    """
    folder = logs / "strict" if logs else None
    if not logs or not folder or not folder.exists():
        return []
    found = [f"AWS would refuse {entry['call']}: {entry}" for entry in _entries(folder / "refused.jsonl")]
    found += [f"the gate failed: {entry}" for entry in _entries(folder / "broken.jsonl")]
    functions = {entry["function"] for entry in _entries(folder / "judged.jsonl")} - {None}
    if (logs / "cloud").exists() and not functions:
        found.append("the local cloud was up, and the gate saw no call of its functions")
    return found


def _entries(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def put_before_clients(record: Record) -> None:
    """Judge the calls of this process's botocore clients."""
    import botocore.client

    _patch_client(botocore.client, record)


def _patch_client(module: ModuleType, record: Record) -> None:
    call: Callable[..., Any] = module.BaseClient._make_api_call

    def judged(self: Any, operation_name: str, api_params: dict[str, Any]) -> Any:
        service_model = self.meta.service_model
        found = list[Finding]()
        try:
            record.call()
            found = judge(service_model, operation_name, api_params or {})
        except Exception:  # told at the session's end; the call itself is not to suffer
            record.broken()
        if found and product_frames():
            record.refused(service_model.service_name, operation_name, found)
            error = {"Code": "ValidationException", "Message": "; ".join(map(str, found[:3]))}
            answer = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400, "RetryAttempts": 0}}
            raise module.ClientError(answer, operation_name)
        return call(self, operation_name, api_params)

    module.BaseClient._make_api_call = judged  # pyright: ignore[reportAttributeAccessIssue]


def _patch_presigning(module: ModuleType, record: Record) -> None:
    query: Callable[..., None] = module.S3SigV4QueryAuth.__init__
    post: Callable[..., Any] = module.S3SigV4PostAuth.add_auth

    def judge_here(operation: str, check: Callable[[Findings], None]) -> None:
        findings = Findings()
        check(findings)
        if findings.found and product_frames():
            record.refused("s3", operation, findings.found)

    def presign(self: Any, credentials: Any, service_name: str, region_name: str, expires: int = 3600) -> None:
        judge_here("presign", lambda findings: check_presigned(int(expires), findings))
        query(self, credentials, service_name, region_name, expires=expires)

    def presign_form(self: Any, request: Any) -> Any:
        answer = post(self, request)
        fields: dict[str, str] = request.context.get("s3-presign-post-fields") or {}
        policy: dict[str, Any] = request.context.get("s3-presign-post-policy") or {}
        judge_here("presign-post", lambda findings: check_form(fields, policy.get("conditions", []), findings))
        return answer

    module.S3SigV4QueryAuth.__init__ = presign  # pyright: ignore[reportAttributeAccessIssue]
    module.S3SigV4PostAuth.add_auth = presign_form  # pyright: ignore[reportAttributeAccessIssue]


class _PatchOnImport(MetaPathFinder):
    """Patches a module right after it was imported."""

    def __init__(self, patches: dict[str, Callable[[ModuleType, Record], None]], record: Record) -> None:
        self._patches = patches
        self._record = record

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        patch = self._patches.get(fullname)
        if patch is None:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(fullname, path, target))), None)
        if spec is None or spec.loader is None:
            return spec
        execute: Callable[[ModuleType], None] = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            patch(module, self._record)

        spec.loader.exec_module = execute_and_patch  # pyright: ignore[reportAttributeAccessIssue]
        return spec
