"""Asks an address over UDP every few milliseconds and writes down who answers.

usage: probe.py --target ADDRESS --port PORT --out FILE
Record: `got NAME TIME` for each answer within 100 ms, `silent - TIME` for none.
"""
import argparse
import socket
import time

from common import STOP, Record, stop_on_signals

INTERVAL = 0.005

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--target", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--out", required=True)
options = parser.parse_args()
stop_on_signals()
record = Record(options.out)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.setblocking(False)
number, answered, due = 0, 0, time.monotonic()
last = time.monotonic()
while not STOP.is_set():
    number += 1
    try:
        client.sendto(str(number).encode(), (options.target, options.port))
    except OSError:
        pass  # no route or no neighbour yet: counts as silence
    due += INTERVAL
    time.sleep(max(due - time.monotonic(), 0))
    try:
        while True:
            words = client.recv(64).split()
            record.note("got", words[1].decode())
            last = time.monotonic()
    except OSError:
        pass
    if time.monotonic() - last > 0.1:
        record.note("silent")
