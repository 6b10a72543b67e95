"""Quality of service: subscribe so that the publishers that exist are heard, and say in words when that is
impossible."""
from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Callable, Iterable

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from ..errors import ConfigError

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"

RESULTS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE)
"""Results: reliable with a short queue, heard by every subscriber."""

LISTENING = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Hears every publisher of results, best effort ones too: for commands that miss nothing by a lost message."""

DEBUG = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Debug images: the newest one, heard by every viewer."""

_RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}


def results_publisher(create: Callable[..., Any], kind: Any, topic: str) -> Any:
    """A publisher of RESULTS whose history, depth and reliability are also parameters,
    qos_overrides.<topic>.publisher.<policy>. create: the node's method. Raises ConfigError for values that are none."""
    profile = copy.copy(RESULTS)                        # rclpy writes what was asked for into it
    try:
        return create(kind, topic, qos_profile=profile,
                      qos_overriding_options=QoSOverridingOptions.with_default_policies())
    except Exception as error:                          # of many types, by what is wrong
        raise ConfigError(f"a parameter qos_overrides of {topic} is not possible ({error}): history is keep_last or "
                          "keep_all, depth a whole number above 0, reliability reliable or best_effort") from error


def warn_of_unused_overrides(node: Any) -> None:
    """Logs each parameter qos_overrides.* that was given and that no publisher of the node has taken up; call it when
    all are made. rclpy itself says nothing."""
    given = getattr(node, "_parameter_overrides", {})                # rclpy since Humble; nothing public tells
    for name in given:
        if name.startswith("qos_overrides.") and not node.has_parameter(name):
            node.get_logger().warning(f"'{name}' changes nothing: history, depth and reliability of the published "
                                      "hands and markers can be overridden, with the topic's full name (qos_overrides."
                                      f"{node.get_fully_qualified_name()}/hands.publisher.reliability)")


def matching(publishers: Iterable[Any], reliability: str = "auto", depth: int = 1) -> QoSProfile:
    """The profile of a subscription that hears all these publishers.

    publishers: rclpy TopicEndpointInfo objects; may be empty. reliability: auto, reliable or best_effort. With auto it
    is reliable only if every publisher offers that (a best-effort subscriber hears both kinds); likewise the durability
    is transient local only if every publisher offers it, so that a CameraInfo sent once is still received.
    """
    offered = [publisher.qos_profile for publisher in publishers]
    if reliability == "auto":
        all_reliable = bool(offered) and all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered)
        chosen = ReliabilityPolicy.RELIABLE if all_reliable else ReliabilityPolicy.BEST_EFFORT
    else:
        chosen = _RELIABILITY[reliability]
    all_kept = bool(offered) and all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered)
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=chosen,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL if all_kept else DurabilityPolicy.VOLATILE)


def same(a: QoSProfile, b: QoSProfile) -> bool:
    """Whether two profiles agree in what decides about being heard."""
    return a.reliability == b.reliability and a.durability == b.durability


def mismatches(topic: str, requested: QoSProfile, publishers: Iterable[Any]) -> list[str]:
    """One plain sentence for each publisher that this subscription cannot hear, naming both sides and the remedy."""
    sentences = []
    for publisher in publishers:
        offered, who = publisher.qos_profile, endpoint_name(publisher)
        if (requested.reliability == ReliabilityPolicy.RELIABLE
                and offered.reliability == ReliabilityPolicy.BEST_EFFORT):
            sentences.append(f"nothing arrives on {topic}: this node asks for RELIABLE delivery, {who} offers only "
                             "BEST_EFFORT; set the parameter image_reliability to auto or best_effort, "
                             "or the publisher to reliable")
        if (requested.durability == DurabilityPolicy.TRANSIENT_LOCAL
                and offered.durability == DurabilityPolicy.VOLATILE):
            sentences.append(f"nothing arrives on {topic}: this node asks for TRANSIENT_LOCAL durability, {who} offers "
                             "only VOLATILE; set the publisher to transient local, or restart this node")
    return sentences


def unheard(node: Any, topic: str) -> str:
    """Who publishes on a topic what a reliable subscription does not hear, with the remedy; "" for nobody."""
    names = [endpoint_name(info) for info in node.get_publishers_info_by_topic(topic)
             if info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT]
    return f"{topic} is not heard from {', '.join(names)}, which offers BEST_EFFORT only: make it RELIABLE (the " \
           "default; of a hand pose node without qos_overrides)" if names else ""


def endpoint_name(endpoint: Any) -> str:
    """Full name of the node behind a TopicEndpointInfo; in words while discovery has not told it yet."""
    if endpoint.node_name.startswith("_NODE_NAME_UNKNOWN"):
        return "a node whose name is not known yet"
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def describe(qos: QoSProfile) -> str:
    """The two policies that decide about being heard, in words: 'RELIABLE, VOLATILE'."""
    return f"{_policy_name(qos.reliability)}, {_policy_name(qos.durability)}"


def _policy_name(policy: Any) -> str:
    return str(getattr(policy, "name", policy))


@dataclass(frozen=True)
class ImageSource:
    """Which topic to take images from and how."""

    topic: str
    compressed: bool
    publishers: tuple[Any, ...]                     # TopicEndpointInfo


def image_source(node: Any, topic: str, transport: str) -> ImageSource:
    """Choose between the raw and the compressed topic by what is published now.

    topic: fully resolved base topic as in image_transport. transport: auto, raw or compressed; auto takes raw images if
    somebody publishes them, else compressed ones on the topic itself or on <topic>/compressed, else raw.
    """
    base = node.get_publishers_info_by_topic(topic)
    sibling_topic = topic if topic.endswith("/compressed") else topic + "/compressed"
    raw = tuple(info for info in base if info.topic_type == IMAGE_TYPE)
    here = tuple(info for info in base if info.topic_type == COMPRESSED_TYPE)
    if transport == "raw" or (transport == "auto" and raw):
        return ImageSource(topic, False, raw)
    if here:
        return ImageSource(topic, True, here)
    sibling = tuple(info for info in node.get_publishers_info_by_topic(sibling_topic)
                    if info.topic_type == COMPRESSED_TYPE)
    if transport == "compressed" or sibling or topic.endswith("/compressed"):
        return ImageSource(sibling_topic, True, sibling)
    return ImageSource(topic, False, raw)
