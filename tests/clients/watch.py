"""Reads the CSV statistics of several balancers again and again and writes down each change of a server.

usage: watch.py --out FILE NAME=URL…
Record: `status NAME/SERVER TIME STATUS`, with the blanks of the status written as `_`.
"""
import argparse
import csv
import io
import time
import urllib.request

from common import STOP, Record, stop_on_signals

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", required=True)
parser.add_argument("pages", nargs="+")
options = parser.parse_args()
stop_on_signals()
record = Record(options.out)
pages = [page.split("=", 1) for page in options.pages]
known = {}
while not STOP.is_set():
    for name, url in pages:
        try:
            text = urllib.request.urlopen(url, timeout=1).read().decode().lstrip("# ")
        except OSError:
            continue
        for row in csv.DictReader(io.StringIO(text)):
            if row["svname"] in ("FRONTEND", "BACKEND"):
                continue
            key = f"{name}/{row['svname']}"
            if known.get(key) != row["status"]:
                known[key] = row["status"]
                record.note("status", key, row["status"].replace(" ", "_"))
    time.sleep(0.01)
