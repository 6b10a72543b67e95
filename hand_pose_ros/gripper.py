"""Hand -> gripper opening and arm target: a pure step with clutch, limits and the lost-hand policy.

    state, command = step(state, observation, now_ns, config)

The step is called for every HandPose21Array and on a timer (with ``observation=None``), so that silence is noticed too.
Nothing here reads a clock, a topic or a transform: they come in as values, and ``Command.withheld`` says in words why a
command was not given. What is safe is decided here and nowhere else:

 * the clutch is open at start and after every loss, and closes only after it was seen open (never on a level alone);
 * a gesture closes it only when held, the palm in one place, without a longer gap between images than ``stale_s``;
 * while it is closed one track of one side, the operator's, steers; another person cannot take over, by a track that
   goes on elsewhere after a gap neither, and with the other hand as the clutch that hand is one track too;
 * a gesture is read only from fingers that are seen as surely: one that is not keeps the clutch open, and opens it;
 * a hand counts as lost when its image is stale, it is not in the image, a joint needed is NaN, extrapolated, outside
   the image, of low confidence or uncertain, it has left the operator's region, turned into a hand of the other side,
   moved or turned faster than a person can, or has another size, and so another distance, than was assumed;
 * settings that say where a hand sends the robot open the clutch when they change: else the robot would move with the
   hand at rest;
 * an arm that does not follow its target, or of which nobody knows where it is, opens the clutch: else it would jump
   after the hand once it is released; so does a camera that is given another place, and the hand with it;
 * a lost hand first holds (brakes at the acceleration limit), then the command stops and the clutch opens;
 * closing the clutch moves nothing: the tool must stand, the target starts from there, and the gripper gets no command,
   so that what it holds stays held, until thumb and index move; from its own opening it then goes their way
   (``gripper_takeover``);
 * the gripper is sent nothing outside ``gripper_closed_m`` to ``gripper_open_m``, but on its way back from a measured
   opening beyond them;
 * the emergency stop is latched until a reset, and the reset leaves the clutch open.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from . import gestures
from .errors import ConfigError
from .filters import OneEuroState, one_euro
from .frames import rotation_from_vector, rotation_vector, wrist_rotation
from .skeleton import KNUCKLES
from .types import Hand, JointState, ScaleSource

PINCH_JOINTS = (3, 4, 7, 8)
"""The tips, and the joints before them, along whose bones the tips on the skin lie."""
PALM_JOINTS = (0,) + KNUCKLES
LAG_S = 1.0
"""An arm may be where it was sent this long ago."""
STANDS_M, STANDS_RAD = 0.005, 0.02
"""Motion within LAG_S below which an arm stands."""
STEADY_S = 0.2
"""The tool must have stood for so long, as far as is known, before anything is sent that starts from its place: where
it is while it moves is not where it was sent, and one look at TF may be another robot's."""
OPENED = "clutch opened: "
"""What the reason begins with when the robot, not the hand, ends the motion."""
OPERATOR_MARGIN_M = 0.1
"""By so much another hand must be nearer before it replaces the candidate, else two hands side by side take turns."""
SKEW_S = 0.005
"""So far in the future an image's stamp may lie: clocks of two machines are never quite the same."""
REARM_S = 1.0
"""After a longer gap between images a hand must be seen with its gesture open anew: behind its number may be another
hand, of a node that was started again."""
RESIZED, GOES_ALONG = 0.03, 0.2
"""Change of a hand's length, as a share, that a hand at rest would answer with a motion of as much of its distance:
another camera or a depth image has told what had been assumed. Of a length that was not assumed, if the distance has
changed by at least that share of it (filters spread it over images): the file is another person's, or depth tells of
something before the hand. Depth that trembles shows in the length alone."""
CAMERA_M_S, CAMERA_RAD_S = 1.0, 3.0
"""A camera that moves or turns faster by TF has been given another place, and the hand with it."""
_MAPPING = ("scale", "axes", "rotate", "aperture_closed", "aperture_open", "gripper_closed_m", "gripper_open_m",
            "gripper_takeover", "hysteresis", "workspace_min_m", "workspace_max_m")
"""Settings that say where a hand sends the robot."""
_CAMERA_JUMPED = "the camera's place jumped in TF"
LEAP_M, LEAP_RAD = 0.1, 1.0
"""A hand that was too fast and is still this far from where it steered last, nearer to where it leapt, has leapt: time
makes no way of it. Less may be the tremble of a late stamp. One that images did not have for longer than ``stale_s``
and that comes back farther off may be another person's."""
_LEAPT = ("the hand jumped", "the hand flipped")
_NOT_NEW = ("stale image", "repeated image")
_USABLE = (JointState.VISIBLE, JointState.SELF_OCCLUDED, JointState.OBJECT_OCCLUDED)


class Phase(Enum):
    """What the robot is told to do."""

    IDLE = "idle"                  # clutch open: no command
    FOLLOW = "follow"              # clutch closed, operator seen
    HOLD = "hold"                  # operator lost a moment ago: brake and stay
    STOP = "stop"                  # emergency stop: zero twist, then silence, until reset


