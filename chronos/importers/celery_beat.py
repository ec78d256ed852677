"""`beat_schedule` of a Celery application, read from its source by `ast`: nothing of it is imported or run.

Found are assignments to `beat_schedule` and its older names, `conf.update(beat_schedule=...)`, and entries added by `[...]` or
`beat_schedule.update(...)`. What is not written out there, but computed, cannot be known without running it, and is noted with its line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any

from chronos.importers import Collector, Imported
from chronos.schedule.calendars import WEEKDAY_NAMES
from chronos.schedule.cron import compile_cron
from kernel.errors import CallError

SOURCE_BYTES_MAX = 5_000_000
_SCHEDULES = ("beat_schedule", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE")
_ZONES = ("timezone", "CELERY_TIMEZONE")
_CRON_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_CRON_ARGUMENTS = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")  # As crontab() takes them by place.
_UNITS = {"days": 86_400, "seconds": 1, "microseconds": 1e-6, "milliseconds": 1e-3, "minutes": 60, "hours": 3_600, "weeks": 604_800}
_DELTA_ARGUMENTS = ("days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks")
_LONG_WEEKDAY = re.compile(r"\b({})[a-z]+\b".format("|".join(WEEKDAY_NAMES)))
_OPTIONS = ("queue",)


class _Unknown(Exception):
    """A value that is not written out; the text says what it is."""


def read_beat(text: str, source: str, taken: Iterable[str] = ()) -> Imported:
    """Read the source of a module. taken: names that jobs have already. Raises nothing: what cannot be read is a note."""
    collector = Collector(source, taken)
    try:
        if len(text.encode()) > SOURCE_BYTES_MAX:
            raise ValueError(f"it has more than {SOURCE_BYTES_MAX} bytes")
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        collector.lost(getattr(error, "lineno", None) or 0, f"not Python: {error}")
        return collector.imported()
    reader = _Reader(collector, module)
    reader.read()
    return collector.imported()


class _Reader:
    """One module: its simple constants, its zone, its entries."""

    def __init__(self, collector: Collector, module: ast.Module) -> None:
        self.collector = collector
        self.module = module
        self.constants: dict[str, ast.expr] = {}
        self.zone = ""

    def read(self) -> None:
        schedules: list[ast.expr] = []
        entries: list[tuple[ast.expr, ast.expr]] = []
        for name, value in self._settings():
            if name in _ZONES:
                try:
                    self.zone = str(self.value(value))
                except _Unknown as error:
                    self.collector.lost(value.lineno, f"{name}: {error}")
            elif name in _SCHEDULES:
                schedules.append(value)
        for node in ast.walk(self.module):
            if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Subscript) and _name(target.value) in _SCHEDULES:
                entries.append((target.slice, node.value))
            elif isinstance(node, ast.Call) and _name(node.func) == "add_periodic_task":
                self.collector.lost(
                    node.lineno, "add_periodic_task: which task it is, only the running application knows; put it into beat_schedule"
                )
        for schedule in schedules:
            resolved = self._resolve(schedule)
            if isinstance(resolved, ast.Dict):
                for key, entry in zip(resolved.keys, resolved.values, strict=True):
                    if key is None:
                        self.collector.lost(entry.lineno, "**: entries that come from elsewhere are not written out here")
                    else:
                        entries.append((key, entry))
            else:
                self.collector.lost(schedule.lineno, f"beat_schedule: {_shown(resolved)} is not written out here")
        for key, entry in sorted(entries, key=lambda pair: pair[1].lineno):
            self._take(key, entry)
        if entries:  # The URL of a broker may have a password in it, and jobs are shown to many.
            self.collector.differs(
                0, "its broker is not carried over: tasks go to that of the scheduler (`serve chronos --celery_broker URL`)"
            )

    def _settings(self) -> Iterator[tuple[str, ast.expr]]:
        """Names and values that are assigned, as variables, attributes or by `conf.update(...)`."""
        for node in ast.walk(self.module):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    yield _name(target), node.value
            elif isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value is not None:
                yield _name(node.target), node.value
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
                yield from _updated(_name(node.func.value), node)
        twice: set[str] = set()
        for statement in self.module.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name = statement.targets[0].id
                if name in self.constants:
                    twice.add(name)
                self.constants[name] = statement.value
        for name in twice:
            del self.constants[name]

    def _take(self, key: ast.expr, entry: ast.expr) -> None:
        line = entry.lineno
        try:
            title = str(self.value(key))
            fields = self._entry(entry)
            task = str(self.value(fields.pop("task"))) if "task" in fields else ""
            if "schedule" not in fields:
                raise _Unknown("it has no schedule")
            schedule, weekdays = self._schedule(fields.pop("schedule"))
            call: dict[str, Any] = {"task": task}
            for name in ("args", "kwargs"):
                if name in fields:
                    call[name] = self.value(fields.pop(name))
            options = self.value(fields.pop("options")) if "options" in fields else {}
            if not isinstance(options, dict):
                raise _Unknown("its options are no object")
        except _Unknown as error:
            self.collector.lost(line, f"{_shown(key)}: {error}")
            return
        for name in _OPTIONS:
            if name in options:
                call[name] = options.pop(name)
        if options:
            call["options"] = options
        name = self.collector.name(title)
        more: dict[str, Any] = {"overlap": "allow", "celery": call}
        if weekdays:
            more["calendar"] = {"include": weekdays}
        for field in fields:
            if field != "relative" or _shown(fields[field]) != "False":
                self.collector.lost(line, f"{field}: there is nothing like it here", name)
        job = {"name": name, "schedule": schedule, "scheduleTimeZone": self.zone, "retries": 0, "concurrent": True, "meseta": more}
        if not schedule.startswith("@every") and not self.zone:
            self.collector.differs(line, "without a timezone Celery goes by UTC, and so does this", name)
        self.collector.add(job | {"description": title}, line)

    def _entry(self, entry: ast.expr) -> dict[str, ast.expr]:
        resolved = self._resolve(entry)
        if isinstance(resolved, ast.Dict) and all(isinstance(key, ast.Constant) for key in resolved.keys):
            return {
                str(key.value): value for key, value in zip(resolved.keys, resolved.values, strict=True) if isinstance(key, ast.Constant)
            }
        if isinstance(resolved, ast.Call) and _name(resolved.func) == "dict" and not resolved.args:
            return {keyword.arg: keyword.value for keyword in resolved.keywords if keyword.arg is not None}
        raise _Unknown(f"{_shown(resolved)} is not written out here")

    def _schedule(self, node: ast.expr) -> tuple[str, list[str]]:
        """The text of a schedule, and the weekdays its calendar is to have."""
        node = self._resolve(node)
        if isinstance(node, ast.Call):
            called = _name(node.func)
            if called == "crontab":
                return self._crontab(node)
            if called == "solar":
                raise _Unknown("solar: the sun's times are not carried over")
            if called == "schedule":
                every = node.args[0] if node.args else next((part.value for part in node.keywords if part.arg == "run_every"), None)
                if every is not None:
                    return self._schedule(every)
        seconds = self.value(node)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise _Unknown(f"{_shown(node)} is no schedule that can be read")
        try:
            return f"@every {seconds:.3f}".rstrip("0").rstrip(".") + "s", []
        except OverflowError:
            raise _Unknown(f"{_shown(node)} is too long a time") from None

    def _crontab(self, call: ast.Call) -> tuple[str, list[str]]:
        given = dict(zip(_CRON_ARGUMENTS, call.args, strict=False))
        for keyword in call.keywords:
            if keyword.arg not in _CRON_FIELDS:
                raise _Unknown(f"crontab({keyword.arg}=...) is known to the running application only")
            given[keyword.arg] = keyword.value
        fields = {name: _cron_text(self.value(given[name])) if name in given else "*" for name in _CRON_FIELDS}
        fields["day_of_week"] = _LONG_WEEKDAY.sub(lambda found: found[1], fields["day_of_week"])
        weekdays: list[str] = []
        if fields["day_of_month"] != "*" and fields["day_of_week"] != "*":
            # Celery wants both to match, cron either: the weekdays become a calendar.
            try:
                mask = compile_cron(f"0 0 * * {fields['day_of_week']}").weekdays
            except CallError as error:
                raise _Unknown(str(error)) from None
            weekdays = [name for index, name in enumerate(WEEKDAY_NAMES) if mask >> index & 1]
            fields["day_of_week"] = "*"
        return " ".join(fields.values()), weekdays

    def _resolve(self, node: ast.expr) -> ast.expr:
        """What a name stands for, where the module assigns it once at its top."""
        for _ in range(10):
            if not isinstance(node, ast.Name) or node.id not in self.constants:
                break
            node = self.constants[node.id]
        return node

    def value(self, node: ast.expr, depth: int = 0) -> Any:
        """What an expression is, as far as it is written out: constants, lists, objects, arithmetic, timedelta."""
        if depth > 50:
            raise _Unknown("it is nested too deeply")
        node = self._resolve(node)
        match node:
            case ast.Constant(value=str() | int() | float() | None as value):
                return value
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
                return [self.value(item, depth + 1) for item in items]
            case ast.Dict(keys=keys, values=values) if all(key is not None for key in keys):
                return {str(self.value(key, depth + 1)): self.value(item, depth + 1) for key, item in zip(keys, values, strict=True) if key}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._number(operand, depth)
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as op, right=right):
                return _reckon(op, self._number(left, depth), self._number(right, depth), node)
            case ast.Call(func=func) if _name(func) == "timedelta":
                return self._timedelta(node, depth)
        raise _Unknown(f"{_shown(node)} is not written out here")

    def _number(self, node: ast.expr, depth: int) -> float:
        value = self.value(node, depth + 1)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Unknown(f"{_shown(node)} is no number")
        return value

    def _timedelta(self, call: ast.Call, depth: int) -> float:
        given = [*zip(_DELTA_ARGUMENTS, call.args, strict=False), *((keyword.arg or "", keyword.value) for keyword in call.keywords)]
        if any(unit not in _UNITS for unit, _ in given):
            raise _Unknown(f"{_shown(call)} is no length of time")
        return sum(self._number(value, depth) * _UNITS[unit] for unit, value in given)


def _reckon(op: ast.operator, left: float, right: float, node: ast.expr) -> float:
    try:
        match op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
        return left / right
    except ArithmeticError:
        raise _Unknown(f"{_shown(node)} cannot be reckoned") from None


def _cron_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value).replace(" ", "").lower()


def _updated(receiver: str, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """What `RECEIVER.update(...)` sets: settings by their names, or more of a schedule."""
    if receiver in _SCHEDULES:
        yield from ((receiver, given) for given in (call.args if not call.keywords else [call]))
        return
    for keyword in call.keywords:
        yield keyword.arg or "", keyword.value
    for given in call.args:
        if receiver == "conf" and isinstance(given, ast.Dict):
            yield from (
                (str(key.value), value) for key, value in zip(given.keys, given.values, strict=True) if isinstance(key, ast.Constant)
            )


def _name(node: ast.expr) -> str:
    """The last name of `a.b.c` or `a.b["c"]`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.id if isinstance(node, ast.Name) else ""


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 80 else f"{text[:80]}..."
