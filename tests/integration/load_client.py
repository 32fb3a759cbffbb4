"""A closed-loop load client that accounts for every single request.

N clients, each sending its next request when the last was answered. Nothing is retried
and nothing forgiven: whatever is not the right, whole answer to just this request is
counted as lost, by kind. A kept-alive connection is given up only after the server said
`Connection: close`, so a server that closes without saying so is caught.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.integration.wire import ANSWER_S, Address, Answer, BrokenAnswer, Wire

WRONG = "a wrong answer"


@dataclass(slots=True)
class Tally:
    """What became of the requests of one run."""

    answered: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    """The first few losses in full, for the failure message."""
    pids: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)


class LoadClient:
    """Requests `/hello` with a number that the answer must repeat, until stopped."""

    def __init__(self, address: Address, *, clients: int = 6, keep_alive: bool = True) -> None:
        self.address = address
        self.keep_alive = keep_alive
        self.tally = Tally()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> Tally:
        """Let every client finish its last request, and return the account."""
        self._stopping = True
        for thread in self._threads:
            thread.join(ANSWER_S * 2)
            assert not thread.is_alive(), "a load client did not come to an end"
        return self.tally

    def wait_for_answers(self, count: int, *, timeout_s: float = ANSWER_S) -> None:
        """Block until `count` further requests were answered, or any was lost."""
        with self._changed:
            wanted = self.tally.answered + count
            reached = self._changed.wait_for(
                lambda: self.tally.answered >= wanted or bool(self.tally.lost), timeout_s
            )
        assert reached, f"no {count} answers in {timeout_s} s: {self.tally}"

    def _run(self, client: int) -> None:
        wire: Wire | None = None
        number = 0
        while not self._stopping:
            number += 1
            token = f"{client}-{number}"
            try:
                wire = wire or Wire(self.address)
                answer = self._ask(wire, token)
            except BrokenAnswer as broken:
                self._lose(broken.breakage.value, f"request {token}: {broken}")
                wire = self._hang_up(wire)
                continue
            self._judge(token, answer)
            if not (self.keep_alive and answer.keeps_alive):
                wire = self._hang_up(wire)
        self._hang_up(wire)

    def _ask(self, wire: Wire, token: str) -> Answer:
        fields = () if self.keep_alive else ("Connection: close",)
        return wire.request("GET", f"/hello?token={token}", *fields)

    @staticmethod
    def _hang_up(wire: Wire | None) -> None:
        if wire is not None:
            wire.close()

    def _judge(self, token: str, answer: Answer) -> None:
        words = answer.body.decode("latin-1").split()
        if answer.status != 200 or len(words) != 3 or words[0] != token:
            self._lose(WRONG, f"request {token}: {answer}")
            return
        with self._changed:
            self.tally.answered += 1
            self.tally.versions[words[1]] += 1
            self.tally.pids[int(words[2])] += 1
            self._changed.notify_all()

    def _lose(self, kind: str, example: str) -> None:
        with self._changed:
            self.tally.lost[kind] += 1
            if len(self.tally.examples) < 5:
                self.tally.examples.append(example)
            self._changed.notify_all()