@dataclass(frozen=True)
class TeleopConfig:
    """Settings of the teleoperation. Lengths in metres of the robot unless a name says otherwise."""

    # Gripper
    aperture_closed: float = 0.16          # thumb-index distance in hand lengths that means closed: 3 cm, a pinch
    aperture_open: float = 0.5             # and fully open, without stretching
    gripper_closed_m: float = 0.0
    gripper_open_m: float = 0.08
    gripper_speed_m_s: float = 0.15
    gripper_effort: float = 10.0           # N, passed on as the command's effort limit
    hysteresis: float = 0.04               # share of the opening that the hand must move before the gripper does
    gripper_takeover: str = "gradual"      # gradual | at_once: how the gripper follows after the clutch has closed
    # Arm target, in the robot's base frame
    scale: float = 1.0                     # metres of the robot per metre of the hand
    axes: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)    # row-major 3x3, hand motion in base frame -> target motion
    rotate: bool = True                    # the target turns with the hand
    workspace_min_m: tuple[float, float, float] = (-1.0, -1.0, -1.0)
    workspace_max_m: tuple[float, float, float] = (1.0, 1.0, 1.0)
    speed_m_s: float = 0.4                 # per axis
    acceleration_m_s2: float = 2.0         # per axis
    turn_rad_s: float = 0.8                # per axis of the rotation vector
    turn_acceleration_rad_s2: float = 4.0
    # Smoothing (One-Euro)
    min_cutoff_hz: float = 1.5
    beta_hz_per_m_s: float = 10.0
    # Who steers, and when
    side: str = "any"                      # any | left | right: which hand may steer
    operator: str = "nearest"              # nearest | first | region
    region_m: tuple[float, ...] = (-0.5, -0.5, 0.2, 0.5, 0.5, 1.5)  # camera frame x0 y0 z0 x1 y1 z1 for operator=region
    clutch: str = "gesture"                # gesture | other_hand | topic
    clutch_gesture: str = "three_fingers"
    clutch_hold_s: float = 0.5             # how long the gesture must be held still
    clutch_still_m: float = 0.05           # the palm stays so near to where the holding began
    clutch_release_s: float = 0.15         # how long the gesture must be gone
    # When a hand counts as lost
    stale_s: float = 0.1                   # age of the image's stamp; MoveIt Servo halts after 0.1 s too
    min_score: float = 0.5
    min_confidence: float = 0.3
    max_sigma_across_m: float = 0.03
    max_sigma_ray_m: float = 0.15
    max_following_error_m: float = 0.25    # between arm and target, from which the arm has stopped by itself
    max_following_turn_rad: float = 0.6
    max_hand_speed_m_s: float = 4.0
    max_hand_turn_rad_s: float = 25.0
    lost_policy: str = "hold_then_stop"    # hold_then_stop | stop
    hold_s: float = 0.5

    def __post_init__(self) -> None:
        choices = {"side": ("any", "left", "right"), "operator": ("nearest", "first", "region"),
                   "clutch": ("gesture", "other_hand", "topic"), "lost_policy": ("hold_then_stop", "stop"),
                   "clutch_gesture": tuple(sorted(gestures.GESTURES)), "gripper_takeover": ("gradual", "at_once")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is '{getattr(self, name)}'; choose one of: {', '.join(allowed)}")
        for name in ("gripper_speed_m_s", "speed_m_s", "acceleration_m_s2", "turn_rad_s", "turn_acceleration_rad_s2",
                     "min_cutoff_hz", "stale_s", "clutch_hold_s", "clutch_still_m", "scale", "max_hand_speed_m_s",
                     "max_hand_turn_rad_s", "max_following_error_m", "max_following_turn_rad"):
            if not 0 < getattr(self, name) < np.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be a positive number")
        if not 0 <= self.aperture_closed < self.aperture_open:
            raise ConfigError(f"aperture_closed ({self.aperture_closed}) must be below aperture_open "
                              f"({self.aperture_open})")
        if not abs(self.gripper_open_m - self.gripper_closed_m) > 1e-6:
            raise ConfigError(f"gripper_open_m and gripper_closed_m are both {self.gripper_open_m}; they must differ")
        if len(self.axes) != 9 or abs(abs(np.linalg.det(self.axis_matrix)) - 1.0) > 1e-3 \
                or not np.allclose(self.axis_matrix @ self.axis_matrix.T, np.eye(3), atol=1e-3):
            raise ConfigError(f"axes {self.axes} must be the 9 row-major numbers of a rotation or reflection")
        if not np.all(np.array(self.workspace_min_m) < np.array(self.workspace_max_m)):
            raise ConfigError(f"workspace_min_m {self.workspace_min_m} must be below workspace_max_m "
                              f"{self.workspace_max_m}")
        if len(self.region_m) != 6:
            raise ConfigError(f"region_m {self.region_m} must be six numbers: x0 y0 z0 x1 y1 z1")
        if not np.all(np.array(self.region_m[:3]) < np.array(self.region_m[3:])):
            raise ConfigError(f"region_m {self.region_m} must be x0 y0 z0 x1 y1 z1 with x0 < x1, y0 < y1, z0 < z1; no "
                              "hand is ever inside this one")

    @property
    def axis_matrix(self) -> np.ndarray:
        return np.array(self.axes, float).reshape(3, 3)

    @property
    def gripper_span_m(self) -> tuple[float, float]:
        """Smallest and largest value sent to the gripper; of the two ends either may be the open one."""
        return min(self.gripper_closed_m, self.gripper_open_m), max(self.gripper_closed_m, self.gripper_open_m)


@dataclass(frozen=True, eq=False)
class Observation:
    """One HandPose21Array with what is known at that moment of the robot's world."""

    stamp_ns: int
    hands: tuple[Hand, ...]
    R_base_camera: np.ndarray | None               # (3, 3); None: the transform is missing
    t_base_camera: np.ndarray = field(default_factory=lambda: np.zeros(3))     # (3,) m: cameras may be moved, too


@dataclass(frozen=True, eq=False)
class Inputs:
    """What people and the robot say beside the hand itself."""

    clutch: bool | None = None                     # level of the clutch topic or service; None: nobody says (any more)
    emergency_stop: bool = False
    reset: bool = False                            # ends a latched emergency stop
    robot: str = ""                                # why it is not known where the arm is; "": it is, or there is none
    measured: Target | None = None                 # where the end effector is; None: it need not be where it was sent
    tool: np.ndarray | None = None                 # (3,) m, where it is if it is sent speeds; None: it is not


@dataclass(frozen=True, eq=False)
class Target:
    """The arm's target in the robot's base frame, with its speed for a Twist."""

    position: np.ndarray                           # (3,) m
    rotation: np.ndarray                           # (3, 3)
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))    # (3,) m/s
    turn: np.ndarray = field(default_factory=lambda: np.zeros(3))        # (3,) rad/s, axes of the base frame


