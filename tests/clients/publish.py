"""Publishes persistent messages at a steady rate and waits for each confirm, through whatever happens.

Every attempt has a new id, so that a message that comes twice was sent twice by the broker. Record:
  try ID TIME          before the publish
  confirm ID TIME      the broker has it
  return ID TIME       the broker gave it back or refused it
  lost - TIME WHY      the connection broke; the message in flight may or may not be there
"""
import time

import pika
from common import BROKEN, STOP, again_and_again, arguments, close, connect


def publish(options, record, start):
    """Publishes over one connection until it breaks."""
    connection = None
    number = start
    try:
        connection = connect(options.url)
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(options.queue, durable=True)
        record.note("connected")
        due = time.monotonic()
        while not STOP.is_set():
            number += 1
            ident = f"{options.name}-{number}"
            record.note("try", ident)
            try:
                persistent = pika.BasicProperties(delivery_mode=2, message_id=ident)
                channel.basic_publish("", options.queue, ident.encode(), persistent, mandatory=True)
                record.note("confirm", ident)
            except (pika.exceptions.UnroutableError, pika.exceptions.NackError):
                record.note("return", ident)
            due = max(due + 1 / options.rate, time.monotonic() - 0.1)
            connection.sleep(max(due - time.monotonic(), 0))
    except BROKEN as error:
        record.note("lost", more=repr(error))
        time.sleep(0.05)
    finally:
        close(connection)
    return number


def main():
    parser = arguments(__doc__)
    parser.add_argument("--name", required=True, help="begins every id")
    parser.add_argument("--rate", type=float, default=100)
    options = parser.parse_args()
    again_and_again(publish, options)


if __name__ == "__main__":
    main()
