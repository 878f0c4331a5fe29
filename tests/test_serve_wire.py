"""Messages: byte for byte openpi's, and nothing that bytes can do harms."""

import msgpack
import numpy as np
import pytest

from pi0_jax.errors import InputError
from pi0_jax.serve import wire

# {"a": float32[0, 1, 2]}, as openpi's client sends it.
EXAMPLE = bytes.fromhex(
    "81 a161 84 c40b 5f5f6e6461727261795f5f c3 c404 64617461 c40c 00000000 0000803f 00000040"
    "c405 6474797065 a3 3c6634 c405 7368617065 91 03"
)


def test_an_array_has_the_bytes_of_openpi():
    assert wire.pack({"a": np.arange(3, dtype=np.float32)}) == EXAMPLE
    (array,) = wire.unpack(EXAMPLE).values()
    np.testing.assert_array_equal(array, np.array([0, 1, 2], np.float32))
    assert array.dtype == np.float32


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 0, 3), np.uint8),
        np.array(1.5),
        np.array([True, False]),
        np.arange(6, dtype=">i2").reshape(2, 3),
    ],
)
def test_arrays_survive(value):
    there = wire.unpack(wire.pack([value]))[0]
    np.testing.assert_array_equal(there, value)
    assert (there.dtype, there.shape) == (value.dtype, value.shape)


def test_plain_values_and_scalars_survive():
    value = {"x": [1, 2.5, None, True, "text", b"bytes"], "deep": {"y": np.float32(0.5)}}
    assert wire.unpack(wire.pack(value)) == {**value, "deep": {"y": 0.5}}
    assert wire.unpack(wire.pack(np.str_("lift"))) == "lift"
    assert wire.unpack(wire.pack(np.array("lift"))) == "lift"


def test_other_types_are_not_packed():
    for value in (object(), np.array([None]), np.array(1j), {1, 2}):
        with pytest.raises(TypeError, match="expected"):
            wire.pack(value)


def array(**changes) -> bytes:
    """A message of one array, some of whose entries are wrong."""
    entries = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4", b"shape": [2]}
    return msgpack.packb(entries | {key.encode(): value for key, value in changes.items()})


BAD = {
    "random bytes": (b"\xc1\x00garbage", "one msgpack message"),
    "cut off": (EXAMPLE[:-5], "one msgpack message"),
    "bytes behind": (EXAMPLE + b"x", "one msgpack message"),
    "nothing": (b"", "one msgpack message"),
    "a pickle": (b"\x80\x04\x95cos\nsystem\n", "one msgpack message"),
    "objects": (array(dtype="|O"), "array of numbers"),
    "records": (array(dtype="<i4,<i4"), "array of numbers"),
    "another type of bytes": (array(dtype=b"<f4"), "array of numbers"),
    "too few bytes": (array(shape=[3]), "expected 12 bytes"),
    "a huge shape": (array(shape=[2**40, 2**40]), "bytes for an array"),
    "a negative size": (array(shape=[-2]), "list of sizes"),
    "no list": (array(shape=2), "list of sizes"),
    "many axes": (array(shape=[1] * 40), "at most 8 axes"),
    "no data": (array(data=None), "expected 8 bytes"),
    "many texts": (array(dtype="<U1", shape=[2]), "expected one text"),
    "an extension type": (msgpack.packb(msgpack.ExtType(5, b"x")), "one msgpack message"),
    "a map of numbers": (msgpack.packb({1: 2}), "one msgpack message"),
    # Each empty list is one byte of the message and 56 bytes of memory.
    "many lists": (msgpack.packb([[]] * 60_000), "at most 1000 lists"),
    "a long list": (msgpack.packb([0] * 70_000), "one msgpack message"),
    "depth": (b"\x91" * 5000 + b"\x00", "one msgpack message|at most 1000 lists"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_message_is_one_clear_error(name):
    message, match = BAD[name]
    with pytest.raises(InputError, match=match) as error:
        wire.unpack(message)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)
