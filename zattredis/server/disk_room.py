"""What happens when a disk gets full: first growth is refused, then every write, then more of the log; reads go on.

Two marks: LOW, where less is free than the settings say, and OUT, a quarter of that. Nodes tell each other where they
stand, and each decides for its own clients, before anything enters the log:

- LOW refuses commands that may need more room (those that Redis refuses for lack of memory); DEL, EXPIRE, LPOP and
  others that can only free some go on. OUT refuses every write. The reply is DISKFULL: certainly not done.
- What counts is the own disk, and the best that a majority of voters, those that live, can say: what they cannot store
  must not begin. One follower without room holds up nobody, as long as it is not needed.
- A leader that is LOW hands over to a voter that has room. If there is none it goes on, since a majority has to follow.
- A node that is OUT takes no more entries into its log, as if they had been lost on the way: its databases must never
  run into the end of the disk, which would end it. It goes on voting and answering heartbeats; it falls behind, its
  linearizable reads wait, and both end by themselves once there is room. Nor does it take a snapshot, and no node takes
  one with which it would be OUT. While a majority is OUT, and so nobody writes, short entries are taken: a new leader's
  first one must be stored before anybody may read.

Nothing of this is remembered: free space is asked for ten times a second, and room ends every refusal at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zattredis.errors import DiskFull, NotLeader, ProposalRefused
from zattredis.observability.events import get_logger
from zattredis.raft.messages import AppendEntries, Message
from zattredis.server.clock import monotonic
from zattredis.storage.spool import Spool

if TYPE_CHECKING:
    from zattredis.server.node import Node

ROOM: Final = 0
LOW: Final = 1
OUT: Final = 2

HEARD_S: Final = 5.0
"""Who has been silent for longer stores nothing, whatever room there is."""
SHORT_BYTES: Final = 64 << 10
HAND_OVER_AGAIN_S: Final = 2.0

_NAMES: Final = ("disk_has_room", "disk_low", "disk_nearly_full")
_WHERE: Final = "this node's disk"
_MAJORITY: Final = "the disks of a majority"

_log = get_logger(room="disk")


class DiskRoom:
    """One per node. `level` is that of the own disk, `refused` what is refused to clients here."""

    __slots__ = ("_handed_over_at", "_node", "level", "refused")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._handed_over_at = 0.0
        self.level = ROOM
        self.refused = ROOM
        # A read may put aside what it puts in order, as long as that cannot fill the disk.
        node.reads.sliced.new_spool = lambda: Spool(node.data.path, lambda: self.level == ROOM)

    def check(self) -> None:
        """Ask how much is free, and follow. Raises StorageFailed when the disk cannot even be asked."""
        node = self._node
        free = node.data.free_bytes()
        level = self._level(free)
        if level != self.level:
            self.level = level
            _log.warning(_NAMES[level], free_bytes=free, below_bytes=self._wanted())
            node.housekeeping.report_status()
        if level >= LOW and node.driver.is_leader:
            self._hand_over()
        self._refuse(free)

    def admits(self, message: Message) -> bool:
        """Return whether a message may be taken: not entries for the log of a node that is OUT."""
        if self.level != OUT or not isinstance(message, AppendEntries) or not message.entries:
            return True
        return self._of_majority() == OUT and sum(map(len, message.entries)) <= SHORT_BYTES

    @property
    def reserve_bytes(self) -> int:
        """How much must be left, or the node is OUT."""
        return self._wanted() // 4

    def _wanted(self) -> int:
        settings = self._node.settings
        percent = settings.disk_free_percent_min
        share = self._node.data.total_bytes() * percent // 100 if percent else 0
        return max(settings.disk_free_bytes_min, share)

    def _level(self, free: int) -> int:
        wanted = self._wanted()
        # What was left is not come back to by a few bytes more: each step would be a line in the log.
        margin = wanted // 16
        if free < self.reserve_bytes + (margin if self.level == OUT else 0):
            return OUT
        return LOW if free < wanted + (margin if self.level != ROOM else 0) else ROOM

    def _refuse(self, free: int) -> None:
        majority = self._of_majority()
        refused = max(self.level, majority)
        if refused == self.refused:
            return
        self.refused = refused
        dispatcher = self._node.dispatcher
        where = _WHERE if self.level >= majority else _MAJORITY
        left = f"only {free} bytes are free on {where}" if where == _WHERE else f"{where} have too little room"
        growing = DiskFull(f"{left}; commands that may need more are refused until there is room")
        every = DiskFull(f"{left}; writes are refused until there is room")
        dispatcher.write_refusal = every if refused == OUT else None
        self._node.housekeeping.disk_refusal = growing if refused >= LOW else None
        self._node.housekeeping.put_growth_refusal()
        _log.warning(
            ("writes_accepted", "growing_writes_refused", "writes_refused")[refused], own_disk=_NAMES[self.level],
            majority=_NAMES[majority],
        )  # fmt: skip

    def _of_majority(self) -> int:
        """Return the level that a majority of the voters has or is better than; ROOM if no majority lives."""
        core = self._node.core
        members = self._node.housekeeping.members
        voters = core.membership.voters
        now = monotonic()
        levels = []
        for node_id in voters:
            status = members.get(node_id)
            if node_id == core.node_id:
                levels.append(self.level)
            elif status is not None and now - status.heard_at < HEARD_S:
                levels.append(status.disk_level)
        majority = len(voters) // 2 + 1
        return sorted(levels)[majority - 1] if len(levels) >= majority else ROOM

    def _hand_over(self) -> None:
        node = self._node
        now = monotonic()
        if now - self._handed_over_at < HAND_OVER_AGAIN_S or node.core.transferring_to is not None:
            return
        best = None
        for node_id in node.core.other_voters:
            status, progress = node.housekeeping.members.get(node_id), node.core.progress.get(node_id)
            if status is None or progress is None or now - status.heard_at > HEARD_S or status.disk_level != ROOM:
                continue
            if progress.recent_active and (best is None or progress.match_index > best[0]):
                best = (progress.match_index, node_id)
        if best is None:
            return
        self._handed_over_at = now
        try:
            node.core.transfer_leader(best[1])
        except (NotLeader, ProposalRefused) as error:
            _log.info("no_hand_over", to=best[1], reason=str(error))
            return
        _log.warning("handing_over", to=best[1], reason="this node's disk has too little room")
        node.schedule()
