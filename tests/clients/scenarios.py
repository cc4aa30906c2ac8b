"""The scenarios of `scenarios.txt` with pika, the official Python client.

usage: scenarios.py scenarios URL | recover URL
Prints `ok NAME` after each scenario and fails with a traceback at the first wrong observation. The expectations
are RabbitMQ's.
"""
import datetime
import decimal
import sys
import threading
import time
import uuid

import pika
from pika.exceptions import (
    AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker, ConnectionWrongStateError, NackError,
    StreamLostError, UnroutableError,
)

URL = ""
RUN = uuid.uuid4().hex[:8]
LIMIT = 15


def connect(**more):
    parameters = pika.URLParameters(URL)
    # A broker that just starts may take its time.
    parameters.socket_timeout = parameters.stack_timeout = 30
    parameters.client_properties = {"connection_name": f"pika-{RUN}", "product": "scenarios"}
    for name, value in more.items():
        setattr(parameters, name, value)
    connection = pika.BlockingConnection(parameters)
    connection.add_on_connection_blocked_callback(lambda _, method: fail(f"blocked: {method}"))
    return connection


def fail(text):
    raise AssertionError(text)


def expect(found, wanted):
    if found != wanted:
        fail(f"expected {wanted!r}, found {found!r}")


def name(what):
    return f"pika-{what}-{RUN}"


