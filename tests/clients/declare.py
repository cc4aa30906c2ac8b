"""Declares durable queues, binds each, deletes some, and writes down what the broker confirmed.

Every queue has a new name. Record:
  try NAME TIME        before the declare
  confirm NAME TIME    it exists and is bound
  gone NAME TIME       it was deleted
  lost - TIME WHY      the connection broke; what was in flight may or may not have been done
With --check the record is read instead: every confirmed queue must be there unless a delete was begun, with its
binding, and every one that is gone must be gone.
"""
import time

import pika
from common import BROKEN, STOP, again_and_again, arguments, close, connect

EXCHANGE = "amq.direct"
# Of so many queues one is deleted again.
DELETE_EVERY = 3


def declare(options, record, number):
    """Declares over one connection until it breaks."""
    connection = None
    try:
        connection = connect(options.url)
        channel = connection.channel()
        record.note("connected")
        while not STOP.is_set():
            number += 1
            name = f"{options.queue}-{number}"
            record.note("try", name)
            channel.queue_declare(name, durable=True)
            channel.queue_bind(name, EXCHANGE, name)
            record.note("confirm", name)
            if number % DELETE_EVERY == 0:
                record.note("delete", name)
                channel.queue_delete(name)
                record.note("gone", name)
    except BROKEN as error:
        record.note("lost", more=repr(error))
        time.sleep(0.05)
    finally:
        close(connection)
    return number


def check(options):
    """Prints what is not as the record says, and how much was looked at."""
    with open(options.out, encoding="utf-8") as record:
        lines = [line.split() for line in record]
    of = {kind: {line[1] for line in lines if line[0] == kind} for kind in ("confirm", "delete", "gone")}
    wrong = 0
    with connect(options.url) as connection:
        for name in sorted(of["confirm"]):
            if name in of["delete"] - of["gone"]:
                continue
            channel = connection.channel()
            try:
                channel.confirm_delivery()
                channel.queue_declare(name, passive=True)
                channel.basic_publish(EXCHANGE, name, b"x", mandatory=True)
                there = True
                channel.close()
            except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.UnroutableError):
                there = False
            if there == (name in of["gone"]):
                wrong += 1
                print("wrong", name, "is there" if there else "is missing")
    print(len(of["confirm"]), "declared,", len(of["gone"]), "deleted,", wrong, "wrong")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--check", action="store_true", help="hold the record against the broker")
    options = parser.parse_args()
    if options.check:
        check(options)
        return
    again_and_again(declare, options)


if __name__ == "__main__":
    main()