@dataclass(frozen=True, eq=False)
class Command:
    """What to send. ``gripper_m`` and ``target`` are None when nothing may be sent; ``withheld`` then says why.

    ``gripper_m`` alone is None while the gripper waits for thumb and index to move.
    """

    phase: Phase
    gripper_m: float | None = None
    effort: float = 0.0
    target: Target | None = None
    withheld: str = ""
    hand: Hand | None = None                       # the operator's hand of this observation, if it steers


@dataclass(frozen=True, eq=False)
class _Latch:
    """Where hand and target were when the clutch closed."""

    hand_position: np.ndarray
    hand_rotation: np.ndarray
    target: Target
    is_right: bool
    mapping: tuple                                 # values of _MAPPING


@dataclass(frozen=True, eq=False)
class TeleopState:
    """All that the step remembers. Make the first one with ``start``."""

    target: Target
    gripper_m: float
    measured: bool = False                         # gripper_m goes back to a measurement, not to a guess
    now_ns: int | None = None
    stamp_ns: int = 0                              # of the newest observation used
    stopped: bool = False                          # emergency stop latched
    armed: bool = False                            # the clutch was seen open since start, loss or stop
    stands: tuple[int, Target] | None = None       # since when the tool has been where: while the clutch is open
    closed: bool = False
    operator: int = 0                              # track id; 0: nobody
    seen_ns: int = 0                               # stamp of the operator's last usable hand
    held_since_ns: int | None = None               # gesture held still since
    held_at: np.ndarray | None = None              # (3,) palm when the holding began, camera frame
    shown_ns: int = 0                              # stamp of the last image that surely showed the gesture
    signaller: int = 0                             # track id of the hand that shows the gesture (clutch='other_hand')
    gone_since_ns: int | None = None               # gesture gone since
    latch: _Latch | None = None
    hand: OneEuroState | None = None               # filtered (6,): palm position and rotation vector from the latch
    opening: OneEuroState | None = None            # filtered normalised opening
    wish: Target | None = None                     # where the target should go, before limits
    turn_left: np.ndarray | None = None            # (3,) rotation vector from target to wish, beyond half a turn too
    shown: float | None = None                     # opening of the hand, 0..1, after the backlash
    wish_gripper_m: float | None = None            # None while thumb and index have not moved
    last_palm: np.ndarray | None = None            # (3,) and (3, 3) raw in the camera frame, for the speed checks
    last_wrist: np.ndarray | None = None
    last_camera: tuple[np.ndarray, np.ndarray] | None = None       # R_base_camera, t_base_camera of that image
    leapt: tuple[str, np.ndarray, np.ndarray] | None = None        # why an image since was refused, its palm and wrist
    absent: bool = False                           # an image since its last usable one did not have the operator's hand
    length_m: float = 0.0                          # of the operator's hand, as last followed
    source: ScaleSource = ScaleSource.NONE         # and who had told that
    ways: tuple[tuple[int, Target, Target], ...] = ()      # time, where the arm was sent, where it was: LAG_S of it
    lost_reason: str = ""
    hint: str = ""                                 # what the open clutch waits for


def start(target: Target, gripper_m: float) -> TeleopState:
    """State at start: clutch open, the robot where it says it is.

    target: current pose of the arm's end effector in the base frame; gripper_m: where the gripper is taken to be, until
    ``resync`` tells of a measurement.
    """
    return TeleopState(target=target, gripper_m=float(gripper_m))


def resync(state: TeleopState, target: Target | None, gripper_m: float | None) -> TeleopState:
    """Takes up where the robot really is while the clutch is open, so that closing it later starts from there.

    target: measured pose of the end effector, None if unknown; gripper_m: measured opening, None if unknown. While the
    clutch is closed the state stays as it is: commands continue from the last command, not from a lagging robot.
    """
    if state.closed:
        return state
    known = gripper_m is not None and bool(np.isfinite(gripper_m))
    return replace(state, target=state.target if target is None else target,
                   gripper_m=float(gripper_m) if known else state.gripper_m, measured=known or state.measured)


