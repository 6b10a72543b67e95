"""``hand-pose train``: learn one network from shards of virtual hands, and export it."""
from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
from pathlib import Path

import torch

from hand_pose_ros import limits, models, networks, resources
from hand_pose_ros.errors import ConfigError, DataError
from hand_pose_ros.sole import sole
from hand_pose_ros.training import curve, imagenet, measure
from hand_pose_ros.training.export import export, latency_of
from hand_pose_ros.training.loop import Trainer, is_begun, leave
from hand_pose_ros.training.settings import find, from_dict, load

_log = logging.getLogger(__name__)


def add_arguments(parser) -> None:
    """Options of ``hand-pose train``."""
    parser.add_argument("settings", help="YAML file, or the name of one in config/training/")
    parser.add_argument("--shards", required=True,
                        help="folder with crops*.tar and frames*.tar, and val/ with the same; new ones join")
    parser.add_argument("--out", type=limits.folder, required=True,
                        help="folder of checkpoint, log and curve; an old run in it is resumed")
    parser.add_argument("--minutes", type=limits.number(0.001),
                        help="plan by the clock: the schedule ends after so many minutes")
    parser.add_argument("--steps", type=limits.whole(1), help="plan by steps instead of those in the settings")
    parser.add_argument("--stop-after", type=limits.number(0.0), metavar="S",
                        help="stop after S seconds, to be resumed")
    parser.add_argument("--eval", help="folder with annotations.jsonl and photographs, measured but never trained on")
    parser.add_argument("--eval-every", type=limits.number(0.0), default=300.0, metavar="S",
                        help="seconds between measurements")
    parser.add_argument("--eval-images", type=limits.whole(0), default=150,
                        help="photographs measured each time, 0: all")
    parser.add_argument("--from-model", metavar="NAME",
                        help="start from those weights of this model that fit, instead of what the settings say; a "
                             "training that is resumed keeps its own")
    parser.add_argument("--export", metavar="NAME",
                        help="write models/NAME (or the path NAME) when the plan is done, not where it is cut off")
    parser.add_argument("--overwrite", action="store_true", help="--export may take the place of a model that is there")
    parser.add_argument("--result", type=limits.folder, metavar="FOLDER", help="write weights (in files below 16 MB), "
                        "card, log and curve there, at each checkpoint and at the end")
    parser.add_argument("--export-only", action="store_true", help="do not train: export the checkpoint in --out")
    parser.add_argument("--threads", type=limits.whole(1), default=1, help="of torch; loader processes come on top")
    parser.add_argument("--workers", type=limits.whole(0), default=1, help="loader processes")
    parser.add_argument("--held-out", type=limits.whole(1), default=512,
                        help="virtual images held out for measuring")
    parser.add_argument("--pieces", action="store_true", help="checkpoint in files below 16 MB")


