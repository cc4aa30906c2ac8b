"""Consumes a queue over several connections, through whatever happens.

A connection that is idle for a while is closed and made again: behind a balancer it then meets each of
several brokers in turn. Record:
  got ID TIME N        received, N is 1 if the broker marked it as redelivered
  lost - TIME WHY      a connection broke
"""
import threading
import time

from common import BROKEN, STOP, Record, arguments, close, connect, stop_on_signals


def consume(options, record):
    """Consumes over one connection until it breaks, is idle, or is told to stop."""
    connection = None
    try:
        connection = connect(options.url)
        channel = connection.channel()
        channel.queue_declare(options.queue, durable=True)
        channel.basic_qos(prefetch_count=50)
        last = time.monotonic()
        for method, _, body in channel.consume(options.queue, inactivity_timeout=0.2):
            if STOP.is_set():
                break
            if method is not None:
                last = time.monotonic()
                record.note("got", body.decode("ascii", "replace"), int(method.redelivered))
                channel.basic_ack(method.delivery_tag)
            elif time.monotonic() - last > options.idle:
                break
    except BROKEN as error:
        record.note("lost", more=repr(error))
        time.sleep(0.05)
    finally:
        close(connection)


def work(options, record):
    while not STOP.is_set():
        consume(options, record)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--idle", type=float, default=1.0, help="seconds")
    options = parser.parse_args()
    stop_on_signals()
    record = Record(options.out)
    threads = [threading.Thread(target=work, args=(options, record)) for _ in range(options.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