def step(state: TeleopState, observation: Observation | None, now_ns: int, config: TeleopConfig,
         inputs: Inputs = Inputs()) -> tuple[TeleopState, Command]:
    """One step of the teleoperation; see the module's text for the rules.

    observation: a new message, or None on a timer tick. now_ns: the node's clock, same epoch as the stamps.
    Returns the new state and the command. Never raises for any hand, NaN or clock.
    """
    went_back = state.now_ns is not None and now_ns < state.now_ns
    if went_back:                                       # also while stopped: stamps start anew
        state = replace(_open_clutch(state), armed=False, stamp_ns=0, now_ns=now_ns, stands=None)
    stay = None
    if inputs.emergency_stop:
        stay = _told_to_stay(state, inputs.measured, now_ns, config)
        state = replace(_open_clutch(state), stopped=True, armed=False, now_ns=now_ns, ways=())
    elif state.stopped and inputs.reset:
        state = replace(state, stopped=False)
    if state.stopped:
        return replace(state, now_ns=now_ns, stands=None), Command(
            Phase.STOP, target=stay, withheld="emergency stop: waiting for a reset")

    if went_back:
        return state, Command(Phase.IDLE, withheld="the clock went back: clutch opened")
    dt = 0.0 if state.now_ns is None else (now_ns - state.now_ns) * 1e-9
    state = replace(state, now_ns=now_ns)
    if not state.closed:
        state = replace(state, stands=_stands(state, now_ns))

    if state.closed:
        state = _remember(state, inputs.measured, now_ns)
        changed = [name for name, before, now in zip(_MAPPING, state.latch.mapping, _mapping(config)) if before != now]
        ended = inputs.robot or (f"{', '.join(changed)} changed" if changed else "")
        stopped = ended or _has_stopped(state, config)
        if stopped:
            # A pose controller would go on to the last target once the arm is released: an arm that stands is told to
            # stay. One that moves is not, by the time it arrives it would be sent back.
            stay = _standing_at(state) if not ended else None
            state = replace(_open_clutch(state), armed=False, lost_reason="", target=stay or state.target)
            return state, Command(Phase.HOLD if stay else Phase.IDLE, target=stay, withheld=f"{OPENED}{stopped}")

    hand, reason = None, inputs.robot or state.lost_reason
    if observation is not None and not inputs.robot:    # nobody knows where the target would start from
        hand, reason = _usable_hand(state, observation, now_ns, config)
        if reason.startswith(_CAMERA_JUMPED):           # it will not come back, and waiting makes it no slower
            state = replace(_open_clutch(state), armed=False, lost_reason="", stamp_ns=observation.stamp_ns)
            return state, Command(Phase.IDLE, withheld=f"{OPENED}{reason}")
        away_s = (observation.stamp_ns - state.seen_ns) * 1e-9
        if hand is not None and state.closed and away_s > max(REARM_S, config.stale_s):     # hold_s may be longer
            state = replace(_open_clutch(state), armed=False, lost_reason="", stamp_ns=observation.stamp_ns)
            return state, Command(Phase.IDLE, withheld=f"{OPENED}the hand was away for {away_s:.1f} s")
        absent = hand is None and (state.absent or not any(h.track_id == state.operator for h in observation.hands))
        state = replace(state, lost_reason=reason, leapt=_leapt(state, observation, hand, reason), absent=absent)
        if not reason.startswith(_NOT_NEW):
            state = replace(state, stamp_ns=observation.stamp_ns)
            state = _clutch(state, observation, hand, config, inputs)
    if config.clutch == "topic" and not inputs.clutch:
        said = inputs.clutch is False
        state = replace(_open_clutch(state) if state.closed else state, armed=said,
                        hint="~/clutch says false" if said else "~/clutch must say false, then true")

    if not state.closed:
        waits = reason or state.hint
        return state, Command(Phase.IDLE, withheld=f"clutch open ({waits})" if waits else "clutch open")
    steers = hand is not None and state.operator == hand.track_id
    if steers:
        state = _follow(state, hand, observation, config)
    state, command = _move(state, now_ns, dt, config)
    if command.target is not None and inputs.tool is not None:
        command = replace(command, target=_kept_inside(command.target, inputs.tool, config))
    return state, replace(command, hand=hand) if steers and command.phase is Phase.FOLLOW else command


def _mapping(config: TeleopConfig) -> tuple:
    return tuple(tuple(value) if isinstance(value := getattr(config, name), (list, tuple)) else value
                 for name in _MAPPING)


def _kept_inside(target: Target, tool: np.ndarray, config: TeleopConfig) -> Target:
    """The target with a velocity (3,) from which a tool at ``tool`` (3,) can still stop inside the workspace: an arm
    that is sent speeds need not be where their sum is."""
    room = np.stack([tool - config.workspace_min_m, np.asarray(config.workspace_max_m) - tool])         # (2, 3)
    most = np.sqrt(2.0 * config.acceleration_m_s2 * np.maximum(room, 0.0))
    return replace(target, velocity=np.clip(target.velocity, -most[0], most[1]))


def _remember(state: TeleopState, measured: Target | None, now_ns: int) -> TeleopState:
    """The state with where the arm was sent and where it is, of the last LAG_S."""
    if measured is None:
        return replace(state, ways=())
    return replace(state, ways=(*(way for way in state.ways if (now_ns - way[0]) * 1e-9 <= LAG_S),
                                (now_ns, state.target, measured)))


def _has_stopped(state: TeleopState, config: TeleopConfig) -> str:
    """Why the arm must not be sent further although the hand moves on, or ''. It may be where it was sent a while ago:
    arms lag, and so does their TF."""
    if not state.ways:
        return ""
    measured = state.ways[-1][2]

    def least(error, limit):                                        # the newest target first: it is mostly near enough
        found = np.inf
        for _, target, _ in reversed(state.ways):
            found = min(found, float(error(target)))
            if found <= limit:
                break
        return found

    off = least(lambda target: np.linalg.norm(measured.position - target.position), config.max_following_error_m)
    if off > config.max_following_error_m:
        return (f"the arm is {off:.2f} m from where it was sent (max_following_error_m "
                f"{config.max_following_error_m:g}); has it stopped?")
    turn = least(lambda target: np.linalg.norm(rotation_vector(measured.rotation @ target.rotation.T)),
                 config.max_following_turn_rad)
    return "" if turn <= config.max_following_turn_rad else (
        f"the arm is turned {turn:.2f} rad from where it was sent (max_following_turn_rad "
        f"{config.max_following_turn_rad:g}); has it stopped?")


