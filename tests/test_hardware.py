"""Layouts that cannot be are refused with the numbers."""

import pytest

from pi0_jax.errors import InputError
from pi0_jax.training.hardware import Hardware


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fsdp": 0}, "hardware.fsdp must be at least 1, got 0"),
        ({"micro_batches": -1}, "hardware.micro_batches must be at least 1, got -1"),
        ({"frozen_dtype": "int8"}, "hardware.frozen_dtype must be one of .* got 'int8'"),
        ({"memory_gb": -1.0}, "must not be negative"),
    ],
)
def test_ranges(values, message):
    with pytest.raises(InputError, match=message):
        Hardware(**values)


def test_batches():
    Hardware(data=2, fsdp=4, micro_batches=3).check_batch(48)
    with pytest.raises(InputError, match=r"2 \* 4 \* 3 = 24, got 36"):
        Hardware(data=2, fsdp=4, micro_batches=3).check_batch(36)
