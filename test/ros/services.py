"""Services asked until they answer; who waits says how, by its ``until(condition, what=..., action=...)``."""
from __future__ import annotations

import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

AGAIN_S = 1.5


def call(node, until, kind, service, request):
    """The answer of a service that may be asked the same twice, from a client of its own."""
    client = node.create_client(kind, service)
    answer = ask(client, until, request)
    node.destroy_client(client)
    return answer


def ask(client, until, request):
    """The answer to a request, sent again and again: a service throws away its answer to a client that it has not
    discovered yet, though the client has discovered the service."""
    until(client.service_is_ready, what=client.srv_name)
    asked, again_s = [client.call_async(request)], time.monotonic() + AGAIN_S

    def again():
        nonlocal again_s
        if time.monotonic() > again_s:
            asked.append(client.call_async(request))
            again_s = time.monotonic() + AGAIN_S
    return until(lambda: next((future for future in asked if future.done()), None),
                 what=f"an answer of {client.srv_name}", action=again).result()


class Lifecycle:
    """The lifecycle of a node, for a rig. A transition cannot be asked twice: it is asked where a state, asked by a
    client that was announced later, has been answered."""

    def __init__(self, rig, node: str = "/hand_pose") -> None:
        self._until = rig.until
        self._change = rig.node.create_client(ChangeState, f"{node}/change_state")
        self._get = rig.node.create_client(GetState, f"{node}/get_state")

    def state(self) -> str:
        """Its present state's name."""
        return ask(self._get, self._until, GetState.Request()).current_state.label

    def change(self, number: int) -> bool:
        """Whether the transition of this number was made."""
        self.state()
        self._until(self._change.service_is_ready, what="change_state")
        future = self._change.call_async(ChangeState.Request(transition=Transition(id=number)))
        self._until(future.done, what="an answer of change_state")
        return future.result().success
