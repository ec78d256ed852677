"""Keeps a control group of version 2 away from devices: a small program of the kernel's virtual machine, attached to the group, is
asked at each opening of a device file. Version 1 has the controller `devices` instead.

Sources: the kernel's documentation, admin-guide/cgroup-v2 ("Device controller"); include/uapi/linux/bpf.h; bpf(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable, Iterator, Sequence

_SYSCALL = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351, "riscv64": 280}.get(platform.machine())
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_CGROUP_DEVICE = 15  # The type of the program.
_CGROUP_DEVICE_ATTACH = 6
_ALLOW_MULTI = 2  # Beside programs of others: all must agree.
_CHARACTER = 2
_ATTACHED_MAX = 64
_ATTR_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)


def usable() -> bool:
    """Whether this kernel takes such programs from us."""
    try:
        os.close(_load(program(())))
    except OSError:
        return False
    return True


def attach(group: str, denied: Iterable[str]) -> None:
    """Keep a group away from these devices (`c MAJOR:MINOR`), and from none else that we kept it away from. Raises OSError naming
    the group."""
    try:
        folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            former = _attached(folder)
            loaded = _load(program(_numbers(denied)))
            try:
                _bpf(_PROG_ATTACH, struct.pack("=IIII", folder, loaded, _CGROUP_DEVICE_ATTACH, _ALLOW_MULTI))
            finally:
                os.close(loaded)
            for program_id in former:  # After the new one is there: never without.
                _detach(folder, program_id)
        finally:
            os.close(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, group) from None


def program(denied: Sequence[tuple[int, int]]) -> bytes:
    """The instructions that refuse these character devices, by major and minor number, and allow all others.

    Each is eight bytes: what to do, two registers, an offset to jump by, a number. It finds in register 1 three 32-bit numbers: the
    kind of device in the lower half of the first, then major and minor. What register 0 holds at its end is the answer.
    """
    kind, major, minor = 2, 3, 4  # Registers.
    code = [
        _instruction(0x61, kind, 1, 0),  # Load.
        _instruction(0x54, kind, number=0xFFFF),  # And.
        _instruction(0x61, major, 1, 4),
        _instruction(0x61, minor, 1, 8),
        _instruction(0x55, kind, offset=4 * len(denied), number=_CHARACTER),  # Jump if not equal.
    ]
    for device_major, device_minor in denied:
        code += [
            _instruction(0x55, major, offset=3, number=device_major),
            _instruction(0x55, minor, offset=2, number=device_minor),
            _instruction(0xB7, 0, number=0),  # Move.
            _instruction(0x95),  # Exit.
        ]
    code += [_instruction(0xB7, 0, number=1), _instruction(0x95)]
    return b"".join(code)


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, number)


def _numbers(rules: Iterable[str]) -> list[tuple[int, int]]:
    def read() -> Iterator[tuple[int, int]]:
        for rule in rules:
            major, _, minor = rule.removeprefix("c ").partition(":")
            yield int(major), int(minor)

    return list(read())


def _load(code: bytes) -> int:
    """The file descriptor of a program that the kernel has checked."""
    text, license_text = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Apache-2.0")
    addresses = ctypes.addressof(text), ctypes.addressof(license_text)
    return _bpf(_PROG_LOAD, struct.pack("=IIQQ", _CGROUP_DEVICE, len(code) // 8, *addresses))


def _attached(folder: int) -> list[int]:
    """The ids of the programs that are attached to a group itself: ours, as nobody else knows the group."""
    found = (ctypes.c_uint32 * _ATTACHED_MAX)()
    attr = ctypes.create_string_buffer(
        struct.pack("=IIIIQI", folder, _CGROUP_DEVICE_ATTACH, 0, 0, ctypes.addressof(found), _ATTACHED_MAX), _ATTR_BYTES
    )
    _call(_PROG_QUERY, attr)
    (count,) = struct.unpack_from("=I", attr, 24)
    return list(found[:count])


def _detach(folder: int, program_id: int) -> None:
    attached = _bpf(_PROG_GET_FD_BY_ID, struct.pack("=III", program_id, 0, 0))
    try:
        _bpf(_PROG_DETACH, struct.pack("=III", folder, attached, _CGROUP_DEVICE_ATTACH))
    finally:
        os.close(attached)


def _bpf(command: int, attr: bytes) -> int:
    return _call(command, ctypes.create_string_buffer(attr, _ATTR_BYTES))


def _call(command: int, attr: ctypes.Array[ctypes.c_char]) -> int:
    if _SYSCALL is None:
        raise OSError(38, f"no device filters on {platform.machine()}")
    done: int = _libc.syscall(_SYSCALL, command, attr, _ATTR_BYTES)
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return done
