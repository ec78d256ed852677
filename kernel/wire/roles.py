"""Role names and their tree (spec: mesos-v1, section 6.4).

`eng/db` is a strict sub-role of `eng`. `*` is the role of whoever names none; nothing can be reserved for it.
"""

from __future__ import annotations

from kernel.errors import CallError

ANY_ROLE = "*"
WEIGHT_MIN, WEIGHT_MAX = 0.001, 1_000_000  # Beyond, shares would lose their digits.
ROLE_DEPTH_MAX = 64  # Mesos knows no bound; whatever walks the tree needs one.
ROLE_BYTES_MAX = 255  # Nor here; a folder of volumes is named after the role.


def validate_role(role: str, field: str = "role") -> None:
    """Raise CallError naming the field unless the text is `*` or components joined by `/`."""
    if role == ANY_ROLE or (role.isalnum() and len(role) < 64):  # Nearly all are the one or the other.
        return
    if not role:
        raise CallError(f"{field}: a role must not be empty")
    if (size := len(role.encode())) > ROLE_BYTES_MAX:
        raise CallError(f"{field}: a role has at most {ROLE_BYTES_MAX} bytes, '{role[:100]}...' has {size}")
    if role.startswith("-"):
        raise CallError(f"{field}: the role '{role}' must not start with '-'")
    if any(character.isspace() or character == "\b" for character in role):
        raise CallError(f"{field}: the role '{role}' must not contain white space or a backspace")
    components = role.split("/")
    if len(components) > ROLE_DEPTH_MAX:
        raise CallError(f"{field}: a role has at most {ROLE_DEPTH_MAX} levels, '{role[:100]}...' has {len(components)}")
    for component in components:
        if not component:
            raise CallError(f"{field}: the role '{role}' must not start or end with '/' or contain '//'")
        if component in (".", "..", ANY_ROLE):
            raise CallError(f"{field}: the role '{role}' must not have '{component}' as a component")


def is_strict_subrole(role: str, ancestor: str) -> bool:
    """Whether `role` lies below `ancestor` in the tree: `eng/db` below `eng`, never `eng` below itself."""
    return role.startswith(ancestor) and role[len(ancestor) : len(ancestor) + 1] == "/"


def is_same_or_below(role: str, ancestor: str) -> bool:
    """Whether what is reserved for `ancestor` may be offered to `role`."""
    return role == ancestor or is_strict_subrole(role, ancestor)


def ancestors(role: str) -> tuple[str, ...]:
    """The roles above, nearest last: `a/b/c` gives `a`, `a/b`."""
    parts = role.split("/")
    return tuple("/".join(parts[:n]) for n in range(1, len(parts)))
