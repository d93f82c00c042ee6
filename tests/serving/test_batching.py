"""Which inputs run together, in which order, on how many threads; with work that only notes what it is given."""

import asyncio
import functools
import threading

import pytest

from numroberta.serving.batching import FULL, LONG, Batcher
from numroberta.serving.errors import Refused
from numroberta.serving.job import Job, Kind


class Work:
    """A kind of work that keeps its batches, and computes only when it is let."""

    def __init__(self):
        self.batches, self.threads = [], []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.kind = Kind((id(self),), self.run)

    def run(self, threads, inputs):
        self.batches.append(list(inputs))
        self.threads.append(threads)
        assert self.may_go_on.wait(10)
        if "bad" in inputs:
            raise ArithmeticError("bad")
        return [text.upper() for text in inputs]

    def job(self, *inputs, tokens=10):
        return Job(self.kind, inputs, [tokens] * len(inputs), lambda results: b"")


def on_an_event_loop(test):
    @functools.wraps(test)
    def run():
        asyncio.run(test())

    return run


async def held(work, batcher, job):
    """A request that is being computed until its work may go on."""
    work.may_go_on.clear()
    running = asyncio.ensure_future(batcher.results(job, "held"))
    await until(lambda: work.batches)
    return running


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to this")


@on_an_event_loop
async def test_requests_that_arrive_together_are_one_batch_and_each_gets_its_own_results():
    work, batcher = Work(), Batcher(1, 10_000)
    jobs = [work.job(f"a{i}", f"b{i}") for i in range(5)]
    results = await asyncio.gather(*(batcher.results(job, i) for i, job in enumerate(jobs)))
    assert results == [[f"A{i}", f"B{i}"] for i in range(5)]
    assert len(work.batches) == 1


@on_an_event_loop
async def test_clients_take_turns_a_text_each():
    work, batcher = Work(), Batcher(1, 10_000)
    first = await held(work, batcher, work.job("first"))
    others = [
        asyncio.ensure_future(batcher.results(work.job(*(f"{c}{i}" for i in range(n)), tokens=100), c))
        for c, n in (("many", 9), ("one", 1), ("two", 2))
    ]
    await asyncio.sleep(0.01)
    work.may_go_on.set()
    await asyncio.gather(first, *others)
    assert work.batches[1] == ["many0", "one0", "two0", "many1", "two1"]
    assert sum(len(batch) * 100 <= FULL for batch in work.batches[1:]) == len(work.batches) - 1


@on_an_event_loop
async def test_a_single_request_has_all_threads_and_much_to_do_is_shared_out():
    work, batcher = Work(), Batcher(4, 100_000)
    await batcher.results(work.job("one"), "x")
    assert work.threads == [4]
    await batcher.results(work.job(*map(str, range(64)), tokens=100), "x")
    assert set(work.threads[1:-1]) == {1}


@on_an_event_loop
async def test_a_thread_leaves_others_their_share_of_what_waits():
    slow, work, batcher = Work(), Work(), Batcher(2, 10_000)
    slow.may_go_on.clear()
    running = asyncio.ensure_future(batcher.results(slow.job("x", "y", tokens=30), "x"))
    await batcher.results(work.job("a", "b", tokens=30), "w")
    await batcher.results(work.job(*"cdefgh", tokens=30), "w")
    assert work.batches == [["a", "b"], ["c", "d", "e", "f"], ["g", "h"]]
    slow.may_go_on.set()
    await running


@on_an_event_loop
async def test_short_texts_do_not_wait_for_long_ones_to_end():
    long, short, batcher = Work(), Work(), Batcher(2, 100_000)
    long.may_go_on.clear()
    waiting = [asyncio.ensure_future(batcher.results(long.job("l", tokens=LONG + 1), i)) for i in range(2)]
    await until(lambda: long.batches)
    assert await asyncio.wait_for(batcher.results(short.job("s"), "y"), 5) == ["S"]
    long.may_go_on.set()
    await asyncio.gather(*waiting)


@on_an_event_loop
async def test_long_texts_have_their_turn_while_short_ones_never_end():
    work, batcher = Work(), Batcher(1, 100_000)
    done = asyncio.Event()

    async def without_pause(client):
        while not done.is_set():
            await batcher.results(work.job("s"), client)

    pressing = [asyncio.ensure_future(without_pause(i)) for i in range(20)]
    assert await asyncio.wait_for(batcher.results(work.job("l", tokens=500), "x"), 5) == ["L"]
    done.set()
    await asyncio.gather(*pressing)


@on_an_event_loop
async def test_when_too_much_waits_the_next_is_refused_at_once_and_told_when_to_come_again():
    work, batcher = Work(), Batcher(1, 100)
    running = await held(work, batcher, work.job("running"))
    waiting = asyncio.ensure_future(batcher.results(work.job(*"abcdefghij"), "x"))
    await asyncio.sleep(0)
    with pytest.raises(Refused) as refused:
        await batcher.results(work.job("more"), "y")
    assert (refused.value.kind, refused.value.headers) == ("full", {"retry-after": "1"})
    with pytest.raises(Refused, match="split it"):
        await batcher.results(work.job("a", tokens=101), "y")
    work.may_go_on.set()
    await asyncio.gather(running, waiting)
    assert batcher.waiting == 0


@on_an_event_loop
async def test_a_request_whose_client_has_gone_is_not_computed():
    work, batcher = Work(), Batcher(1, 1000)
    running = await held(work, batcher, work.job("running"))
    gone = asyncio.ensure_future(batcher.results(work.job("a", "b", "c"), "y"))
    stays = asyncio.ensure_future(batcher.results(work.job("d"), "y"))
    await until(lambda: batcher.waiting == 40)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert batcher.waiting == 10
    work.may_go_on.set()
    assert await asyncio.gather(running, stays) == [["RUNNING"], ["D"]]
    assert work.batches == [["running"], ["d"]]


@on_an_event_loop
async def test_a_request_that_cannot_be_computed_takes_no_other_one_with_it():
    work, batcher = Work(), Batcher(1, 1000)
    jobs = [work.job("a"), work.job("bad"), work.job("c", "d")]
    results = await asyncio.gather(*(batcher.results(job, i) for i, job in enumerate(jobs)), return_exceptions=True)
    assert (results[0], results[2]) == (["A"], ["C", "D"])
    assert isinstance(results[1], ArithmeticError)
    assert await batcher.results(work.job("after"), "x") == ["AFTER"]


def test_a_model_on_another_number_of_threads_has_the_same_tokenizer_and_weights(tiny):
    """Else a server has each of them once for every number of threads that a batch was given."""
    from numroberta.serving.models import Served

    served = Served("tiny", tiny)
    threads = tiny.model.num_threads + 1
    other = served.on(threads)
    assert (other.model.num_threads, tiny.model.num_threads) == (threads, threads - 1)
    assert other.tokenizer is tiny.tokenizer
    assert other.model.weights is tiny.model.weights
