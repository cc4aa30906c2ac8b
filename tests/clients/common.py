"""Shared by the client programs: connecting for good, and a record that survives the death of its writer."""
import argparse
import itertools
import signal
import socket
import threading
import time

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException

STOP = threading.Event()

# Counts the attempts to connect.
ATTEMPTS = itertools.count()


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--url", required=True, help="amqp://USER:PASSWORD@HOST:PORT/VHOST, several with commas")
    parser.add_argument("--queue", required=True)
    parser.add_argument("--out", required=True, help="the record, one line for each event")
    return parser


def stop_on_signals():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: STOP.set())


def connect(url):
    """One attempt; of several addresses another one each time. A silent peer is given up after about two seconds,
    in every state of the connection."""
    urls = url.split(",")
    parameters = pika.URLParameters(urls[next(ATTEMPTS) % len(urls)])
    parameters.socket_timeout = 2
    parameters.stack_timeout = 3
    parameters.connection_attempts = 1
    parameters.heartbeat = 2
    parameters.blocked_connection_timeout = 5
    parameters.tcp_options = {"TCP_USER_TIMEOUT": 2000}
    return pika.BlockingConnection(parameters)


def close(connection):
    try:
        if connection is not None and connection.is_open:
            connection.close()
    except Exception:  # the connection may break while it is closed
        pass


# What a connection that breaks, refuses or falls silent raises.
BROKEN = (pika.exceptions.AMQPError, AMQPConnectorException, OSError, socket.error, EOFError)


class Record:
    """Lines `event id time [more]`, written through at once. The clock is the machine's monotonic one."""

    def __init__(self, path):
        self._file = open(path, "a", buffering=1, encoding="ascii")
        self._lock = threading.Lock()

    def note(self, event, ident="-", more=""):
        with self._lock:
            self._file.write(f"{event} {ident} {time.monotonic():.6f} {more}\n")


def again_and_again(act, options):
    """Acts over one connection after another until told to stop; `act` is given a number and returns the next one."""
    stop_on_signals()
    record = Record(options.out)
    number = 0
    while not STOP.is_set():
        number = act(options, record, number)