def _told_to_stay(state: TeleopState, measured: Target | None, now_ns: int, config: TeleopConfig) -> Target | None:
    """Where an arm on poses is told to stay at a stop, so that it does not go on to its last target: where it is, if it
    was sent somewhere within LAG_S and is on the way there, or stands. None if that is not so, or not known."""
    state = replace(state, ways=tuple(way for way in state.ways if (now_ns - way[0]) * 1e-9 <= LAG_S))
    if measured is None or not state.ways:
        return None
    state = replace(state, ways=(*state.ways, (now_ns, state.ways[-1][1], measured)))
    return _standing_at(state) if _has_stopped(state, config) else Target(measured.position, measured.rotation)


def _stands(state: TeleopState, now_ns: int) -> tuple[int, Target]:
    """Since when the tool has been where it is, by ``resync``."""
    now = state.target
    if state.stands is not None and _is_near(now, state.stands[1]):
        return state.stands
    return now_ns, now


def _is_near(one: Target, other: Target) -> bool:
    """Whether two places are one for an arm that stands."""
    return bool(np.linalg.norm(one.position - other.position) < STANDS_M
                and np.linalg.norm(rotation_vector(one.rotation @ other.rotation.T)) < STANDS_RAD)


def _standing_at(state: TeleopState) -> Target | None:
    """Where the arm has stood for LAG_S or since the clutch closed, with no speed; None if it moved, or was not looked
    at for STEADY_S."""
    now = state.ways[-1][2]
    if (state.ways[-1][0] - state.ways[0][0]) * 1e-9 < STEADY_S:
        return None
    return Target(now.position, now.rotation) if all(_is_near(now, was) for _, _, was in state.ways) else None


def _usable_hand(state: TeleopState, observation: Observation, now_ns: int, config: TeleopConfig
                 ) -> tuple[Hand | None, str]:
    """The hand that may steer, or None and the reason."""
    age = (now_ns - observation.stamp_ns) * 1e-9
    if age < -SKEW_S:
        return None, f"{_NOT_NEW[0]}: its stamp lies {-age:.3f} s in the future; synchronise the clocks"
    if age > config.stale_s:
        return None, f"{_NOT_NEW[0]}: it is {age:.3f} s old"
    if observation.stamp_ns <= state.stamp_ns:
        return None, f"{_NOT_NEW[1]}: the camera or the network stands still"
    if observation.R_base_camera is None or not (np.all(np.isfinite(observation.R_base_camera))
                                                 and np.all(np.isfinite(observation.t_base_camera))):
        return None, "the transform from the camera to the robot's base is missing"
    hands = observation.hands
    if state.closed:
        hands = tuple(h for h in hands if h.track_id == state.operator)
        if not hands:
            return None, f"operator's hand {state.operator} is not in the image"
        if any(h.is_right != state.latch.is_right for h in hands):
            return None, "the hand is taken for one of the other side"
    elif config.side != "any":
        hands = tuple(h for h in hands if h.is_right == (config.side == "right"))
    if not hands:
        return None, "no hand"
    reasons = [fault(h, config) for h in hands]
    good = [h for h, why in zip(hands, reasons) if not why]
    if not good:
        return None, reasons[0]
    hand = _choose(good, state, config)
    if hand is None:
        return None, "no hand in the operator's region"
    if state.closed and state.last_palm is not None and _resized(state, hand):
        return None, (f"the hand's length is {hand.hand_length_m:.3f} m now, not {state.length_m:.3f}: so its distance "
                      "is another one, too")
    if state.closed and state.last_palm is not None:
        # Not longer than that: a jump must not become a possible way by waiting.
        gap = min(max((observation.stamp_ns - state.seen_ns) * 1e-9, 1e-3), config.stale_s)
        R, t = state.last_camera
        moved = float(np.linalg.norm(observation.t_base_camera - t))
        turned = float(np.linalg.norm(rotation_vector(observation.R_base_camera @ R.T)))
        if not (moved <= CAMERA_M_S * gap and turned <= CAMERA_RAD_S * gap):
            return None, f"{_CAMERA_JUMPED} ({moved:.2f} m, {turned:.2f} rad)"
        way = float(np.linalg.norm(_palm(hand) - state.last_palm))
        turn = float(np.linalg.norm(rotation_vector(_wrist(hand) @ state.last_wrist.T)))
        if not way <= config.max_hand_speed_m_s * gap:
            return None, f"{_LEAPT[0]} ({way / gap:.1f} m/s)"
        if not turn <= config.max_hand_turn_rad_s * gap:
            return None, f"{_LEAPT[1]} ({turn / gap:.0f} rad/s)"
        # A tracker gives a hand that appears near where one was lost its number, whosever it is.
        away_s = (observation.stamp_ns - state.seen_ns) * 1e-9
        if state.absent and config.stale_s < away_s <= REARM_S and (way > LEAP_M or turn > LEAP_RAD):
            return None, (f"{_LEAPT[0 if way > LEAP_M else 1]}: lost for {away_s:.2f} s, it came back {way:.2f} m and "
                          f"{turn:.1f} rad away")
        if state.leapt is not None and _is_still_there(state, hand):
            return None, f"{state.leapt[0]} and stays there"
    return hand, ""


def _leapt(state: TeleopState, observation: Observation, hand: Hand | None, reason: str
           ) -> tuple[str, np.ndarray, np.ndarray] | None:
    """What to remember of a leap: a hand that stays where it leapt must not steer from there as soon as enough time has
    passed for the way. None after an image whose hand could be used."""
    if hand is not None:
        return None
    why = next((why for why in _LEAPT if reason.startswith(why)), "")
    if not why or not state.closed:
        return state.leapt
    seen = next(h for h in observation.hands if h.track_id == state.operator)
    return why, _palm(seen), _wrist(seen)


