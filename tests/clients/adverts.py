"""Writes down every VRRP advert that this host's link carries.

usage: adverts.py --out FILE [--replay ADDRESS]
Record: `advert SOURCE TIME PRIORITY`. With --replay, the adverts of that sender are kept, and sent again and again as
soon as it has been silent for half a second: `replay SOURCE TIME` for each.
"""
import argparse
import socket
import time

from common import STOP, Record, stop_on_signals

VRRP = 112
SILENCE = 0.5

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", required=True)
parser.add_argument("--replay")
options = parser.parse_args()
stop_on_signals()
record = Record(options.out)
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
link.bind(("eth0", 0x0003))
link.settimeout(0.05)
kept, heard = [], time.monotonic()
while not STOP.is_set():
    try:
        frame, (_, _, kind, _, _) = link.recvfrom(4096)
        if kind == socket.PACKET_OUTGOING or frame[12:14] != b"\x08\x00" or frame[23] != VRRP:
            continue
        source = socket.inet_ntoa(frame[26:30])
        record.note("advert", source, frame[14 + 4 * (frame[14] & 15) + 2])
        if source == options.replay:
            kept, heard = (kept + [frame])[-5:], time.monotonic()
    except TimeoutError:
        pass
    if kept and time.monotonic() - heard > SILENCE:
        for frame in kept:
            link.send(frame)
            record.note("replay", options.replay)