def main(args) -> int:
    """Train, measure, plot, export. Raises ConfigError, DataError or ModelError naming what is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    settings = load(find(args.settings))
    if args.steps is not None and args.minutes is not None:
        raise ConfigError(f"--steps {args.steps} and --minutes {args.minutes:g} are two plans: give one of them")
    if args.steps is not None:
        settings = from_dict({**settings.as_dict(), "steps": args.steps})
    exported = args.export and (Path(args.export) if os.sep in args.export else
                                resources.folder("models") / args.export)
    if exported and (exported / models.CARD).exists() and not args.overwrite:
        raise ConfigError(f"--export {args.export}: {exported} holds a model already; give another name, or "
                          "--overwrite to replace it")
    if exported:
        try:
            limits.folder(str(exported))
        except argparse.ArgumentTypeError as error:     # not at the end, when all has been learnt
            raise ConfigError(f"--export {error}") from None
    # The first process has the folder for all of one torchrun; an export leaves what is there.
    alone = os.environ.get("RANK", "0") == "0" and not args.export_only
    with sole(args.out, "training") if alone else contextlib.nullcontext():
        return _train(args, settings, exported)


def _train(args, settings, exported: Path | None) -> int:
    begun = is_begun(args.out)
    if args.export_only and not begun:
        raise ConfigError(f"--export-only needs a checkpoint in {args.out}")
    if args.export_only and not (exported or args.result):
        raise ConfigError("--export-only writes what --export NAME or --result FOLDER says: give one of them")
    # A checkpoint brings its own weights: the package of those of ImageNet need not be there to go on.
    initial, before = (None, {}) if begun else initial_weights(args.from_model, settings)
    photographs = measure.Photographs(args.eval, args.eval_images) if args.eval else None
    trainer = Trainer(settings, args.shards, args.out, minutes=args.minutes, workers=args.workers, pieces=args.pieces,
                      held_out=args.held_out, photographs=photographs, measure_s=args.eval_every, initial=initial)
    trainer.before = before
    trainer.resume()

    unpublished: list[OSError] = []

    def publish(accuracy: dict) -> None:
        if args.result:
            unpublished.clear()
            try:
                write_result(trainer, args.result, Path(args.settings).stem, accuracy)
            except OSError as error:                    # the checkpoint is safe; there may be space the next time
                unpublished.append(error)
                _log.warning("--result %s cannot be written: %s", args.result, error)

    if args.export_only:
        trainer.records = False                         # nothing is learnt, so the log has nothing to tell
        trainer.photographs = measure.Photographs(args.eval) if args.eval else None
        result = {}
        try:
            trainer.shelf.rescan()                      # the shards may have moved since
            result = trainer.measure()
        except Exception as error:                      # whatever it is, it must not cost the model
            _log.warning("the card says no accuracy: %s", error)
        publish(result)
    else:
        with _ended_by_signals(trainer):
            result = trainer.run(args.stop_after, publish)
        leave()
    if trainer.rank:
        return 0
    _draw(args.out)
    print(f"checkpoint, log.jsonl and curve.png: {args.out}")
    if exported and trainer.progress < 1.0 and not args.export_only:
        print(f"not exported: {100 * trainer.progress:.0f} % of the plan is done; start the same command again to go "
              "on, or export what there is with --export-only")
    elif exported:
        latency = None
        try:
            latency = latency_of(trainer.average, settings)
        except Exception as error:                      # whatever it is, it must not cost the model
            _log.warning("the card says no latency: %s", error)
        _export(trainer, exported, result, latency=latency)
        print(f"exported to {exported}")
    if unpublished:
        raise DataError(f"--result {args.result} is not of the last weights, it could not be written "
                        f"({unpublished[0]}): free some space and start the same command again")
    return 0


@contextlib.contextmanager
def _ended_by_signals(trainer: Trainer):
    """SIGINT and SIGTERM do what they do once the next checkpoint is written: at once if there is nothing new to write,
    or when they come again. Those that are ignored stay so."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def ask(number, _) -> None:
        signal.signal(number, before[number])
        if trainer.step == trainer.kept:
            signal.raise_signal(number)
        trainer.signals.append(number)

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if trainer.signals:
        signal.raise_signal(trainer.signals[0])


def _draw(folder: str | Path) -> None:
    try:
        curve.plot(folder)
    except ImportError as error:
        _log.warning("there is no curve.png: %s", error)


def write_result(trainer: Trainer, folder: str | Path, name: str, accuracy: dict) -> None:
    """All that the world needs of a training so far, flat in ``folder`` and in files below 16 MB: the weights and card
    of the model ``name``, log.jsonl and curve.png."""
    _draw(trainer.folder)
    _export(trainer, folder, accuracy, name=name, pieces=True)
    for file in ("log.jsonl", "curve.png"):
        if (trainer.folder / file).is_file():
            (Path(folder) / file).write_bytes((trainer.folder / file).read_bytes())


def _export(trainer: Trainer, folder: str | Path, accuracy: dict, **more) -> None:
    before = trainer.before
    export(trainer.average, trainer.settings, folder, accuracy=accuracy, data=data_of(before),
           training={"steps": trainer.step, "images_seen": trainer.images,
                     "batch": trainer.settings.batch * trainer.world,                       # of all processes together
                     "minutes": round(trainer.seconds / 60, 1),
                     **({"before": {"name": before["name"], **before.get("training", {})}} if before else {})},
           curve=curve.points(trainer.folder, before.get("curve", ())), evidence_needed=before.get("evidence_needed"),
           **more)


def initial_weights(model: str | None, settings) -> tuple[dict | None, dict]:
    """The weights to start from, None for none, and what their card says of them: "name", "training", "curve"."""
    if model:
        card = models.card(model)
        known = ("name", "training", *(("curve", "evidence_needed") if card["kind"] == settings.kind else ()))
        return networks.load(model).state_dict(), {key: card[key] for key in known if key in card}
    return (imagenet.lite0_weights(), imagenet.CARD) if settings.initial else (None, {})


def data_of(before: dict) -> str:
    """What the weights were learnt from, for the card."""
    began, training = before.get("name"), before.get("training", {})
    while "before" in training:
        began, training = training["before"].get("name"), training["before"]
    photographs = f"; the backbone began as {began}, learnt on ImageNet" if began == imagenet.CARD["name"] else ""
    return f"virtual hands, rendered by hand_pose_ros.synthesis{photographs}"