def _is_still_there(state: TeleopState, hand: Hand) -> bool:
    """Whether the hand is nearer to where it leapt than to where it steered last."""
    why, palm, wrist = state.leapt
    if why == _LEAPT[0]:
        here, there = np.linalg.norm(_palm(hand) - palm), np.linalg.norm(_palm(hand) - state.last_palm)
        return bool(here < there and there > LEAP_M)
    now = _wrist(hand)
    here, there = (np.linalg.norm(rotation_vector(now @ before.T)) for before in (wrist, state.last_wrist))
    return bool(here < there and there > LEAP_RAD)


def _resized(state: TeleopState, hand: Hand) -> bool:
    """Whether the hand's place has changed because its size is told anew, not because it moved."""
    grown = float(np.log(hand.hand_length_m / state.length_m))
    if abs(grown) <= RESIZED or ScaleSource.ASSUMED in (state.source, hand.scale_source):
        return abs(grown) > RESIZED
    farther = float(np.log(np.linalg.norm(_palm(hand)) / np.linalg.norm(state.last_palm)))
    return farther / grown > GOES_ALONG


def fault(hand: Hand, config: TeleopConfig, joints: Sequence[int] = PALM_JOINTS + PINCH_JOINTS) -> str:
    """Why a hand may not steer, or ''. joints: those that are used."""
    need = list(joints)
    if not hand.track_id > 0:
        return "the hand has no track id"
    if not hand.score >= config.min_score:
        return f"score {hand.score:.2f} below {config.min_score}"
    if not np.all(np.isfinite(hand.joints_m[need])) or not np.all(np.isfinite(hand.joints_rel_m)):
        return "a joint is NaN (not metric?)"
    if not (np.isfinite(hand.hand_length_m) and hand.hand_length_m > 0):
        return "hand length unknown"
    if not np.isfinite(hand.right_probability):
        return "it is not known whether it is a right or a left hand"
    if not np.all(np.isin(np.asarray(hand.state)[need], _USABLE)):
        return "a joint is extrapolated, unknown or outside the image"
    if not np.all(hand.confidence[need] >= config.min_confidence):
        return f"confidence {np.nanmin(np.r_[hand.confidence[need], 1]):.2f} below {config.min_confidence}"
    if not np.all(hand.sigma_across_m[need] <= config.max_sigma_across_m):
        return "position across the ray is too uncertain"
    if not np.all(hand.sigma_ray_m[need] <= config.max_sigma_ray_m):
        return "distance is too uncertain"
    if not np.all(np.isfinite(_wrist(hand))):
        return "the palm's orientation is not defined"
    return ""


def _choose(hands: list[Hand], state: TeleopState, config: TeleopConfig) -> Hand | None:
    """The operator's hand among usable ones, None if none of them is in the region."""
    if config.operator == "region":
        low, high = np.array(config.region_m[:3]), np.array(config.region_m[3:])
        hands = [h for h in hands if np.all(_palm(h) >= low) and np.all(_palm(h) <= high)]
        if not hands:
            return None
    if config.operator == "first":
        return min(hands, key=lambda h: h.track_id)

    def distance(h: Hand) -> tuple[float, int]:
        margin = OPERATOR_MARGIN_M if h.track_id == state.operator else 0.0
        return float(np.linalg.norm(_palm(h))) - margin, h.track_id
    return min(hands, key=distance)


def _palm(hand: Hand) -> np.ndarray:
    """Palm centre in the camera frame: mean of wrist and the four knuckles. Returns (3,) m."""
    return hand.joints_m[list(PALM_JOINTS)].mean(axis=0)


def _wrist(hand: Hand) -> np.ndarray:
    """Orientation of the palm in the camera frame, (3, 3)."""
    return wrist_rotation(hand.joints_m, hand.is_right)


def _clutch(state: TeleopState, observation: Observation, hand: Hand | None, config: TeleopConfig, inputs: Inputs
            ) -> TeleopState:
    """Opens or closes the clutch by what this observation shows."""
    stamp = observation.stamp_ns
    if hand is None:
        return _let_go(state, observation, config) if state.closed else state
    if not state.closed and state.operator != hand.track_id:       # a new candidate starts from nothing
        state = replace(state, operator=hand.track_id, held_since_ns=None, signaller=0,
                        armed=state.armed and config.clutch == "topic")
    elif (gap_s := (stamp - state.seen_ns) * 1e-9) > config.stale_s:            # nobody knows what was shown in between
        state = replace(state, held_since_ns=None,
                        armed=state.armed and (gap_s <= REARM_S or config.clutch == "topic"))
    state = replace(state, last_palm=_palm(hand), last_wrist=_wrist(hand), seen_ns=stamp, hint="",
                    last_camera=(observation.R_base_camera, observation.t_base_camera), length_m=hand.hand_length_m,
                    source=hand.scale_source)
    if config.clutch == "topic":
        if not inputs.clutch or state.closed:
            return state
        if not state.armed:
            return replace(state, hint="~/clutch must say false once")
        return _close_clutch(state, hand, observation, config)

    shower = hand
    if config.clutch == "other_hand":
        shower, state = _signalling_hand(state, observation, hand, config)
    unseen = "" if shower is None else fault(shower, config, gestures.JOINTS[config.clutch_gesture])
    shown = None if shower is None else gestures.shows(config.clutch_gesture, shower.joints_rel_m)
    if state.closed:
        return _kept_closed(state, False if shower is None or unseen else shown, stamp, config)
    if shower is None:
        return replace(state, held_since_ns=None, hint="the other hand is not seen")
    if unseen:
        return replace(state, hint=f"its fingers are not seen well enough to tell the gesture: {unseen}")
    if shown is False:
        return replace(state, armed=True, held_since_ns=None, hint=f"gesture {config.clutch_gesture} is not shown")
    if not state.armed:
        return replace(state, hint=f"first show that {config.clutch_gesture} is not held")
    if shown is None:
        return replace(state, hint=f"gesture {config.clutch_gesture} is shown halfway")
    # The steering hand may move when the other one decides. A single image that does not tell is passed over.
    if state.held_since_ns is None or (stamp - state.shown_ns) * 1e-9 > 2 * config.stale_s \
            or float(np.linalg.norm(_palm(shower) - state.held_at)) > config.clutch_still_m:
        state = replace(state, held_since_ns=stamp, held_at=_palm(shower))
    state = replace(state, shown_ns=stamp)
    if (stamp - state.held_since_ns) * 1e-9 >= config.clutch_hold_s:
        return _close_clutch(state, hand, observation, config)
    return replace(state, hint="gesture seen, hold it still")


