"""A request that nobody sent, from its conversation to its text: what is made at first use is made by then.

Chat templates are compiled, tables of tokens built and markers read when they are first needed. On two x86-64
cores that was 30 ms of the first answer's 40 until its first token.
"""

import logging
from collections.abc import Callable

from bus.messages.base import SequenceId
from bus.messages.engine import Submit
from bus.messages.generation import ChatMessage, ChatPrompt, Stopping, TextPrompt
from engine.intake import Intake, Rejected
from engine.text.sequence import Sequence
from engine.work import Job

logger = logging.getLogger(__name__)

_NAME = SequenceId("rehearsal/0")
_CHAT = ChatPrompt((ChatMessage("system", "You answer."), ChatMessage("user", "Is anybody there?")))


def rehearse(intake: Intake, sequence_of: Callable[[Job], Sequence]) -> None:
    """Nothing is computed."""
    for prompt in (_CHAT, TextPrompt("Is anybody there?")):
        try:
            job = intake.accept(Submit(_NAME, prompt, stopping=Stopping(max_tokens=2)))
        except Rejected as rejected:  # a model without a chat template, say
            logger.debug("no rehearsal: %s", rejected)
            continue
        sequence = sequence_of(job)
        for token in job.tokens[:2]:
            sequence.take(token, None)
