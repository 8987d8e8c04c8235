"""The agent's environment variables: its own, those of others that stand for them, and those that nobody knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from quaymaster_worker.configuration.options import METADATA, NAMES, OPTIONS, OTHERS, OWN


@dataclass(frozen=True)
class Variables:
    """`own` has all that is set, under the agent's own names.

    `adopted` says of which of them others' names were read; `unknown` are names with either prefix that mean nothing
    here, each with the option that was perhaps meant.
    """

    own: Mapping[str, str]
    adopted: Mapping[str, str]
    unknown: Mapping[str, str | None]

    def called(self, variable: str) -> str:
        """The variable that whoever set this one has set."""
        return self.adopted.get(variable, variable)


def read_variables(environ: Mapping[str, str]) -> Variables:
    """Sort the environment. Whatever an own variable says, others' are not read beside it."""
    own = dict(environ)
    adopted: dict[str, str] = {}
    alone = {option.name: option.alone for option in OPTIONS}
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(OTHERS)
        if name == variable or not _is_known(name):
            continue
        instead = alone.get(name)
        if not any(environ.get(OWN + given) for given in (name, instead) if given):
            own[OWN + name] = value
            adopted[OWN + name] = variable
    return Variables(own, adopted, _unknown(environ))


def _is_known(name: str) -> bool:
    return name in NAMES or name.startswith(METADATA)


def _unknown(environ: Mapping[str, str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for variable in sorted(environ):
        for prefix in (OWN, OTHERS):
            name = variable.removeprefix(prefix)
            if name != variable and not _is_known(name):
                meant = get_close_matches(name, NAMES, n=1)
                found[variable] = prefix + meant[0] if meant else None
    return found
