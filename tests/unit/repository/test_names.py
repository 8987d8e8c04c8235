"""The product has one name. The one that it had at first belongs to somebody else's package, and is nowhere left."""

import base64
import subprocess

from tests.shared.cloudformation import REPOSITORY

FORMER = "long" + "shore"


def as_base64(word: str) -> set[str]:
    """What is surely in base64 of any text that holds the word, whatever lies before it."""
    found: set[str] = set()
    for before in range(3):
        told = base64.b64encode(b"-" * before + word.encode()).decode().rstrip("=")
        # The first and the last characters may hold bits of what lies beside the word.
        found.add(told[before + (before > 0) : -1])
    return found


def test_no_file_has_the_former_name_not_even_encoded() -> None:
    told = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    names = [name for name in told.split("\0") if name and (REPOSITORY / name).is_file()]
    assert len(names) > 300
    assert [name for name in names if FORMER in name.lower()] == []
    encoded = as_base64(FORMER)
    wrong: list[str] = []
    for name in names:
        text = (REPOSITORY / name).read_text(encoding="utf-8", errors="replace")
        if FORMER in text.lower() or any(one in text for one in encoded):
            wrong.append(name)
    assert wrong == []


def test_the_encoded_name_is_found_wherever_it_lies() -> None:
    for before in range(6):
        for after in range(3):
            told = base64.b64encode(b"x" * before + FORMER.encode() + b"y" * after).decode()
            assert any(one in told for one in as_base64(FORMER))