def _let_go(state: TeleopState, observation: Observation, config: TeleopConfig) -> TeleopState:
    """The closed clutch after an image whose steering hand cannot be used: its gesture may have ended all the same.

    A fist hides thumb and index; and the hand that signals is another one. A steering hand that is not seen at all, or
    not well enough to tell, is lost, which has its own policy.
    """
    if config.clutch == "topic":
        return state
    wanted = state.signaller if config.clutch == "other_hand" else state.operator
    shower = next((h for h in observation.hands if h.track_id == wanted), None)
    seen = shower is not None and not fault(shower, config, gestures.JOINTS[config.clutch_gesture])
    if not seen and config.clutch == "gesture":
        return state
    return _kept_closed(state, gestures.shows(config.clutch_gesture, shower.joints_rel_m) if seen else False,
                        observation.stamp_ns, config)


def _signalling_hand(state: TeleopState, observation: Observation, hand: Hand, config: TeleopConfig
                     ) -> tuple[Hand | None, TeleopState]:
    """The other hand that works the clutch: the nearest to the steering one at first, and from then on that track.

    Somebody else's hand must neither close the clutch nor keep it closed.
    """
    others = [h for h in observation.hands if h.track_id != hand.track_id and not fault(h, config)
              and h.is_right != hand.is_right]
    same = [h for h in others if h.track_id == state.signaller]
    if same or state.closed or not others:
        return (same[0] if same else None), state
    nearest = min(others, key=lambda h: float(np.linalg.norm(_palm(h) - _palm(hand))))
    return nearest, replace(state, signaller=nearest.track_id, armed=False, held_since_ns=None)


def _kept_closed(state: TeleopState, shown: bool | None, stamp: int, config: TeleopConfig) -> TeleopState:
    """The closed clutch after one more look at the gesture: it opens when the gesture was gone for clutch_release_s."""
    if shown is None:
        return state
    if shown:
        return replace(state, gone_since_ns=None)
    gone = stamp if state.gone_since_ns is None else state.gone_since_ns
    if (stamp - gone) * 1e-9 >= config.clutch_release_s:
        return replace(_open_clutch(state), armed=False)
    return replace(state, gone_since_ns=gone)


def _close_clutch(state: TeleopState, hand: Hand, observation: Observation, config: TeleopConfig) -> TeleopState:
    """Ties the hand where it is to the target where it is, so that closing moves nothing."""
    since_ns, _ = state.stands
    if (state.now_ns - since_ns) * 1e-9 < STEADY_S:
        return replace(state, hint="the tool moves, or its place in TF jumps: the clutch closes when it stands")
    R, t = observation.R_base_camera, observation.t_base_camera
    resting = replace(state.target, velocity=np.zeros(3), turn=np.zeros(3))
    latch = _Latch(R @ _palm(hand) + t, R @ _wrist(hand), resting, hand.is_right, _mapping(config))
    return replace(state, closed=True, operator=hand.track_id, latch=latch, target=resting, ways=(), hand=None,
                   opening=None, shown=None, wish=resting, turn_left=None, wish_gripper_m=None, held_since_ns=None,
                   gone_since_ns=None, hint="")


def _open_clutch(state: TeleopState) -> TeleopState:
    return replace(state, closed=False, operator=0, signaller=0, latch=None, hand=None, opening=None, shown=None,
                   stands=None, wish=None, turn_left=None, wish_gripper_m=None, held_since_ns=None,
                   gone_since_ns=None, last_palm=None, last_wrist=None, leapt=None, hint="",
                   target=replace(state.target, velocity=np.zeros(3), turn=np.zeros(3)))


def _follow(state: TeleopState, hand: Hand, observation: Observation, config: TeleopConfig) -> TeleopState:
    """Where target and gripper should go by the operator's hand."""
    R, latch = observation.R_base_camera, state.latch
    moved = R @ _palm(hand) + observation.t_base_camera - latch.hand_position
    turned = rotation_vector(R @ _wrist(hand) @ latch.hand_rotation.T)
    if state.hand is not None:                                     # stay on the branch next to the last value
        turned = _nearest_branch(turned, state.hand.raw[3:])
    filtered = one_euro(state.hand, np.r_[moved, turned], observation.stamp_ns, config.min_cutoff_hz,
                        config.beta_hz_per_m_s)
    axes = config.axis_matrix
    position = latch.target.position + config.scale * (axes @ filtered.value[:3])
    rotation = latch.target.rotation
    if config.rotate:
        # A rotation vector is an axial vector: under a reflection of the axes it also changes sign.
        rotation = rotation_from_vector(np.linalg.det(axes) * (axes @ filtered.value[3:])) @ rotation

    opening = one_euro(state.opening, np.array(opening_of(hand, config)), observation.stamp_ns, config.min_cutoff_hz,
                       config.beta_hz_per_m_s)
    state = _grip(state, float(opening.value), config)
    return replace(state, hand=filtered, opening=opening, wish=Target(position, rotation))


