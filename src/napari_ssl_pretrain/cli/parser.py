"""What the command line takes. Light: it loads for every ``--help``."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NoReturn

from napari_ssl_pretrain import __version__
from napari_ssl_pretrain.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "napari-ssl-pretrain"
EXPORT_FORMATS = ("torch", "safetensors", "onnx", "bioimageio", "nnunet", "biapy")
TEMPLATES = ("2d-crappify", "3d-crappify", "2d-masking", "3d-masking")

EPILOG = f"""\
to begin:
  {PROGRAM} demo                                  see it work on two real images
  {PROGRAM} new --guide -o my.yaml                answer a few questions, get a configuration
  {PROGRAM} check my_images/                      what would be trained on
  {PROGRAM} run --config my.yaml                  pretrain

Options may be written with _ or with -. `{PROGRAM} COMMAND --help` explains a command.
Exit codes: 0 done, 2 something to mend (nothing was trained), 1 failed while running,
130 interrupted (the state is saved).
"""


class UsageError(UserError):
    """The words after the program's name are wrong."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence of ours."""

    def error(self, message: str) -> NoReturn:
        """Raise one of our errors instead of printing the usage."""
        raise self._explained(message)

    def _explained(self, message: str) -> UsageError:
        """Turn argparse's message into what is wrong, the rule and the remedy."""
        remedy = f"See `{self.prog} --help`."
        if found := re.match(r"the following arguments are required: (.*)", message):
            name = found[1].split(", ")[0].split("/")[-1]
            action = next((a for a in self._actions if name in a.option_strings), None)
            if action and action.help:
                remedy = f"Add {name} {action.metavar}: {action.help}."
            return UsageError(name, "is required", remedy=remedy)
        if found := re.match(
            r"argument ([^:]*): invalid choice: '(.*)' \(choose from (.*)\)", message
        ):
            return UsageError(
                found[1],
                f"must be one of {found[3].replace(chr(39), '')}",
                value=found[2],
                remedy=remedy,
            )
        if found := re.match(r"argument ([^:]*): expected (.*)", message):
            return UsageError(
                found[1].split("/")[-1],
                f"needs {found[2].replace('argument', 'value')}",
                remedy=remedy,
            )
        return UsageError("command line", message, remedy=remedy)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the words after the program's name.

    Raises
    ------
    UsageError
        A command or option is unknown, misses its value, or its value is out of range.
    SystemExit
        Help was asked for, or nothing at all.
    """
    words = [_underscored(word) for word in words]
    parser, commands = build()
    command = next((word for word in words if not word.startswith("-")), None)
    if command is None and not words:
        parser.print_help()
        raise SystemExit(0)
    if command is not None and command not in commands:
        raise UsageError(
            "command",
            "is no command",
            value=command,
            remedy=_nearest(command, list(commands), "Commands: "),
        )
    _refuse_unknown_options(words, commands[command] if command else parser)
    args, rest = parser.parse_known_args(words)
    if rest:
        raise UsageError(
            "command line",
            "is one word too many",
            value=rest[0],
            remedy=f"See `{PROGRAM} {command or ''} --help`.",
        )
    if args.command is None:
        raise UsageError("command", "is missing", remedy=f"Commands: {', '.join(commands)}.")
    return args


def _underscored(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}"


def _refuse_unknown_options(words: Sequence[str], parser: argparse.ArgumentParser) -> None:
    known = [name for action in parser._actions for name in action.option_strings]  # noqa: SLF001
    for name in (word.partition("=")[0] for word in words if word.startswith("--")):
        if name not in known and name not in {"--version", "--"}:
            long = [option for option in known if option.startswith("--")]
            raise UsageError(
                name, "is no option of this command", remedy=_nearest(name, long, "Options: ")
            )


def _nearest(word: str, known: list[str], otherwise: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only after a typo

    near = get_close_matches(word, known, 1, 0.5)
    return f"Did you mean {near[0]}?" if near else f"{otherwise}{', '.join(known)}."


def build() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser and those of its commands."""
    parser = Parser(
        prog=PROGRAM,
        description="Self-supervised pretraining for microscopy images.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "--debug", action="store_true", help="show tracebacks and other packages' warnings"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands: dict[str, Parser] = {}
    for name, (about, fill) in _COMMANDS.items():
        command = subparsers.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(module=name)
        fill(command)
        commands[name] = command
    return parser, commands


def _config_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--result_dir", metavar="D", help="folder for all results (over the file's result_dir)"
    )
    p.add_argument("--name", metavar="N", help="name of the job (over the file's name)")
    p.add_argument("--run_id", metavar="I", help="number of the run (over the file's run_id)")
    p.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="set any key, such as training.epochs=20 or data.patch_size='[64, 64]'",
    )


def _json_option(p: argparse.ArgumentParser) -> None:
    p.add_argument("--json", action="store_true", help="machine-readable output: JSON on stdout")


def _fill_run(p: Parser) -> None:
    p.add_argument(
        "--config", required=True, metavar="F", help="configuration (YAML); BiaPy's are translated"
    )
    _config_options(p)
    p.add_argument(
        "--gpu",
        nargs="?",
        const="",
        metavar="0,1",
        help="graphics cards by number; several share the work; empty: automatic",
    )
    p.add_argument(
        "--resume", action="store_true", help="go on where this run was stopped or killed"
    )
    p.add_argument("--overwrite", action="store_true", help="replace the results of this run_id")
    _json_option(p)


