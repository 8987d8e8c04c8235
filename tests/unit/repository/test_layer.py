"""What the build removes from the layer is not what the layer uses."""

import re

from tests.shared.cloudformation import REPOSITORY
from tools.slim_layer import SERVICES

CLIENT = re.compile(r"""client\(\s*["']([a-z0-9-]+)["']""")


def test_the_layer_keeps_exactly_the_services_that_its_code_calls() -> None:
    sources = [*(REPOSITORY / "functions").glob("*.py"), *(REPOSITORY / "layers/quaymaster/quaymaster").rglob("*.py")]
    called = {name for source in sources for name in CLIENT.findall(source.read_text())}
    assert called == SERVICES
