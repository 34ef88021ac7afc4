"""Who waits is told its place at once, and a reason whose figures change all the time now and then."""

from bus.messages.base import SequenceId
from bus.messages.engine import Queued, Refused, Step
from engine.scheduling.news import AGAIN_S, News

FIRST, SECOND = SequenceId("first"), SequenceId("second")


def test_a_new_place_is_told_at_once_and_another_reason_after_a_while() -> None:
    said: list[Step | Refused] = []
    news = News(said.append)

    def told(now_s: float, *waiting: tuple[SequenceId, str]) -> tuple[Queued, ...]:
        news.line(list(waiting), now_s)
        news.say()
        steps = [step.queued for step in said if isinstance(step, Step)]
        said.clear()
        return steps[0] if steps else ()

    assert told(0.0, (FIRST, "needs 9"), (SECOND, "its turn")) == (
        Queued(FIRST, 0, "needs 9"),
        Queued(SECOND, 1, "its turn"),
    )
    assert told(0.5, (FIRST, "needs 8"), (SECOND, "its turn")) == ()
    assert told(AGAIN_S, (FIRST, "needs 7"), (SECOND, "its turn")) == (Queued(FIRST, 0, "needs 7"),)
    assert told(AGAIN_S + 0.1, (SECOND, "its turn")) == (Queued(SECOND, 0, "its turn"),)
