"""What Fargate sells, and how anything else is refused."""

import pytest
from quaymaster.domain.cost import TaskSize
from quaymaster.domain.fargate_sizes import SIZES, check_size
from quaymaster.errors import Refused


@pytest.mark.parametrize(
    ("cpu", "memory", "sold"),
    [
        (256, 512, True),
        (256, 2048, True),
        (256, 3072, False),
        (512, 1024, True),
        (512, 1536, False),
        (1024, 8192, True),
        (1024, 9216, False),
        (2048, 3072, False),
        (4096, 30720, True),
        (4096, 31744, False),
        (8192, 61440, True),
        (8192, 17408, False),
        (16384, 32768, True),
        (16384, 122880, True),
    ],
)
def test_a_size_is_sold_or_refused_with_what_goes_together(cpu: int, memory: int, sold: bool) -> None:
    if sold:
        check_size(cpu, memory)
        return
    with pytest.raises(Refused, match=f"memory: found {memory}; with {cpu} CPU units"):
        check_size(cpu, memory)


def test_a_number_of_cpus_that_is_not_sold_is_refused_with_those_that_are() -> None:
    with pytest.raises(Refused, match="cpu: found 3072; one of 256, 512, 1024, 2048, 4096, 8192, 16384"):
        check_size(3072, 8192)


def test_what_a_pool_is_without_words_is_sold() -> None:
    usual = TaskSize()
    check_size(usual.cpu, usual.memory)
    assert all(list(sizes) == sorted(sizes) for sizes in SIZES.values())
