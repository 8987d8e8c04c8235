"""The engine for Rego (regorus, by the package `opa-eval`), behind two calls."""

import json
import re
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from quaymaster_policy.errors import EngineMissing, PolicyRefused

_PLACE = re.compile(r"--> (?P<file>.+?):(?P<line>\d+):(?P<column>\d+)")
_ERROR = re.compile(r"^error: (?P<what>.*)", re.MULTILINE | re.DOTALL)
UNDEFINED = "<undefined>"


class Query:
    """One query of a policy's text, compiled."""

    def __init__(self, text: str, query: str, file: str) -> None:
        """Raises PolicyRefused."""
        self._file = file
        try:
            make: Any = import_module("opa_eval").OpaEval
        except ImportError:
            what = "no engine for Rego comes for this kind of machine (there is one for x86-64 Linux)"
            raise EngineMissing(file, what) from None
        # The engine reads files only.
        with tempfile.TemporaryDirectory(prefix="quaymaster-policy-") as folder:
            path = Path(folder) / "policy.rego"
            path.write_text(text, encoding="utf-8")
            try:
                self._query = make(str(path), query=query)
            except RuntimeError as error:
                raise self._refusal(error) from None

    def answer(self, document: Mapping[str, Any]) -> Any:
        """What it answers about an input; UNDEFINED for nothing. Raises PolicyRefused."""
        try:
            return json.loads(self._query.evaluate(json.dumps(document)))
        except RuntimeError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: RuntimeError) -> PolicyRefused:
        text = str(error)
        place, what = _PLACE.search(text), _ERROR.search(text)
        said = " ".join((what["what"] if what else text).split("-->")[0].split()).rstrip(" .")
        if not place:
            return PolicyRefused(self._file, said)
        return PolicyRefused(self._file, said, int(place["line"]), int(place["column"]))


def is_function(name: str) -> tuple[bool, int | None]:
    """Whether the engine has a function of this name, and how many arguments it wants, where it says so."""
    query = Query(f"package probe\nx {{ {name}() }}\n", "data.probe.x", "probe")
    try:
        query.answer({})
    except PolicyRefused as error:
        if "could not find function" in error.what:
            return False, None
        wanted = re.search(r"expects (\d+) argument", error.what)
        return True, int(wanted[1]) if wanted else None
    return True, None
