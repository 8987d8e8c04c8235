"""What the build removes from the layer is not what the layer uses."""

import ast
import gzip
import json
from pathlib import Path
from typing import Any

import botocore
import botocore.session
import pytest
from botocore import xform_name

from tests.shared.cloudformation import REPOSITORY
from tools.slim_layer import OPERATIONS, trim_model

ADAPTERS = REPOSITORY / "layers/quaymaster/quaymaster/adapters"
DATA = Path(botocore.__file__).parent / "data"


def words(source: Path) -> set[str]:
    """What a module takes of objects, and its texts: a paginator is asked for by a text."""
    nodes = list(ast.walk(ast.parse(source.read_text(encoding="utf-8"))))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def model(service: str) -> dict[str, Any]:
    """botocore's own description of a service."""
    newest = max((DATA / service).iterdir())
    return json.loads(gzip.decompress((newest / "service-2.json.gz").read_bytes()))


def test_the_layer_keeps_exactly_the_operations_that_its_code_calls() -> None:
    session = botocore.session.get_session()
    said = {word for source in ADAPTERS.rglob("*.py") for word in words(source)}
    called: dict[str, set[str]] = {}
    for service in session.get_available_services():
        if service in OPERATIONS:
            names = session.get_service_model(service).operation_names
            called[service] = {name for name in names if xform_name(name) in said}
    assert called == OPERATIONS


def test_no_client_is_made_of_a_service_that_the_layer_does_not_keep() -> None:
    made = {
        node.args[0].value
        for source in ADAPTERS.rglob("*.py")
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("client") and node.args
        if isinstance(node.args[0], ast.Constant)
    }
    assert made == OPERATIONS.keys()


@pytest.mark.parametrize("service", sorted(OPERATIONS))
def test_what_is_kept_of_a_service_is_whole_and_says_the_same(service: str) -> None:
    whole = model(service)
    trimmed = trim_model(whole, OPERATIONS[service])
    assert trimmed == trim_model(model(service), OPERATIONS[service]), "made twice, it is the same"
    assert trimmed["operations"].keys() == OPERATIONS[service]
    for part in ("operations", "shapes"):
        described = without_documentation(whole[part])
        assert all(kept == described[name] for name, kept in trimmed[part].items())
    parts: dict[str, Any] = {"operations": {}, "shapes": {}}
    assert trimmed | parts == whole | parts
    assert named(trimmed["operations"]) | named(trimmed["shapes"]) == trimmed["shapes"].keys()


def without_documentation(described: Any) -> Any:
    text = json.dumps(described)
    return json.loads(text, object_pairs_hook=lambda pairs: {k: v for k, v in pairs if not is_prose(k, v)})


def is_prose(key: str, value: object) -> bool:
    return key in ("documentation", "documentationUrl") and isinstance(value, str)


def named(described: Any) -> set[str]:
    found: set[str] = set()
    json.loads(
        json.dumps(described),
        object_hook=lambda inner: found.add(inner["shape"]) if isinstance(inner.get("shape"), str) else None,
    )
    return found
