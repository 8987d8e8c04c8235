"""What a worker remembers of the attempts it has begun or given back, so that none begins twice."""

from collections import OrderedDict

from quaymaster.domain.messages import PhaseFinished

Key = tuple[str, int]

REPORTS_KEPT = 256
KEYS_KEPT = 200_000


class Memory:
    """Every attempt begun by this process, and the newest reports. Bounded: the oldest are forgotten first."""

    def __init__(self) -> None:
        self._begun: OrderedDict[Key, None] = OrderedDict()
        self._given_back: OrderedDict[Key, None] = OrderedDict()
        self._reports: OrderedDict[Key, PhaseFinished] = OrderedDict()

    def begin(self, key: Key) -> None:
        """The attempt's phase begins."""
        _add(self._begun, key)

    def has_begun(self, key: Key) -> bool:
        """Whether this process began the attempt, at any time."""
        return key in self._begun

    def give_back(self, key: Key) -> None:
        """The attempt was given back or refused before it began."""
        _add(self._given_back, key)

    def was_given_back(self, key: Key) -> bool:
        """Whether the attempt was given back or refused."""
        return key in self._given_back

    def keep_report(self, key: Key, report: PhaseFinished) -> None:
        """Keep the last report of an attempt, to answer a repeated assignment with."""
        self._reports[key] = report
        while len(self._reports) > REPORTS_KEPT:
            self._reports.popitem(last=False)

    def report(self, key: Key) -> PhaseFinished | None:
        """The last report of an attempt."""
        return self._reports.get(key)


def _add(keys: OrderedDict[Key, None], key: Key) -> None:
    keys[key] = None
    while len(keys) > KEYS_KEPT:
        keys.popitem(last=False)
