"""Masking: however the bytes come, in whatever form, the secret is not in what is kept, and all else is."""

import base64
import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from quaymaster_worker.log.masking import LEAST, MASK, MaskCommands, Secrets

SECRET = b"hunter2-and-more"
ENDS = re.compile(rb"[\r\n]+")
secrets = st.binary(min_size=LEAST, max_size=24).filter(lambda value: len(ENDS.sub(b"", value)) >= LEAST)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


def masked(known: list[bytes], parts: list[bytes]) -> bytes:
    mask = Secrets(known)
    return b"".join(map(mask.feed, parts)) + mask.flush()


@given(
    known=st.lists(secrets, min_size=1, max_size=4),
    around=st.lists(st.binary(max_size=40), min_size=2, max_size=5),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
@example(known=[b"abcdabce"], around=[b"abcdabc", b""], cuts=[7, 9])
@example(known=[b"token", b"token-very-long"], around=[b"x", b"y"], cuts=[2, 5, 6])
def test_however_it_is_split_a_secret_is_masked_and_nothing_else_is(
    known: list[bytes], around: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(part + known[number % len(known)] for number, part in enumerate(around))
    whole = masked(known, [data])
    assert masked(known, pieces(data, cuts)) == whole
    for value in known:
        assert value not in whole.replace(MASK, b"")
    # Whatever is left stands in the data, in its order.
    rest = iter(data)
    assert all(byte in rest for byte in whole.replace(MASK, b""))


@given(
    value=secrets,
    before=st.binary(max_size=10),
    after=st.binary(max_size=10),
    width=st.integers(6, 76),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    safe=st.booleans(),
)
def test_its_base64_is_masked_whatever_was_encoded_with_it_and_wherever_its_lines_end(
    value: bytes, before: bytes, after: bytes, width: int, cuts: list[int], safe: bool
) -> None:
    encode = base64.urlsafe_b64encode if safe else base64.b64encode
    encoded = encode(before + value + after)
    lines = b"\n".join(encoded[at : at + width] for at in range(0, len(encoded), width)) + b"\n"
    whole = masked([value], pieces(lines, cuts))
    stable = encoded[(len(before) * 8 + 5) // 6 : (len(before) + len(value)) * 8 // 6]
    # Of what stands there twice one may be none of the value's.
    if len(stable) >= LEAST + 2 and encoded.find(stable, encoded.find(stable) + 1) < 0:
        assert _hidden(stable, (len(before) * 8 + 5) // 6, lines, whole)


def _hidden(stable: bytes, start: int, lines: bytes, whole: bytes) -> bool:
    """Whether the part is masked, or begins with a line end within its first bytes, as the limits say."""
    if stable not in ENDS.sub(b"", whole):
        return True
    ends = [at for at in range(len(lines)) if lines[at : at + 1] == b"\n"]
    places = [at - number for number, at in enumerate(ends)]
    return any(start < place < start + LEAST for place in places)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_value_of_several_lines_is_masked_and_its_lines_stay_lines(end: bytes) -> None:
    value = b"-----BEGIN KEY-----\nMIIC\nabc\n-----END KEY-----\n"
    printed = b"before " + value.replace(b"\n", end) + b"after"
    mask = Secrets([value])
    found = b"".join(mask.feed(bytes([byte])) for byte in printed) + mask.flush()
    assert found == b"before " + end.join([MASK] * 4) + end + b"after"


def test_a_line_that_ends_in_the_first_byte_of_a_secret_does_not_wait() -> None:
    assert Secrets([SECRET]).feed(b"found h\n") == b"found h\n"
    assert Secrets([SECRET]).feed(b"found hun\n") == b"found hun\n"
    mask = Secrets([SECRET])
    assert mask.feed(b"found hunter\n") == b"found "
    assert mask.feed(b"2-and-more.") == MASK + b"\n" + MASK + b"."


def test_what_is_short_is_left_as_it_is() -> None:
    assert masked([b"on", b"", b"yes"], [b"yes, on it"]) == b"yes, on it"


def test_a_text_of_the_agents_own_is_masked_beside_what_is_held_back() -> None:
    mask = Secrets([SECRET])
    assert mask.feed(b"hunter2") == b""
    assert mask.hide(f"running echo {SECRET.decode()} ü") == "running echo ***** ü"
    assert mask.feed(b"-and-more") == MASK


@given(cuts=st.lists(st.integers(0, 120), max_size=10))
def test_words_of_add_mask_lines_are_masked_from_then_on(cuts: list[int]) -> None:
    data = (
        b"correct horse\n::add-mask correct horse x\ncorrect\n ::add-mask battery\nhorse battery ::add-mask battery\n"
    )
    mask = MaskCommands(Secrets())
    found = b"".join(map(mask.feed, pieces(data, cuts))) + mask.flush()
    assert found == (b"correct horse\n::add-mask *****\n*****\n ::add-mask battery\n***** battery ::add-mask battery\n")


def test_an_add_mask_line_without_an_end_is_one_all_the_same() -> None:
    mask = MaskCommands(Secrets())
    assert mask.feed(b"::add-mask secret-word") == b""
    assert mask.flush() == b"::add-mask *****"
