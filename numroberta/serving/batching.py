"""Which texts are computed together, when, and on how many threads.

Nothing waits for company: a thread that is idle takes what is there, up to as many tokens as run at the full rate.
(Only after a batch of several requests it gives those who were answered a fifth of the batch's time to ask again, and
ends this pause when they have: else they would be split ever finer, and a text alone costs twice as much as one of
eight.  For the same reason it leaves to the other threads their share of what waits and what they are at.)
Clients take turns, a text each.  Short texts and long ones (of more than LONG tokens) are different batches: while long
ones keep all threads busy, one more thread computes short ones beside them, and the system shares the cores between
these threads; so a short text never waits for a long one to end.

All of this runs on the event loop's thread, and only `_compute` on others.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numroberta.serving.errors import Refused
from numroberta.serving.job import Job, Kind

LONG = 128  # tokens
FULL = 512  # tokens at which a thread has its full rate
PAUSE, PAUSE_SHARE = 0.03, 0.2  # seconds, and the share of the time that the last batch took
LEAST = 64  # tokens for which it is worth it to use another thread


class Ticket:
    """A job that was accepted: its results as they come, and the future that waits for all of them."""

    def __init__(self, job: Job, client: Hashable, future: asyncio.Future[list[Any]]):
        self.job, self.client, self.future = job, client, future
        self.results: list[Any] = [None] * len(job.inputs)
        self.missing = len(job.inputs)

    def settle(self, index: int, result: Any) -> None:
        """A result, or the exception that there is instead."""
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
            return
        self.results[index] = result
        self.missing -= 1
        if not self.missing:
            self.future.set_result(self.results)


Piece = tuple[Ticket, int]  # an input of a job


class Lane:
    """Pieces that wait, of one class of lengths; clients take turns."""

    def __init__(self) -> None:
        self.clients: dict[Hashable, deque[Piece]] = {}
        self.tokens = 0

    def put(self, ticket: Ticket, index: int) -> None:
        self.clients.setdefault(ticket.client, deque()).append((ticket, index))
        self.tokens += ticket.job.tokens[index]

    def take(self, most: int) -> list[Piece]:
        """The next piece, and then in turn those of its kind of each client, up to so many tokens in all."""
        taken: list[Piece] = []
        kind: Kind | None = None
        tokens = 0
        blocked: set[Hashable] = set()
        while len(blocked) < len(self.clients):
            client = next(client for client in self.clients if client not in blocked)
            pieces = self.clients[client]
            ticket, index = pieces[0]
            size = ticket.job.tokens[index]
            if taken and (ticket.job.kind != kind or tokens + size > most):
                blocked.add(client)
                continue
            kind, tokens = ticket.job.kind, tokens + size
            taken.append(pieces.popleft())
            del self.clients[client]  # and to the end of the line
            if pieces:
                self.clients[client] = pieces
        self.tokens -= tokens
        return taken

    def drop(self, ticket: Ticket) -> None:
        """Forget the pieces of a job whose client has gone."""
        pieces = self.clients.get(ticket.client, deque())
        kept = deque(piece for piece in pieces if piece[0] is not ticket)
        self.tokens -= sum(ticket.job.tokens[index] for owner, index in pieces if owner is ticket)
        if kept:
            self.clients[ticket.client] = kept
        else:
            self.clients.pop(ticket.client, None)


@dataclass
class Batch:
    """Pieces that are being computed."""

    pieces: list[Piece]
    long: bool
    threads: int

    @property
    def tokens(self) -> int:
        return sum(ticket.job.tokens[index] for ticket, index in self.pieces)


class Batcher:
    """Jobs in, results out.

    threads: that compute at a time.  most_waiting: tokens that may wait.
    """

    def __init__(self, threads: int, most_waiting: int):
        self.threads, self.most_waiting = threads, most_waiting
        self.short, self.long = Lane(), Lane()
        self.running: list[Batch] = []
        self.tokens_done = self.batches_done = 0
        self.seconds_busy = 0.0
        self._executor = ThreadPoolExecutor(threads + 1, thread_name_prefix="numroberta-serving")
        self._last_long = False
        self._called = False
        self._pause: asyncio.TimerHandle | None = None
        self._expected = 0  # who may ask again in this pause

    @property
    def waiting(self) -> int:
        """Tokens that wait."""
        return self.short.tokens + self.long.tokens

    async def results(self, job: Job, client: Hashable) -> list[Any]:
        """What the job's inputs give.  Cancelled, it costs nothing more than what is being computed already.

        Raises Refused if too much is waiting, or what computing raised.
        """
        self._check_room(sum(job.tokens))
        loop = asyncio.get_running_loop()
        ticket = Ticket(job, client, loop.create_future())
        for index, tokens in enumerate(job.tokens):
            (self.long if tokens > LONG else self.short).put(ticket, index)
        self._arrived()
        try:
            return await ticket.future
        finally:
            if ticket.missing:
                self.short.drop(ticket)
                self.long.drop(ticket)

    def _check_room(self, tokens: int) -> None:
        if tokens > self.most_waiting:
            raise Refused(
                "too many", f"the request has {tokens:,} tokens, at most {self.most_waiting:,} are taken: split it"
            )
        if self.waiting + tokens > self.most_waiting:
            raise Refused(
                "full",
                f"{self.waiting:,} tokens are waiting, and {self.most_waiting:,} may: try again later",
                retry_after=self.seconds_to_wait(),
            )

    def seconds_to_wait(self) -> int:
        """About when half of what waits will be done."""
        rate = self.tokens_done / self.seconds_busy * self.threads if self.seconds_busy else 1000.0
        return min(60, max(1, round(self.waiting / 2 / rate)))

    def _arrived(self) -> None:
        """Start something soon: after the requests that have arrived at the same time, or when a pause ends."""
        self._expected -= 1
        if self._pause and self._expected <= 0:
            self._pause.cancel()
            self._pause = None
        if not (self._pause or self._called):
            self._called = True
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._dispatch)

    def _dispatch(self) -> None:
        """Start what can be started."""
        self._called, self._pause = False, None
        while self.waiting:
            idle = self.threads - sum(batch.threads for batch in self.running)
            if idle > 0:
                self._start(self._next_lane(), idle)
            elif self.short.tokens and all(batch.long for batch in self.running):
                self._start(self.short, 1)
            else:
                return

    def _next_lane(self) -> Lane:
        if not (self.short.tokens and self.long.tokens):
            return self.short if self.short.tokens else self.long
        return self.short if self._last_long else self.long

    def _start(self, lane: Lane, idle: int) -> None:
        here = self.waiting + sum(batch.tokens for batch in self.running)
        share = min(-(-lane.tokens // idle), -(-here // self.threads))
        pieces = lane.take(min(FULL, max(LEAST, share)))
        batch = Batch(pieces, lane is self.long, 1 if self.waiting else idle)
        self._last_long = batch.long
        self.running.append(batch)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, _compute, batch)
        future.add_done_callback(lambda done: None if done.cancelled() else self._end(batch, *done.result()))

    def _end(self, batch: Batch, results: Sequence[Any], seconds: float) -> None:
        """Hand out a batch's results.  Several who get theirs may ask again before the next batch starts."""
        self.running.remove(batch)
        self.tokens_done += batch.tokens
        self.batches_done += 1
        self.seconds_busy += seconds * batch.threads
        for (ticket, index), result in zip(batch.pieces, results, strict=True):
            ticket.settle(index, result)
        answered = len({ticket for ticket, _ in batch.pieces if ticket.future.done()})
        self._expected = answered + max(0, self._expected if self._pause else 0)
        if self._called or self._pause:
            return
        if answered > 1 and self.waiting < FULL:
            pause = min(PAUSE, PAUSE_SHARE * seconds)
            self._pause = asyncio.get_running_loop().call_later(pause, self._dispatch)
        else:
            self._dispatch()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _compute(batch: Batch) -> tuple[list[Any], float]:
    """A result or an exception for each piece, and the seconds it took.

    If a batch fails, each request's own inputs are computed by themselves: none fails because of another's.
    """
    start = time.perf_counter()
    kind = batch.pieces[0][0].job.kind
    inputs = [ticket.job.inputs[index] for ticket, index in batch.pieces]
    tickets = list(dict.fromkeys(ticket for ticket, _ in batch.pieces))
    results: list[Any] = [None] * len(inputs)
    try:
        results = list(kind.run(batch.threads, inputs))
    except Exception as error:
        if len(tickets) == 1:
            results = [error] * len(inputs)
        else:
            for ticket in tickets:
                own = [place for place, (owner, _) in enumerate(batch.pieces) if owner is ticket]
                try:
                    answers: Sequence[Any] = kind.run(batch.threads, [inputs[place] for place in own])
                except Exception as own_error:
                    answers = [own_error] * len(own)
                for place, answer in zip(own, answers, strict=True):
                    results[place] = answer
    return results, time.perf_counter() - start
