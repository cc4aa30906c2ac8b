"""Celery and kombu: workers, results, retries, and a worker that dies.

usage: scenarios.py scenarios URL
Prints `ok NAME` after each scenario and fails with a traceback at the first wrong observation.
"""
import os
import signal
import subprocess
import sys
import time
import uuid

RUN = uuid.uuid4().hex[:8]
HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 20

program, what, URL = sys.argv
assert what == "scenarios", what
os.environ.update(SCENARIOS_URL=URL, SCENARIOS_QUEUE=f"celery-{RUN}")
sys.path.insert(0, HERE)

import amqp.exceptions  # noqa: E402: the tasks read the environment
import kombu  # noqa: E402
import tasks  # noqa: E402


def expect(found, wanted):
    assert found == wanted, f"expected {wanted!r}, found {found!r}"


def until(what, probe):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {LIMIT} s for {what}")


class Worker:
    """A worker in a process group of its own."""

    def __init__(self, name):
        self.name = f"{name}-{RUN}@localhost"
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-m", "celery", "-A", "tasks", "worker", "-c", "1", "-n", self.name, "-l", "WARNING"],
            cwd=HERE, start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(LIMIT)
            finally:
                self.kill()

    def kill(self):
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(LIMIT)


def kombu_round_trip():
    exchange = kombu.Exchange(f"kombu-{RUN}", "topic", durable=False, auto_delete=True)
    queue = kombu.Queue(f"kombu-{RUN}", exchange, "key.#", durable=False, auto_delete=True, max_length=10)
    with kombu.Connection(URL, heartbeat=10, transport_options={"confirm_publish": True}) as connection:
        got = []
        with connection.Consumer(queue, callbacks=[lambda body, message: (got.append((body, message)), message.ack())]):
            with connection.Producer(serializer="json") as producer:
                producer.publish({"number": 1}, exchange=exchange, routing_key="key.one", compression="gzip", priority=3)
            while not got:
                connection.drain_events(timeout=LIMIT)
            (body, message), = got
            expect(body, {"number": 1})
            expect((message.properties["priority"], message.delivery_info["routing_key"]), (3, "key.one"))
            for error, code, declare in (
                (amqp.exceptions.NotFound, 404, lambda it: it.queue_declare(f"missing-{RUN}", passive=True)),
                (amqp.exceptions.PreconditionFailed, 406, lambda it: it.queue_declare(queue.name, durable=True)),
            ):
                try:
                    declare(connection.channel())
                except error as refusal:
                    expect(refusal.reply_code, code)
                else:
                    raise AssertionError(f"no {code}")
        # py-amqp goes on with a new channel.
        expect(connection.channel().queue_declare(f"{queue.name}-2", exclusive=True).message_count, 0)


def result():
    expect(tasks.add.delay(2, 3).get(timeout=LIMIT), 5)
    expect([it.get(timeout=LIMIT) for it in [tasks.add.delay(it, it) for it in range(20)]], [2 * it for it in range(20)])
    try:
        tasks.wrong.delay().get(timeout=LIMIT)
    except ValueError as error:
        expect(str(error), "on purpose")
    else:
        raise AssertionError("the exception of a task was lost")


def countdown():
    start = time.time()
    ran = tasks.clock.apply_async(countdown=1).get(timeout=LIMIT)
    assert ran >= start + 1, f"ran {ran - start} s after it was sent"


def retry():
    expect(tasks.third_time_lucky.delay().get(timeout=LIMIT), 2)


def control(worker):
    """Broadcast and answer through the fanout exchange and the reply queue of kombu's mailboxes."""
    expect(tasks.app.control.ping(destination=[worker.name], timeout=LIMIT, limit=1), [{worker.name: {"ok": "pong"}}])


def acks_late(first):
    held = tasks.die_once.delay()

    def active():
        inspected = tasks.app.control.inspect([first.name], timeout=LIMIT, limit=1).active()
        return [it["id"] for it in (inspected or {}).get(first.name, [])] == [held.id]

    until("the task to start", active)
    first.kill()
    with Worker("second"):
        expect(held.get(timeout=LIMIT), "again")


def main():
    kombu_round_trip()
    print("ok kombu", flush=True)
    with Worker("first") as first:
        for scenario in (result, countdown, retry):
            scenario()
            print("ok", scenario.__name__, flush=True)
        control(first)
        print("ok control", flush=True)
        acks_late(first)
        print("ok acks_late", flush=True)
    with kombu.Connection(URL) as connection:
        connection.channel().queue_delete(os.environ["SCENARIOS_QUEUE"])


main()