def _fill_demo(p: Parser) -> None:
    p.add_argument(
        "--task", choices=("crappify", "masking", "both"), default="both", help="default: both"
    )
    p.add_argument(
        "--minutes", type=_minutes, metavar="M", help="minutes to train each task (default: 2)"
    )
    p.add_argument(
        "--result_dir", default=f"{PROGRAM}-demo", metavar="D", help="default: %(default)s"
    )
    _json_option(p)


def _fill_check(p: Parser) -> None:
    p.add_argument(
        "images", nargs="?", metavar="DIR", help="a folder of images, or one with train/x in it"
    )
    p.add_argument("--config", metavar="F", help="configuration (YAML)")
    _config_options(p)
    p.add_argument(
        "--full", action="store_true", help="read every pixel: ranges, damaged files, NaN"
    )
    _json_option(p)


def _fill_new(p: Parser) -> None:
    p.add_argument("--template", choices=TEMPLATES, help="dimensions and pretext task")
    p.add_argument(
        "-o", "--output", metavar="F", required=True, help="file to write; never overwritten"
    )
    p.add_argument("--train", metavar="DIR", help="images to learn from")
    p.add_argument("--test", metavar="DIR", help="images to restore and score at the end")
    p.add_argument("--guide", action="store_true", help="ask the questions one by one")


def _fill_predict(p: Parser) -> None:
    p.add_argument("--checkpoint", required=True, metavar="F", help="a checkpoint of a run (.pth)")
    p.add_argument(
        "--input", required=True, metavar="PATH", help="an image, a folder of images, or a glob"
    )
    p.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    p.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)"
    )
    _json_option(p)


def _fill_transfer(p: Parser) -> None:
    folders = {
        "--images": "labelled images: a folder, a file or a glob",
        "--labels": "their label images, of the same names",
        "--test_images": "images to score on; without them a third of the others is held back",
        "--test_labels": "their label images",
    }
    p.add_argument("--checkpoint", required=True, metavar="F", help="a checkpoint of a run (.pth)")
    for name, about in folders.items():
        p.add_argument(name, required="test" not in name, metavar="DIR", help=about)
    p.add_argument(
        "--n_labels",
        metavar="2,5,10",
        help="how many labelled images to learn from; default: 2,5,10",
    )
    p.add_argument(
        "--axes", help="axes as stored in the images, such as YXC; default: as in the pretraining"
    )
    p.add_argument("--seeds", metavar="3", help="repetitions, each on other images; default: 3")
    p.add_argument("--minutes", metavar="M", help="minutes of each fine-tuning; default: 3")
    p.add_argument(
        "--arms",
        metavar="LIST",
        help="networks to compare; default: scratch,pretrained,frozen,shuffled (the first two "
        "are needed)",
    )
    p.add_argument("--device", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    p.add_argument("--precision", help="auto, fp32 or bf16 (default: auto)")
    p.add_argument("--seed", metavar="S", help="seed of the first repetition; default: 0")
    p.add_argument("-o", "--output", required=True, metavar="OUT", help="folder of the report")
    p.add_argument("--overwrite", action="store_true", help="replace the report that is there")
    _json_option(p)


def _fill_export(p: Parser) -> None:
    p.add_argument("--checkpoint", required=True, metavar="F", help="a checkpoint of a run (.pth)")
    p.add_argument(
        "--format",
        required=True,
        choices=EXPORT_FORMATS,
        metavar="FORMAT",
        help=f"kind of file: {', '.join(EXPORT_FORMATS)}",
    )
    p.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="file to write; a card that says how to use it is written beside it as .json",
    )
    p.add_argument("--overwrite", action="store_true", help="replace files that are there")
    _json_option(p)


def _fill_features(p: Parser) -> None:
    _fill_predict(p)
    p.add_argument(
        "--point",
        type=_point,
        metavar="Y,X",
        help="a pixel (y,x or z,y,x): also write how similar every other one is to it",
    )


def _fill_runs(p: Parser) -> None:
    p.add_argument(
        "folder", nargs="?", metavar="DIR", help="default: exp_results, or here without it"
    )
    _json_option(p)


def _fill_doctor(p: Parser) -> None:
    _json_option(p)


def _point(text: str) -> tuple[int, ...]:
    try:
        point = tuple(int(part) for part in text.split(","))
    except ValueError:
        point = ()
    if not 2 <= len(point) <= 4 or min(point) < 0:  # noqa: PLR2004
        remedy = "For example --point 120,85, as y,x; in volumes z,y,x."
        raise UsageError("--point", "must be a pixel, counted from 0", value=text, remedy=remedy)
    return point


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e5:  # noqa: PLR2004
        raise UsageError(
            "--minutes",
            "must be a number of minutes above 0",
            value=text,
            remedy="For example --minutes 2.",
        )
    return value


_COMMANDS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "run": ("pretrain: prepare, train, test, write everything", _fill_run),
    "demo": (
        "pretrain on real images that are installed already; about 2 minutes a task",
        _fill_demo,
    ),
    "check": ("show what would be trained on; trains nothing", _fill_check),
    "new": ("write a commented configuration", _fill_new),
    "predict": ("restore or reconstruct images with a pretrained model", _fill_predict),
    "transfer": (
        "does pretraining help? few labels, from scratch and pretrained, with error bars",
        _fill_transfer,
    ),
    "export": ("write a trained model for other tools", _fill_export),
    "features": ("dense features of images: colours, and similarity to a point", _fill_features),
    "runs": ("list the runs under a folder", _fill_runs),
    "doctor": ("look for what is wrong with the installation", _fill_doctor),
}