def opening_of(hand: Hand, config: TeleopConfig) -> float:
    """The opening that thumb and index show: 0 closed, 1 open."""
    aperture = gestures.aperture(hand.joints_rel_m, hand.hand_length_m)
    share = (aperture - config.aperture_closed) / (config.aperture_open - config.aperture_closed)
    return float(np.clip(share, 0.0, 1.0))


def _grip(state: TeleopState, opening: float, config: TeleopConfig) -> TeleopState:
    """Where the gripper should go by the hand's opening (0 closed, 1 open).

    'gradual' starts from the gripper's own opening and goes the hand's way, by as much that both reach the end that
    the hand goes to together; there, at the latest, they agree and stay so. 'at_once' goes where the hand is.
    """
    # Backlash: the opening moves only after the hand has moved by the hysteresis, and reaches both ends all the same.
    band = config.hysteresis / 2.0
    stretched = (1.0 + 2.0 * band) * opening - band
    last = opening if state.shown is None else state.shown
    shown = float(np.clip(np.clip(last, stretched - band, stretched + band), 0.0, 1.0))
    span = config.gripper_open_m - config.gripper_closed_m
    if config.gripper_takeover == "at_once":
        wish = shown
    elif state.shown is None or (state.wish_gripper_m is None and shown == last):
        return replace(state, shown=shown)
    else:
        now_m = state.gripper_m if state.wish_gripper_m is None else state.wish_gripper_m
        wish = float(np.clip((now_m - config.gripper_closed_m) / span, 0.0, 1.0))
        if shown < last:
            wish *= shown / last
        elif shown > last:
            wish = 1.0 - (1.0 - wish) * (1.0 - shown) / (1.0 - last)
    return replace(state, shown=shown, wish_gripper_m=config.gripper_closed_m + wish * span)


def _move(state: TeleopState, now_ns: int, dt: float, config: TeleopConfig) -> tuple[TeleopState, Command]:
    """Moves target and gripper towards the wish within the limits, or brakes when the operator is lost."""
    silent = (now_ns - state.seen_ns) * 1e-9
    reason = state.lost_reason or f"no image of the operator for {silent:.2f} s"
    lost = silent > config.stale_s
    if lost and (config.lost_policy == "stop" or silent > config.stale_s + config.hold_s):
        state = replace(_open_clutch(state), armed=False)
        return state, Command(Phase.IDLE, withheld=f"operator lost: {reason}; clutch opened")
    dt = min(dt, config.stale_s)                                   # a long gap is not a licence for a long jump
    wish = state.target if lost or state.wish is None else state.wish
    low, high = np.array(config.workspace_min_m), np.array(config.workspace_max_m)
    low, high = np.minimum(low, state.target.position), np.maximum(high, state.target.position)
    position, velocity = _approach(state.target.position, state.target.velocity, np.clip(wish.position, low, high), dt,
                                   config.speed_m_s, config.acceleration_m_s2, brake=lost)
    # An acceleration that was lowered on the way is no reason to leave the workspace.
    velocity = np.where((position < low) | (position > high), 0.0, velocity)
    position = np.clip(position, low, high)
    error = rotation_vector(wish.rotation @ state.target.rotation.T)
    if state.turn_left is not None and not lost:                   # the way that the hand went, however far ahead it is
        error = _nearest_branch(error, state.turn_left)
    turned, turn = _approach(np.zeros(3), state.target.turn, error, dt, config.turn_rad_s,
                             config.turn_acceleration_rad_s2, brake=lost)
    target = Target(position, rotation_from_vector(turned) @ state.target.rotation, velocity, turn)

    # Only a gripper that was measured outside its span is led back from there; a guess never is a reason to leave it.
    gripper = state.gripper_m if state.measured else float(np.clip(state.gripper_m, *config.gripper_span_m))
    if not lost and state.wish_gripper_m is not None:
        most = config.gripper_speed_m_s * dt
        gripper += float(np.clip(state.wish_gripper_m - gripper, -most, most))
    state = replace(state, target=target, gripper_m=gripper, turn_left=state.turn_left if lost else error - turned)
    phase, note = (Phase.HOLD, f"holding: {reason}") if lost else (Phase.FOLLOW, "")
    return state, Command(phase, None if state.wish_gripper_m is None else gripper, config.gripper_effort, target, note)


def _approach(x: np.ndarray, v: np.ndarray, goal: np.ndarray, dt: float, speed: float, acceleration: float, brake: bool
              ) -> tuple[np.ndarray, np.ndarray]:
    """One time step towards the goal, per axis, never above the speed and acceleration limits, never past the goal.

    The speed is at most that from which the axis can still stop at the goal after this step, however long the next
    ones are: v dt + v^2 / 2a <= d, so v = sqrt(2 a d + (a dt)^2) - a dt. x, v, goal: (3,). Returns the new x and v.
    """
    if dt <= 0.0:
        return x, v
    distance = goal - x
    gain = acceleration * dt
    allowed = np.sqrt(2.0 * acceleration * np.abs(distance) + gain * gain) - gain
    wish = np.zeros(3) if brake else np.sign(distance) * np.minimum(np.minimum(allowed, speed), np.abs(distance) / dt)
    v = v + np.clip(wish - v, -gain, gain)
    return x + v * dt, v


def _nearest_branch(vector: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The rotation vector of the same rotation that lies next to the reference (angles beyond pi stay continuous)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return vector
    turns = [vector * (1.0 + 2.0 * np.pi * k / angle) for k in (-1, 0, 1)]
    return min(turns, key=lambda t: float(np.linalg.norm(t - reference)))
