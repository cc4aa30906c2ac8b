"""Numbered tasks with Celery, through whatever happens: a publisher that waits for the broker's confirm of each, and a
worker that acknowledges late and comes back by itself.

usage: traffic.py publish|consume --url URL --queue QUEUE --out RECORD [--name NAME] [--rate PER_SECOND]
The record is that of publish.py and consume.py.
"""
import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

from celery import Celery
from kombu.exceptions import OperationalError

PATIENCE = 5
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("role", choices=["publish", "consume", "work"])
for name in ("--url", "--queue", "--out"):
    parser.add_argument(name, required=True)
parser.add_argument("--name")
parser.add_argument("--rate", type=float, default=100)
options = parser.parse_args()
record = open(options.out, "a", buffering=1, encoding="ascii")
app = Celery("traffic", broker=options.url)
app.conf.update(
    task_default_queue=options.queue,
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=50,
    worker_hijack_root_logger=False,
    # The queue for remote control is exclusive: a worker that is back before the broker has missed its old connection
    # is refused with 405, and ends.
    worker_enable_remote_control=False,
    broker_heartbeat=4,
    broker_connection_timeout=PATIENCE,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"confirm_publish": True},
)


def note(event, ident="-", more=""):
    # One write for each line: the worker's processes share the file.
    record.write(f"{event} {ident} {time.monotonic():.6f} {more}\n")


@app.task(bind=True, name="traffic")
def traffic(self, ident):
    note("got", ident, int(bool(self.request.delivery_info.get("redelivered"))))


@contextlib.contextmanager
def patience():
    """The library waits for some answers for ever."""
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)


def late(*_):
    raise TimeoutError("no answer")


def publish():
    stop = threading.Event()
    signal.signal(signal.SIGALRM, late)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    number = 0
    while not stop.is_set():
        connection = app.connection_for_write(connect_timeout=PATIENCE)
        try:
            with patience():
                connection.connect()
            with app.amqp.Producer(connection) as producer:
                note("connected")
                while not stop.is_set():
                    due = time.monotonic() + 1 / options.rate
                    number += 1
                    ident = f"{options.name}-{number}"
                    note("try", ident)
                    # Each attempt has an id of its own, so nothing is sent twice here.
                    with patience():
                        app.send_task("traffic", (ident,), producer=producer, retry=False)
                    note("confirm", ident)
                    stop.wait(max(due - time.monotonic(), 0))
        except (*connection.connection_errors, *connection.channel_errors, OperationalError, OSError) as error:
            note("lost", more=repr(error).replace("\n", " "))
            stop.wait(0.05)
        finally:
            try:
                connection.collect()
            except Exception:  # the connection may break while it is closed
                pass


def work():
    # Workers that have little to tell each other.
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", "-c", "1", "-l", "WARNING", "-n", f"{os.getpid()}@localhost", *quiet])


def supervise():
    """A worker ends where its queue is nowhere (404): it is started again, as a supervisor does."""
    stop = threading.Event()
    worker = None

    def end(*_):
        stop.set()
        if worker:
            worker.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    while not stop.is_set():
        worker = subprocess.Popen([sys.executable, __file__, "work", *sys.argv[2:]])
        if stop.is_set():
            end()
        worker.wait()
        stop.wait(0.5)


if options.role == "publish":
    publish()
elif options.role == "consume":
    supervise()
else:
    work()
