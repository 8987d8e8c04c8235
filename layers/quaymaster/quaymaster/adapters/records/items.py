"""Items of the table as the low-level client speaks of them, and what they weigh."""

from typing import Any

type Attribute = dict[str, Any]
"""One typed value: `{"S": "text"}`, `{"N": "1"}`, `{"M": {...}}`, ..."""

type Item = dict[str, Attribute]


def item_size(item: Item) -> int:
    """The bytes that the table charges for, by its published rules (Developer Guide, "Item sizes and formats")."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def write_units(item: Item) -> int:
    """WRU of one plain write of the item; in a transaction it costs twice that."""
    return max(1, -(-item_size(item) // 1024))


def _size(attribute: Attribute) -> int:
    ((kind, value),) = attribute.items()
    match kind:
        case "S":
            return len(value.encode())
        case "N":
            digits = value.lstrip("-").replace(".", "").strip("0")
            return (len(digits) + 1) // 2 + 1 + value.startswith("-")
        case "BOOL":
            return 1
        case "L":
            return 3 + sum(1 + _size(element) for element in value)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(element) for name, element in value.items())
        case _:
            raise ValueError(f"no item of ours holds a {kind}")
