"""Where log lines go: everything to a rotating file, what a person needs to the terminal."""

import logging
import logging.handlers
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

ROOMS = ("exo_actors", "api", "actors", "engine", "models", "host", "bus")
"""Whose DEBUG lines the file gets; of everything else, from INFO on."""

FILE_NAME = "node.log"
FILE_BYTES = 10_000_000
OLD_FILES = 4

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


@dataclass(frozen=True, slots=True)
class Levels:
    """From which level on the terminal shows lines, by the name of the logger or a part of its path."""

    default: int = logging.INFO
    of: tuple[tuple[str, int], ...] = ()

    def level(self, logger: str) -> int:
        """The level for a logger: the longest name given that is it or lies above it."""
        above = [(name, level) for name, level in self.of if logger == name or logger.startswith(name + ".")]
        return max(above, key=lambda pair: len(pair[0]))[1] if above else self.default


def parse_levels(spec: str) -> Levels:
    """Levels from `engine=debug,bus.port=warning` or `debug` or both; raises ValueError in clear words.

    >>> parse_levels("warning,engine=debug")
    Levels(default=30, of=(('engine', 10),))
    """
    default, of = logging.INFO, []
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, equals, word = (text.strip() for text in part.rpartition("="))
        level = LEVELS.get(word.lower())
        if level is None or (equals and not name):
            raise ValueError(
                f"{part!r} is neither a level ({', '.join(LEVELS)}) nor module=level, such as engine=debug"
            )
        if equals:
            of.append((name, level))
        else:
            default = level
    return Levels(default, tuple(of))


@contextmanager
def logging_to(folder: Path, levels: Levels, terminal: TextIO | None = None) -> Iterator[Path]:
    """Log to a file in `folder` and to the terminal (standard error) for as long as the block lasts.

    Gives the file's path; raises OSError where it can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handlers = (_file_handler(folder / FILE_NAME), _terminal_handler(terminal or sys.stderr, levels))
    before = _set_levels(_emitted(levels))
    logging.captureWarnings(True)
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    try:
        yield folder / FILE_NAME
    finally:
        for handler in handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        logging.captureWarnings(False)
        _set_levels(before)


def _emitted(levels: Levels) -> dict[str, int]:
    """From which level on each logger makes records at all: enough for the file and for the terminal."""
    ours = dict.fromkeys(ROOMS, logging.DEBUG)
    others = {name: level for name, level in levels.of if name.partition(".")[0] not in ROOMS}
    usual = min(logging.INFO, levels.default)
    return {"": usual, **ours, **{name: min(usual, level) for name, level in others.items()}}


def _set_levels(levels: dict[str, int]) -> dict[str, int]:
    """Set them; returns what they were."""
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    return before


def _file_handler(path: Path) -> logging.Handler:
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8"
    )
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(name)s [%(process)d %(threadName)s] %(message)s")
    )
    return handler


def _terminal_handler(terminal: TextIO, levels: Levels) -> logging.Handler:
    handler = logging.StreamHandler(terminal)
    handler.addFilter(lambda record: record.levelno >= levels.level(record.name))
    handler.setFormatter(TerminalFormatter())
    return handler


class TerminalFormatter(logging.Formatter):
    """One line per record: an error's last words instead of its traceback, which is in the file."""

    def format(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, "%H:%M:%S")
        line = f"{time} {record.levelname:<7} {record.name}: {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line += f" ({type(error).__name__}: {error})"
        return line
