"""Operations on the agent's resources: carried out, remembered, told until acknowledged (spec: mesos-v1, sections 2.16 and 8.3).

What an operation made is checkpointed before anything is said of it or done for it, and read back by the next agent, also after
a power loss. So a crash at any point leaves it either undone and untold, or done.
"""

from __future__ import annotations

from kernel.agent import checkpoint
from kernel.agent.effects import MakeVolume, RemoveVolume, ToMaster, VolumeRemoved
from kernel.agent.state import AgentState, Operation
from kernel.agent.volumes.places import place_of
from kernel.errors import CallError, PeerError
from kernel.wire.agent import AcknowledgeOperation, ApplyOperation, OperationReport, OperationUpdate
from kernel.wire.conversion import Conversion, apply, conversion, volumes
from kernel.wire.ids import UUID, AgentID
from kernel.wire.offer import OperationState, OperationStatus

RETRY_S = 10.0
RETRY_S_MAX = 600.0


class Operations:
    """Changes the agent's resources as the master says."""

    def __init__(self, state: AgentState) -> None:
        self.state = state

    def apply(self, message: ApplyOperation) -> None:
        """Carry out an operation, once. Raises PeerError for one that cannot be: the next registration tells how things are."""
        state = self.state
        if message.uuid in state.operations:
            return
        try:
            change = conversion(message.operation)
            total = apply(state.total, change)
            self._change_volumes(change, message.uuid.hex())
        except (CallError, ValueError) as error:
            raise PeerError(f"an operation that cannot be carried out: {error}") from error
        state.total = total
        status = OperationStatus(
            OperationState.OPERATION_FINISHED,
            message.operation.id,
            converted_resources=change.converted.messages(),
            uuid=UUID(state.new_uuid()),
            agent_id=AgentID(state.agent_id),
        )
        operation = state.operations[message.uuid] = Operation(message.uuid, message.framework_id, message.operation, status)
        state.emit(checkpoint.keep_resources(state))
        state.emit(checkpoint.keep_operation(operation))
        self._start(operation)

    def _change_volumes(self, change: Conversion, token: str) -> None:
        """Note which volumes come and go, by their places: one that is resized does neither. Raises CallError."""
        state, work_dir = self.state, self.state.config.work_dir
        gone = {place.path: place for key in volumes(change.consumed) for place in (place_of(work_dir, key, ""),)}
        made = {place.path: place for key in volumes(change.converted) for place in (place_of(work_dir, key, token),)}
        for path in gone.keys() - made.keys():
            known = state.volumes.pop(path, None)
            if known is not None:
                state.doomed[path] = known
                state.emit(RemoveVolume(known))
        for path in made.keys() - gone.keys():
            state.doomed.pop(path, None)  # What is still there goes when the new one is made.
            state.volumes[path] = made[path]
            state.emit(MakeVolume(made[path]))

    def volume_removed(self, message: VolumeRemoved) -> None:
        """A volume is gone from its place."""
        doomed = self.state.doomed.get(message.path)
        if doomed is not None and doomed.token == message.token:
            del self.state.doomed[message.path]
            self.state.emit(checkpoint.keep_resources(self.state))

    def resume(self) -> None:
        """After a start: have volumes made and removed whose making or removal may have been missed."""
        for place in self.state.doomed.values():
            self.state.emit(RemoveVolume(place))
        for place in self.state.volumes.values():
            self.state.emit(MakeVolume(place))

    # ---- Telling --------------------------------------------------------------------------------------

    def acknowledge(self, message: AcknowledgeOperation) -> None:
        """Whom it concerns has heard. Repeats and unknown uuids are harmless."""
        operation = self.state.operations.get(message.uuid)
        if operation is not None and operation.status.uuid is not None and operation.status.uuid.value == message.status_uuid:
            self._forget(operation)

    def forget_framework(self, framework_id: str) -> None:
        """The framework is gone: nobody wants to hear."""
        for operation in list(self.state.operations.values()):
            if operation.framework_id == framework_id:
                self._forget(operation)

    def reports(self) -> tuple[OperationReport, ...]:
        """For a registration."""
        return tuple(OperationReport(each.uuid, each.framework_id, each.info, each.status) for each in self.state.operations.values())

    def send_all(self) -> None:
        """The agent has registered: whatever is not acknowledged goes out now."""
        for operation in self.state.operations.values():
            self._start(operation)

    def _forget(self, operation: Operation) -> None:
        del self.state.operations[operation.uuid]
        self.state.emit(checkpoint.forget_operation(operation))

    def _start(self, operation: Operation) -> None:
        if self.state.registered:
            operation.retry_s = RETRY_S
            self._send(operation)

    def _send(self, operation: Operation) -> None:
        state = self.state
        state.emit(ToMaster(OperationUpdate(operation.framework_id, operation.uuid, operation.status)))
        operation.retry_due_s = state.now.mono_s + operation.retry_s
        operation.retry_s = min(operation.retry_s * 2, RETRY_S_MAX)
        state.look_at(operation.retry_due_s, self._retry, operation)

    def _retry(self, operation: Operation) -> None:
        state = self.state
        if state.operations.get(operation.uuid) is operation and state.registered and operation.retry_due_s <= state.now.mono_s:
            self._send(operation)
