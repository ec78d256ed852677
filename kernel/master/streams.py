"""The event streams of schedulers and operators, by stream id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kernel.net.stream import RecordStream
from kernel.wire import codec
from kernel.wire.scheduler import Event

HEARTBEAT = codec.encode(Event("HEARTBEAT"))  # Both kinds of streams have the same.


class Streams:
    """Who listens. An event sent to many in a row is encoded once."""

    def __init__(self) -> None:
        self._streams: dict[str, RecordStream] = {}
        self._last: tuple[Any, bytes] = (None, b"")

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, stream_id: str) -> RecordStream:
        """Begin a stream, before anything is sent on it."""
        stream = self._streams[stream_id] = RecordStream()
        return stream

    def send(self, stream_id: str, event: Any) -> None:
        """Send an event; nothing happens when the listener is gone. SUBSCRIBED starts the heartbeats it promises."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if event is not self._last[0]:
            self._last = (event, codec.encode(event))
        stream.send(self._last[1])
        if event.type == "SUBSCRIBED" and event.subscribed.heartbeat_interval_seconds:
            stream.beat(HEARTBEAT, event.subscribed.heartbeat_interval_seconds)

    def send_fragments(self, stream_id: str, fragments: Iterable[bytes], heartbeat_s: float) -> None:
        """Send one large event, encoded, and heartbeats from now on."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.send_fragments(fragments)
            stream.beat(HEARTBEAT, heartbeat_s)

    def close(self, stream_id: str) -> None:
        """End a stream after what was sent on it."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.close()

    def close_all(self) -> None:
        for stream_id in list(self._streams):
            self.close(stream_id)