def until(connection, what, probe):
    """Serves the connection until the probe gives something."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        connection.process_data_events(0.02)
        found = probe()
        if found:
            return found
    fail(f"waited {LIMIT} s for {what}")


def queue(channel, what, **more):
    more.setdefault("exclusive", True)
    return channel.queue_declare(name(what), **more).method.queue


def fetch(channel, queue_name, **more):
    """basic.get until there is a message: dead lettering is asynchronous."""
    def once():
        method, properties, body = channel.basic_get(queue_name, **more)
        return (method, properties, body) if method else None
    return until(channel.connection, f"a message in {queue_name}", once)


def empty(channel, queue_name):
    expect(channel.basic_get(queue_name)[0], None)


def collect(channel, queue_name, **more):
    got = []
    tag = channel.basic_consume(queue_name, lambda _, method, properties, body: got.append((method, properties, body)), **more)
    return tag, got


def bodies(got):
    return [body for _, _, body in got]


def connect_scenario(connection, channel):
    able = connection._impl.server_capabilities
    for capability in ("publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked"):
        expect(able[capability], True)
    server = connection._impl.server_properties
    expect(server["product"], "RabbitMQ")
    expect(connection._impl.params.frame_max, 131072)
    # Options that are negotiated come back as asked.
    other = connect(heartbeat=17, channel_max=9, frame_max=8192)
    tuned = other._impl.params
    expect((tuned.heartbeat, tuned.channel_max, tuned.frame_max), (17, 9, 8192))
    other.close()
    try:
        connect(credentials=pika.PlainCredentials("guest", "wrong"))
    except pika.exceptions.ProbableAuthenticationError as error:
        assert "403" in str(error) and "ACCESS_REFUSED" in str(error), error
    else:
        fail("a wrong password was accepted")


def exchanges(_, channel):
    queues = {}

    def bound(exchange, what, key, arguments=None):
        queues[what] = queues.get(what) or queue(channel, what)
        channel.queue_bind(queues[what], exchange, key, arguments)

    def routed(exchange, key, wanted, properties=None):
        channel.basic_publish(exchange, key, key.encode(), properties, mandatory=False)
        for what, queue_name in queues.items():
            method, _, body = channel.basic_get(queue_name, auto_ack=True)
            expect((what, key, body if method else None), (what, key, key.encode() if what in wanted else None))

    channel.confirm_delivery()
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_declare(name(kind), kind, auto_delete=True)
    bound(name("direct"), "error", "error")
    bound(name("direct"), "all", "error")
    bound(name("direct"), "all", "info")
    routed(name("direct"), "error", {"error", "all"})
    routed(name("direct"), "info", {"all"})
    routed(name("direct"), "debug", set())
    bound(name("fanout"), "error", "")
    bound(name("fanout"), "other", "ignored")
    routed(name("fanout"), "anything", {"error", "other"})
    queues.clear()
    bound(name("topic"), "q1", "*.orange.*")
    bound(name("topic"), "q2", "*.*.rabbit")
    bound(name("topic"), "q2", "lazy.#")
    for key, wanted in (
        ("quick.orange.rabbit", {"q1", "q2"}), ("lazy.orange.elephant", {"q1", "q2"}), ("quick.orange.fox", {"q1"}),
        ("lazy.brown.fox", {"q2"}), ("lazy.pink.rabbit", {"q2"}), ("quick.brown.fox", set()),
        ("quick.orange.male.rabbit", set()), ("lazy.orange.male.rabbit", {"q2"}),
    ):
        routed(name("topic"), key, wanted)
    queues.clear()
    bound(name("headers"), "both", "", {"x-match": "all", "kind": "report", "size": 3})
    bound(name("headers"), "either", "", {"x-match": "any", "kind": "report", "size": 3})
    for headers, wanted in (
        ({"kind": "report", "size": 3}, {"both", "either"}), ({"kind": "report"}, {"either"}),
        ({"kind": "report", "size": 4}, {"either"}), ({"kind": "other"}, set()), (None, set()),
    ):
        routed(name("headers"), "key", wanted, pika.BasicProperties(headers=headers))


def properties(_, channel):
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="gzip", delivery_mode=2, priority=7, correlation_id="correlation",
        reply_to="reply", expiration="60000", message_id="message", timestamp=1700000000, type="type",
        user_id="guest", app_id="app", cluster_id="cluster",
        headers={
            "text": "wörter", "number": 42, "large": 2**40, "negative": -1, "true": True, "nothing": None,
            "decimal": decimal.Decimal("12.34"), "time": datetime.datetime.fromtimestamp(1700000000, datetime.timezone.utc),
            "table": {"inner": {"deep": 1}}, "array": [1, "two", {"three": 3}], "binary": b"\x00\xff",
        },
    )
    queue_name = queue(channel, "properties")
    for body in (b"", b"small", bytes(range(256)) * 2048):
        channel.basic_publish("", queue_name, body, sent)
        method, got, found = fetch(channel, queue_name, auto_ack=True)
        expect((method.exchange, method.routing_key, method.redelivered), ("", queue_name, False))
        expect(found, body)
        for key, value in vars(sent).items():
            if key != "headers":
                expect((key, getattr(got, key)), (key, value))
        for key, value in sent.headers.items():
            found = got.headers[key]
            if key == "time":
                found = found.replace(tzinfo=datetime.timezone.utc)
            expect((key, found), (key, value))
        expect(len(got.headers), len(sent.headers))
    channel.basic_publish("", queue_name, b"none")
    expect(fetch(channel, queue_name, auto_ack=True)[1], pika.BasicProperties())


def confirms(_, channel):
    queue_name = queue(channel, "confirms", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    channel.basic_publish("", queue_name, b"1")
    channel.basic_publish("", queue_name, b"2")
    try:
        channel.basic_publish("", queue_name, b"3")
    except NackError:
        pass
    else:
        fail("a message over the limit was confirmed")
    expect([fetch(channel, queue_name, auto_ack=True)[2] for _ in range(2)], [b"1", b"2"])
    empty(channel, queue_name)
    channel.basic_publish("", queue_name, b"4", pika.BasicProperties(delivery_mode=2))


def returns(_, channel):
    returned = []
    channel.add_on_return_callback(lambda _, method, properties, body: returned.append((method, properties, body)))
    channel.basic_publish("", name("nowhere"), b"back", pika.BasicProperties(message_id="one"), mandatory=True)
    until(channel.connection, "basic.return", lambda: returned)
    method, got, body = returned[0]
    expect((method.reply_code, method.reply_text, method.exchange, method.routing_key), (312, "NO_ROUTE", "", name("nowhere")))
    expect((got.message_id, body), ("one", b"back"))
    # With confirms the message comes back and is confirmed after it: pika makes one error of both.
    channel.confirm_delivery()
    try:
        channel.basic_publish("", name("nowhere"), b"again", mandatory=True)
    except UnroutableError as error:
        expect([message.body for message in error.messages], [b"again"])
    else:
        fail("an unroutable message was not returned")


def transactions(connection, channel):
    queue_name = queue(channel, "transactions")
    channel.tx_select()
    channel.basic_publish("", queue_name, b"dropped")
    channel.tx_rollback()
    channel.basic_publish("", queue_name, b"kept")
    other = connection.channel()
    empty(other, queue_name)
    channel.tx_commit()
    method, _, body = fetch(channel, queue_name)
    expect(body, b"kept")
    # A rolled back acknowledgement leaves the message unacknowledged.
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    channel.close()
    empty(other, queue_name)


def prefetch(connection, channel):
    queue_name = queue(channel, "prefetch")
    for number in range(5):
        channel.basic_publish("", queue_name, b"%d" % number)
    channel.basic_qos(prefetch_count=2)
    _, got = collect(channel, queue_name)
    until(connection, "two messages", lambda: len(got) == 2)
    # Whatever came until a later answer on this channel came is all there is.
    channel.queue_declare(queue_name, passive=True)
    connection.process_data_events(0)
    expect(bodies(got), [b"0", b"1"])
    channel.basic_ack(got[0][0].delivery_tag)
    until(connection, "a third", lambda: len(got) == 3)
    channel.basic_ack(got[2][0].delivery_tag, multiple=True)
    until(connection, "the rest", lambda: len(got) == 5)
    expect(bodies(got), [b"0", b"1", b"2", b"3", b"4"])


def acknowledgements(connection, channel):
    queue_name = queue(channel, "acknowledgements")
    _, got = collect(channel, queue_name)
    for body in (b"ack", b"nack", b"reject", b"requeue"):
        channel.basic_publish("", queue_name, body)
    until(connection, "four messages", lambda: len(got) == 4)
    expect([method.redelivered for method, _, _ in got], [False] * 4)
    tags = [method.delivery_tag for method, _, _ in got]
    channel.basic_ack(tags[0])
    channel.basic_nack(tags[1], requeue=False)
    channel.basic_reject(tags[2], requeue=False)
    channel.basic_nack(tags[3], requeue=True)
    until(connection, "the message again", lambda: len(got) == 5)
    expect((got[4][2], got[4][0].redelivered), (b"requeue", True))
    # What a closed channel did not acknowledge comes back, marked.
    channel.close()
    other = connection.channel()
    method, _, body = fetch(other, queue_name)
    expect((body, method.redelivered), (b"requeue", True))
    other.basic_ack(method.delivery_tag)
    empty(other, queue_name)
    _, automatic = collect(other, queue_name, auto_ack=True)
    other.basic_publish("", queue_name, b"automatic")
    until(connection, "a message", lambda: automatic)
    other.close()
    empty(connection.channel(), queue_name)


def get(_, channel):
    queue_name = queue(channel, "get")
    empty(channel, queue_name)
    channel.basic_publish("", queue_name, b"1")
    channel.basic_publish("", queue_name, b"2")
    method, _, body = fetch(channel, queue_name)
    expect((body, method.message_count, method.redelivered), (b"1", 1, False))
    channel.basic_reject(method.delivery_tag, requeue=True)
    method, _, body = fetch(channel, queue_name, auto_ack=True)
    expect((body, method.message_count, method.redelivered), (b"1", 1, True))
    expect(channel.queue_purge(queue_name).method.message_count, 1)


def cancel(connection, channel):
    queue_name = queue(channel, "cancel")
    tag, got = collect(channel, queue_name)
    expect(channel.queue_declare(queue_name, passive=True).method.consumer_count, 1)
    channel.basic_cancel(tag)
    expect(channel.queue_declare(queue_name, passive=True).method.consumer_count, 0)
    channel.basic_publish("", queue_name, b"stays")
    expect(fetch(channel, queue_name, auto_ack=True)[2], b"stays")
    expect(got, [])
    told = []
    channel.add_on_cancel_callback(lambda frame: told.append(frame.method.consumer_tag))
    tag, _ = collect(channel, queue_name, consumer_tag="a-tag-of-mine")
    expect(tag, "a-tag-of-mine")
    connection.channel().queue_delete(queue_name)
    until(connection, "the notice of cancellation", lambda: told)
    expect(told, ["a-tag-of-mine"])


def refused(connection, code, text, action):
    channel = connection.channel()
    try:
        action(channel)
    except ChannelClosedByBroker as error:
        expect((error.reply_code, error.reply_text), (code, text))
    else:
        fail(f"no {code}")
    expect(channel.is_open, False)


def exceptions(connection, channel):
    refused(connection, 404, f"NOT_FOUND - no queue '{name('missing')}' in vhost '/'",
            lambda it: it.queue_declare(name("missing"), passive=True))
    refused(connection, 404, f"NOT_FOUND - no exchange '{name('missing')}' in vhost '/'",
            lambda it: it.exchange_declare(name("missing"), "direct", passive=True))
    shared = queue(channel, "shared", exclusive=False)
    refused(connection, 406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{shared}' in vhost '/': "
            "received 'true' but current is 'false'",
            lambda it: it.queue_declare(shared, durable=True))
    channel.queue_delete(shared)
    queue_name = queue(channel, "mine")
    other = connect()
    refused(other, 405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue_name}' in vhost '/'. It "
            "could be originally declared on another connection or the exclusive property value does not match that of the "
            "original declaration.",
            lambda it: it.queue_declare(queue_name, passive=True))
    # Both connections go on with new channels.
    expect(other.channel().queue_declare("", exclusive=True).method.queue.startswith("amq.gen-"), True)
    other.close()
    expect(connection.channel().queue_declare(queue_name, passive=True).method.message_count, 0)


def dead_letters(connection, channel):
    dead = queue(channel, "dead")
    channel.exchange_declare(name("dlx"), "fanout", auto_delete=True)
    channel.queue_bind(dead, name("dlx"))
    full = queue(channel, "full", arguments={"x-dead-letter-exchange": name("dlx"), "x-max-length": 1})
    aging = queue(channel, "aging", arguments={"x-dead-letter-exchange": name("dlx"), "x-message-ttl": 30})
    for queue_name, body, reason in ((full, b"old", "maxlen"), (aging, b"young", "expired")):
        channel.basic_publish("", queue_name, body)
        if queue_name == full:
            channel.basic_publish("", queue_name, b"new")
        method, got, found = fetch(channel, dead, auto_ack=True)
        expect((found, method.exchange, method.routing_key), (body, name("dlx"), queue_name))
        death, = got.headers["x-death"]
        assert isinstance(death.pop("time"), datetime.datetime)
        expect(death, {"count": 1, "reason": reason, "queue": queue_name, "exchange": "", "routing-keys": [queue_name]})
        for key, value in (("queue", queue_name), ("reason", reason), ("exchange", "")):
            expect(got.headers[f"x-first-death-{key}"], value)
    source = queue(channel, "rejecting", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    channel.basic_publish("", source, b"no", pika.BasicProperties(expiration="60000"))
    channel.basic_reject(fetch(channel, source)[0].delivery_tag, requeue=False)
    method, got, _ = fetch(channel, dead, auto_ack=True)
    death, = got.headers["x-death"]
    expect((death["reason"], death["original-expiration"], got.expiration), ("rejected", "60000", None))
    channel.basic_publish("", source, b"brief", pika.BasicProperties(expiration="20"))
    expect(fetch(channel, dead, auto_ack=True)[1].headers["x-death"][0]["reason"], "expired")


def priorities(_, channel):
    queue_name = queue(channel, "priorities", arguments={"x-max-priority": 5})
    for priority in (0, 3, 1, 9, 3, None):
        channel.basic_publish("", queue_name, str(priority).encode(), pika.BasicProperties(priority=priority))
    found = [fetch(channel, queue_name, auto_ack=True)[2] for _ in range(6)]
    expect(found, [b"9", b"3", b"3", b"1", b"0", b"None"])


def rpc(connection, channel):
    requests = queue(channel, "requests")
    server = connection.channel()

    def answer(_, method, properties, body):
        assert properties.reply_to.startswith("amq.rabbitmq.reply-to."), properties
        server.basic_publish("", properties.reply_to, body.upper(), pika.BasicProperties(correlation_id=properties.correlation_id))
        server.basic_ack(method.delivery_tag)

    server.basic_consume(requests, answer)
    _, replies = collect(channel, "amq.rabbitmq.reply-to", auto_ack=True)
    for number in range(3):
        properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(number))
        channel.basic_publish("", requests, b"call %d" % number, properties)
    until(connection, "three answers", lambda: len(replies) == 3)
    expect([(it.correlation_id, body) for _, it, body in replies], [(str(n), b"CALL %d" % n) for n in range(3)])
    refused(connection, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge",
            lambda it: it.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=False))


def heartbeats(connection, channel):
    """A connection that only sends heartbeats stays; one that is silent is dropped, and its queue with it."""
    silent = connect(heartbeat=1)
    locked = queue(silent.channel(), "silent")
    quiet = connect(heartbeat=1)
    kept = queue(quiet.channel(), "quiet")
    end = time.monotonic() + LIMIT
    while True:
        assert time.monotonic() < end, "a silent client is not dropped"
        quiet.process_data_events(0.05)
        code = []
        try:
            it = connection.channel()
            it.queue_declare(locked, passive=True)
        except ChannelClosedByBroker as error:
            code.append(error.reply_code)
        if code == [404]:
            break
        expect(code, [405])
    expect(quiet.channel().queue_declare(kept, passive=True, exclusive=True).method.queue, kept)
    quiet.close()
    try:
        silent.process_data_events(1)
        silent.channel()
    except (AMQPConnectionError, ConnectionWrongStateError):
        pass
    else:
        fail("the dropped client did not notice")


def scenarios():
    for scenario in (
        connect_scenario, exchanges, properties, confirms, returns, transactions, prefetch, acknowledgements, get, cancel,
        exceptions, dead_letters, priorities, rpc, heartbeats,
    ):
        connection = connect()
        scenario(connection, connection.channel())
        connection.close()
        print("ok", scenario.__name__.replace("_scenario", ""), flush=True)


def recover():
    """Publishes a message, says `ready`, loses its broker, and finds the message in the next one."""
    queue_name = name("recover")
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue_name, durable=True)
    channel.basic_publish("", queue_name, b"before", pika.BasicProperties(delivery_mode=2))
    print("ready", flush=True)
    try:
        while True:
            connection.process_data_events(1)
    except (ConnectionClosedByBroker, StreamLostError):
        pass
    end = time.monotonic() + 60
    while True:
        try:
            connection = connect()
            break
        except (AMQPConnectionError, OSError):
            assert time.monotonic() < end, "the broker does not come back"
            threading.Event().wait(0.05)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("", queue_name, b"after", pika.BasicProperties(delivery_mode=2))
    expect([fetch(channel, queue_name, auto_ack=True)[2] for _ in range(2)], [b"before", b"after"])
    channel.queue_delete(queue_name)
    connection.close()
    print("ok recover")


if __name__ == "__main__":
    program, what, URL = sys.argv
    {"scenarios": scenarios, "recover": recover}[what]()
