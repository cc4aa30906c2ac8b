"""What a client sees of a cluster: the same things on every node.

  shared URL…        declares on one node and uses at once what was declared on another
  remote URL…        a queue of the first node, used through the others: order, confirms, redelivery, get, purge, delete
  fill URL QUEUE N   publishes N persistent messages with confirms to a durable queue
  quorum URL QUEUE N the same to a quorum queue
  count URL QUEUE    how many messages are ready there
  down URL QUEUE     what is answered about a queue whose node is down
  closed URL         stays connected until the broker ends it, and says with which words
"""
import sys
import time

import pika



def connect(url):
    """Most connections here are idle for long, and nobody reads their heartbeats then."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 120
    return pika.BlockingConnection(parameters)


PERSISTENT = pika.BasicProperties(delivery_mode=2)


def confirming(url):
    channel = connect(url).channel()
    channel.confirm_delivery()
    return channel


def wait_for(channel, queue, ready):
    """What a connection gives back when it ends is there a moment later."""
    deadline = time.monotonic() + 10
    while channel.queue_declare(queue, passive=True).method.message_count != ready:
        assert time.monotonic() < deadline, f"there are never {ready} messages in {queue}"
        time.sleep(0.01)


def shared(urls):
    """Whoever saw declare-ok may use it anywhere."""
    channels = [confirming(url) for url in urls]
    turns = 100
    for turn in range(turns):
        here, there = channels[turn % len(channels)], channels[(turn + 1) % len(channels)]
        queue, exchange = f"shared-{turn}", f"shared-x-{turn}"
        here.queue_declare(queue, durable=turn % 2 == 0)
        there.queue_declare(queue, passive=True)
        there.exchange_declare(exchange, "topic")
        here.exchange_declare(exchange, passive=True)
        here.queue_bind(queue, exchange, "a.#")
        there.basic_publish(exchange, "a.b", b"x", PERSISTENT, mandatory=True)
        method, _, _ = here.basic_get(queue, auto_ack=True)
        assert method is not None, f"turn {turn}: a confirmed message is not there"
        there.queue_unbind(queue, exchange, "a.#")
        here.exchange_delete(exchange)
        there.queue_delete(queue)
    print("shared", turns)


def remote(urls):
    """All of a queue's life through nodes that it does not live on."""
    home, through, other = (confirming(url) for url in urls)
    queue = "remote"
    home.queue_declare(queue, durable=True)
    total = 1000
    for number in range(total):
        through.basic_publish("", queue, str(number).encode(), PERSISTENT, mandatory=True)
    depth = other.queue_declare(queue, passive=True).method.message_count
    assert depth == total, f"{depth} of {total} confirmed messages are there"
    # In order, through a third node, with a prefetch.
    other.basic_qos(prefetch_count=20)
    seen = []
    for method, _, body in other.consume(queue, inactivity_timeout=10):
        assert method is not None, f"nothing came after {len(seen)} messages"
        assert not method.redelivered
        seen.append(int(body))
        if len(seen) == 500:
            break
        other.basic_ack(method.delivery_tag)
    assert seen == list(range(500)), "out of order"
    # What was not acknowledged comes again, marked, and before what follows.
    other.connection.close()
    wait_for(through, queue, 501)
    method, _, body = through.basic_get(queue)
    assert method.redelivered and int(body) == 499, (method, body)
    through.basic_nack(method.delivery_tag, requeue=True)
    # Nobody answers to that: another node may be asked first.
    wait_for(through, queue, 501)
    method, _, body = home.basic_get(queue, auto_ack=True)
    assert method.redelivered and int(body) == 499, (method, body)
    left = through.queue_declare(queue, passive=True).method.message_count
    assert left == 500, left
    assert through.queue_purge(queue).method.message_count == 500
    transaction = connect(urls[2]).channel()
    transaction.tx_select()
    transaction.basic_publish("", queue, b"rolled back", PERSISTENT)
    transaction.tx_rollback()
    transaction.basic_publish("", queue, b"committed", PERSISTENT)
    transaction.tx_commit()
    method, _, body = through.basic_get(queue, auto_ack=True)
    assert body == b"committed", body
    through.queue_delete(queue)
    try:
        home.queue_declare(queue, passive=True)
        raise AssertionError("a deleted queue is still there")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404, closed
    print("remote", total)


def quorum(url, queue, number):
    fill(url, queue, number, {"x-queue-type": "quorum"})


def fill(url, queue, number, options=None):
    channel = confirming(url)
    channel.queue_declare(queue, durable=True, arguments=options)
    for index in range(int(number)):
        channel.basic_publish("", queue, str(index).encode(), PERSISTENT, mandatory=True)
    print("confirmed", number)


def count(url, queue):
    print("ready", connect(url).channel().queue_declare(queue, passive=True).method.message_count)


def down(url, queue):
    """Each question on a channel of its own, because a refusal closes it."""
    connection = connect(url)
    for name, ask in [
        ("passive", lambda channel: channel.queue_declare(queue, passive=True)),
        ("declare", lambda channel: channel.queue_declare(queue, durable=True)),
        ("get", lambda channel: channel.basic_get(queue)),
        ("consume", lambda channel: channel.basic_consume(queue, lambda *_: None)),
        ("purge", lambda channel: channel.queue_purge(queue)),
    ]:
        try:
            ask(connection.channel())
            print(name, "accepted")
        except pika.exceptions.ChannelClosedByBroker as closed:
            print(name, closed.reply_code, closed.reply_text)
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", queue, b"x", PERSISTENT, mandatory=True)
        print("publish accepted")
    except pika.exceptions.UnroutableError:
        print("publish returned")
    except pika.exceptions.NackError:
        print("publish refused")


def closed(url):
    """Waits for the broker to end the connection."""
    connection = connect(url)
    connection.channel()
    try:
        while True:
            connection.process_data_events(time_limit=1)
    except pika.exceptions.ConnectionClosedByBroker as end:
        print(end.reply_code, end.reply_text)


def main():
    act, *words = sys.argv[1:]
    if act in ("shared", "remote"):
        globals()[act](words)
    elif act in ("fill", "quorum", "count", "down", "closed"):
        globals()[act](*words)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
