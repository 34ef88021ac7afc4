"""Whether all that an envoy said has arrived: its words are numbered without holes. Pure."""

from dataclasses import dataclass

from bus.messages.peers import Audited, Relayed


@dataclass(slots=True)
class Relays:
    """One envoy's words, as they arrive. After a loss it goes on from what it knows then."""

    envoy: str = ""
    heard: int = 0
    owed: int = 0
    """What an earlier audit said that there was to hear."""
    absent: bool = False
    """At the last audit nobody spoke for us."""

    def follows(self, relayed: Relayed) -> bool:
        """Take the next word in; false: something before it was lost."""
        first = not self.envoy and relayed.number == 1
        next_one = relayed.envoy == self.envoy and relayed.number == self.heard + 1
        self.envoy, self.heard = relayed.envoy, relayed.number
        return first or next_one

    def agrees(self, audited: Audited) -> bool:
        """Whether nothing was lost: what there was to hear at the audit before this one is here by now."""
        if audited.envoy == self.envoy:
            whole = self.heard >= self.owed and not (self.absent and not audited.envoy)
            self.heard = self.heard if whole else audited.number
        else:
            # The first word of an envoy that is new to us may still be on its way.
            whole = not self.envoy and not self.owed
            self.envoy, self.heard = ("", 0) if whole else (audited.envoy, audited.number)
        self.owed, self.absent = audited.number, not audited.envoy
        return whole
