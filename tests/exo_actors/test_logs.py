"""The file gets everything of ours, the terminal what was asked for."""

import io
import logging
from pathlib import Path

import pytest

from exo_actors.logs import Levels, logging_to, parse_levels


def test_a_spec_sets_the_default_and_modules() -> None:
    levels = parse_levels("warning, engine=debug,bus.port=ERROR")
    assert levels.level("api.chat") == logging.WARNING
    assert levels.level("engine") == logging.DEBUG
    assert levels.level("engine.loop") == logging.DEBUG
    assert levels.level("engineering") == logging.WARNING
    assert levels.level("bus") == logging.WARNING
    assert levels.level("bus.port") == logging.ERROR


def test_the_nearest_name_counts() -> None:
    levels = parse_levels("bus=error,bus.port=debug")
    assert levels.level("bus.port.x") == logging.DEBUG
    assert levels.level("bus.view") == logging.ERROR


@pytest.mark.parametrize(
    "spec", ["loud", "engine=loud", "=debug", "engine", "engine=debug=x", "engine debug"]
)
def test_a_bad_spec_is_explained(spec: str) -> None:
    with pytest.raises(ValueError, match="engine=debug"):
        parse_levels(spec)


def test_the_file_gets_what_the_terminal_does_not_show(tmp_path: Path) -> None:
    terminal = io.StringIO()
    with logging_to(tmp_path / "logs", Levels(), terminal) as path:
        logging.getLogger("engine.loop").debug("a step")
        logging.getLogger("engine.loop").info("ready")
        logging.getLogger("aiohttp.access").debug("of no interest")
    assert path == tmp_path / "logs" / "node.log"
    text = path.read_text()
    assert "a step" in text
    assert "ready" in text
    assert "of no interest" not in text
    assert "ready" in terminal.getvalue()
    assert "a step" not in terminal.getvalue()


def test_levels_are_the_terminals(tmp_path: Path) -> None:
    terminal = io.StringIO()
    with logging_to(tmp_path, parse_levels("engine=debug,bus=warning,zmq=debug"), terminal) as path:
        logging.getLogger("engine.loop").debug("a step")
        logging.getLogger("bus.port").info("bound")
        logging.getLogger("zmq.x").debug("asked for")
    shown = terminal.getvalue()
    assert "a step" in shown
    assert "asked for" in shown
    assert "bound" not in shown
    assert "bound" in path.read_text()


def test_the_terminal_gets_one_line_per_error_and_the_file_its_traceback(tmp_path: Path) -> None:
    terminal = io.StringIO()
    with logging_to(tmp_path, Levels(), terminal) as path:
        try:
            raise KeyError("lost")
        except KeyError:
            logging.getLogger("bus.port").exception("could not read")
    assert terminal.getvalue().count("\n") == 1
    assert "could not read (KeyError: 'lost')" in terminal.getvalue()
    assert "Traceback" in path.read_text()


def test_afterwards_nothing_is_written(tmp_path: Path) -> None:
    terminal = io.StringIO()
    before = list(logging.getLogger().handlers)
    with logging_to(tmp_path, Levels(), terminal):
        pass
    logging.getLogger("engine").warning("too late")
    assert terminal.getvalue() == ""
    assert logging.getLogger().handlers == before


def test_levels_do_not_outlive_the_block(tmp_path: Path) -> None:
    names = ("", "engine", "zmq")
    before = [logging.getLogger(name).level for name in names]
    with logging_to(tmp_path, parse_levels("zmq=debug"), io.StringIO()):
        assert logging.getLogger("zmq").level == logging.DEBUG
    assert [logging.getLogger(name).level for name in names] == before
