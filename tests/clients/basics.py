"""What the official client may rely on, one function for each behaviour.

usage: basics.py CASE PORT [PID]
A case fails with a traceback. The expectations are RabbitMQ's.
"""
import os
import signal
import socket
import struct
import sys
import time

import pika
from pika import spec
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    UnroutableError,
)

HOST = "127.0.0.1"
PORT = 0
PID = 0


def parameters(**more):
    settings = dict(
        host=HOST, port=PORT, socket_timeout=5, stack_timeout=10, blocked_connection_timeout=10, heartbeat=30
    )
    settings.update(more)
    return pika.ConnectionParameters(**settings)


def connect(**more):
    return pika.BlockingConnection(parameters(**more))


def eventually(what, probe, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s for {what}")


def get(channel, queue, seconds=5, **more):
    """basic.get until there is a message: publishing is asynchronous."""
    return eventually(f"a message in {queue}", lambda: (lambda got: got if got[0] else None)(channel.basic_get(queue, **more)), seconds)


def closed_channel(code, action):
    """The action closes its channel with this code, and the connection stays usable."""
    connection = connect()
    channel = connection.channel()
    reasons = []
    channel._impl.add_on_close_callback(lambda _, reason: reasons.append(reason))
    try:
        action(channel)
    except ChannelClosedByBroker:
        pass
    eventually(f"a channel.close with {code}", lambda: connection.process_data_events(0.05) or reasons)
    assert isinstance(reasons[0], ChannelClosedByBroker) and reasons[0].reply_code == code, reasons
    assert connection.channel().queue_declare("", exclusive=True).method.queue.startswith("amq.gen-")
    connection.close()
    return reasons[0].reply_text


# --- handshake -----------------------------------------------------------------------------------


def server_tells_its_capabilities():
    connection = connect()
    able = connection._impl.server_capabilities
    for name in (
        "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
        "connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
    ):
        assert able.get(name) is True, (name, able)
    connection.close()


def wrong_password_is_refused_with_403():
    try:
        connect(credentials=pika.PlainCredentials("guest", "wrong"))
    except AMQPConnectionError as error:
        text = f"{error!r} {error}"
        assert "403" in text and "ACCESS_REFUSED" in text, text
        return
    raise AssertionError("a wrong password was accepted")


def unknown_vhost_is_refused_with_530():
    try:
        connect(virtual_host="no-such-vhost")
    except AMQPConnectionError as error:
        text = f"{error!r} {error}"
        assert "530" in text and "NOT_ALLOWED" in text and "no-such-vhost" in text, text
        return
    raise AssertionError("an unknown vhost was accepted")


class Raw:
    """A connection of bare frames, after a good handshake."""

    def __init__(self, heartbeat=0):
        self.socket = socket.create_connection((HOST, PORT), 10)
        self.buffer = b""
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self.expect(spec.Connection.Start)
        self.send(spec.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"))
        self.expect(spec.Connection.Tune)
        self.send(spec.Connection.TuneOk(2047, 131072, heartbeat))
        self.send(spec.Connection.Open("/"))
        self.expect(spec.Connection.OpenOk)

    def send(self, method, channel=0):
        self.socket.sendall(pika.frame.Method(channel, method).marshal())

    def frame(self):
        while True:
            used, frame = pika.frame.decode_frame(self.buffer)
            if frame is not None:
                self.buffer = self.buffer[used:]
                return frame
            more = self.socket.recv(65536)
            if not more:
                raise EOFError
            self.buffer += more

    def expect(self, kind):
        frame = self.frame()
        assert isinstance(frame, pika.frame.Method) and isinstance(frame.method, kind), frame
        return frame.method


def malformed_frame_end_closes_with_501():
    raw = Raw()
    raw.socket.sendall(struct.pack(">BHL", 1, 0, 4) + b"\0\x14\0\x0a" + b"\x00")
    close = raw.expect(spec.Connection.Close)
    assert close.reply_code == 501, close
    assert connect().is_open


def frame_longer_than_negotiated_closes_with_501():
    raw = Raw()
    raw.socket.sendall(struct.pack(">BHL", 3, 1, 1 << 30) + b"x" * 1000)
    close = raw.expect(spec.Connection.Close)
    assert close.reply_code == 501, close
    assert connect().is_open


def method_on_a_closed_channel_is_504():
    raw = Raw()
    raw.send(spec.Queue.Declare(queue="q"), channel=7)
    close = raw.expect(spec.Connection.Close)
    assert close.reply_code == 504, close


def unknown_method_does_not_hurt_others():
    """RabbitMQ's reader dies and resets the connection; a connection.close is as good."""
    other = connect()
    raw = Raw()
    raw.socket.sendall(struct.pack(">BHL", 1, 0, 4) + struct.pack(">HH", 10, 999) + b"\xce")
    try:
        close = raw.expect(spec.Connection.Close)
        assert close.reply_code in (501, 502, 503, 540), close
    except (ConnectionResetError, EOFError):
        pass
    assert other.channel().is_open


def silent_client_is_dropped_after_two_heartbeats():
    raw = Raw(heartbeat=1)
    start = time.monotonic()
    try:
        while True:
            frame = raw.frame()
            assert isinstance(frame, pika.frame.Heartbeat), frame
            assert time.monotonic() - start < 10, "never dropped"
    except (EOFError, ConnectionResetError):
        pass
    assert time.monotonic() - start > 1, "dropped too early"


def idle_client_with_heartbeats_stays():
    connection = connect(heartbeat=1)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        connection.process_data_events(0.2)
    assert connection.channel().is_open
    connection.close()


def sigterm_closes_clients_with_320():
    connection = connect()
    connection.channel()
    os.kill(PID, signal.SIGTERM)
    try:
        connection.process_data_events(30)
    except ConnectionClosedByBroker as error:
        assert error.reply_code == 320, error
        assert "CONNECTION_FORCED" in error.reply_text, error
        return
    raise AssertionError("the connection was not closed")


# --- declaring -------------------------------------------------------------------------------------


def every_exchange_type_routes():
    channel = connect().channel()

    def routed(exchange, binds, publishes):
        """Queue by queue, the bodies that came."""
        queues = {}
        for name, key, arguments in binds:
            if name not in queues:
                queues[name] = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queues[name], exchange, key, arguments)
        for body, key, headers in publishes:
            channel.basic_publish(exchange, key, body.encode(), pika.BasicProperties(headers=headers))
        end = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", end, b"end")
        get(channel, end)
        found = {}
        for name, queue in queues.items():
            bodies = []
            while (got := channel.basic_get(queue, auto_ack=True))[0]:
                bodies.append(got[2].decode())
            found[name] = bodies
        return found

    channel.exchange_declare("d", "direct", auto_delete=True)
    found = routed("d", [("red", "red", None), ("both", "red", None), ("both", "blue", None)],
                   [("1", "red", None), ("2", "blue", None), ("3", "green", None)])
    assert found == {"red": ["1"], "both": ["1", "2"]}, found
    channel.exchange_declare("f", "fanout", auto_delete=True)
    found = routed("f", [("a", "", None), ("b", "ignored", None)], [("1", "x", None), ("2", "", None)])
    assert found == {"a": ["1", "2"], "b": ["1", "2"]}, found
    channel.exchange_declare("t", "topic", auto_delete=True)
    found = routed(
        "t",
        [("one", "*.orange.*", None), ("rest", "lazy.#", None), ("all", "#", None), ("deep", "a.#.z", None)],
        [("1", "quick.orange.rabbit", None), ("2", "lazy.orange.elephant", None), ("3", "lazy", None),
         ("4", "a.z", None), ("5", "a.b.c.z", None), ("6", "", None), ("7", "orange", None)],
    )
    assert found == {"one": ["1", "2"], "rest": ["2", "3"], "all": ["1", "2", "3", "4", "5", "6", "7"],
                     "deep": ["4", "5"]}, found
    channel.exchange_declare("h", "headers", auto_delete=True)
    found = routed(
        "h",
        [("all", "", {"x-match": "all", "a": 1, "b": "x"}), ("any", "", {"x-match": "any", "a": 1, "b": "x"})],
        [("1", "", {"a": 1}), ("2", "", {"a": 1, "b": "x"}), ("3", "", {"a": 2})],
    )
    assert found == {"all": ["2"], "any": ["1", "2"]}, found


def exchanges_bind_to_exchanges():
    channel = connect().channel()
    channel.exchange_declare("source", "topic", auto_delete=True)
    channel.exchange_declare("target", "fanout", auto_delete=True)
    channel.exchange_bind("target", "source", "a.*")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "target")
    channel.basic_publish("source", "b.1", b"no")
    channel.basic_publish("source", "a.1", b"yes")
    assert get(channel, queue, auto_ack=True)[2] == b"yes"


def missing_queue_is_404():
    text = closed_channel(404, lambda channel: channel.queue_declare("no-such-queue", passive=True))
    assert text == "NOT_FOUND - no queue 'no-such-queue' in vhost '/'", text


def publish_to_a_missing_exchange_is_404():
    text = closed_channel(404, lambda channel: channel.basic_publish("no-such-exchange", "k", b"x"))
    assert text == "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'", text


def declaring_a_queue_otherwise_is_406():
    connect().channel().queue_declare("once", durable=True)
    text = closed_channel(406, lambda channel: channel.queue_declare("once", durable=False))
    assert text.startswith("PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'once' in vhost '/'"), text


def exclusive_queue_of_another_connection_is_405():
    owner = connect()
    owner.channel().queue_declare("mine", exclusive=True)
    text = closed_channel(405, lambda channel: channel.queue_declare("mine", passive=True))
    assert text.startswith("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine'"), text
    owner.close()
    connection = connect()
    eventually("the exclusive queue to go", lambda: _absent(connection, "mine"))


def _absent(connection, queue):
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except ChannelClosedByBroker as error:
        return error.reply_code == 404
    channel.close()
    return False


def auto_delete_queue_goes_with_its_last_consumer():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare("fleeting", auto_delete=True)
    tag = channel.basic_consume("fleeting", lambda *_: None)
    channel.basic_cancel(tag)
    eventually("the queue to go", lambda: _absent(connection, "fleeting"))


def purge_and_delete_count_messages():
    channel = connect().channel()
    channel.confirm_delivery()
    channel.queue_declare("counted")
    for _ in range(5):
        channel.basic_publish("", "counted", b"x")
    assert channel.queue_declare("counted", passive=True).method.message_count == 5
    assert channel.queue_purge("counted").method.message_count == 5
    channel.basic_publish("", "counted", b"x")
    connection = connect()
    other = connection.channel()
    try:
        other.queue_delete("counted", if_empty=True)
        raise AssertionError("a queue with a message was deleted")
    except ChannelClosedByBroker as error:
        assert error.reply_code == 406, error
    assert channel.queue_delete("counted").method.message_count == 1


def consumers_learn_that_their_queue_is_gone():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare("doomed")
    cancelled = []
    channel.add_on_cancel_callback(cancelled.append)
    channel.basic_consume("doomed", lambda *_: None)
    connect().channel().queue_delete("doomed")
    eventually("basic.cancel", lambda: connection.process_data_events(0.05) or cancelled)


# --- messages ----------------------------------------------------------------------------------------


def properties_and_body_come_back_unchanged():
    channel = connect().channel()
    channel.queue_declare("props", exclusive=True)
    headers = {"text": "ü", "whole": 1 << 40, "small": -5, "yes": True, "no": None, "list": [1, "two"],
               "table": {"deep": {"deeper": 1}}, "bytes": b"\x00\xff"}
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", headers=headers, delivery_mode=2, priority=3,
        correlation_id="c", reply_to="r", expiration="60000", message_id="m", timestamp=1700000000, type="t",
        user_id="guest", app_id="a",
    )
    body = bytes(range(256)) * 17
    channel.basic_publish("", "props", body, sent)
    method, got, received = get(channel, "props", auto_ack=True)
    assert received == body and not method.redelivered and method.exchange == "" and method.routing_key == "props"
    for name in ("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to",
                 "expiration", "message_id", "timestamp", "type", "user_id", "app_id"):
        assert getattr(got, name) == getattr(sent, name), (name, got)
    assert got.headers.keys() == headers.keys(), got.headers
    for name in ("whole", "small", "yes", "no", "list", "table"):
        assert got.headers[name] == headers[name], (name, got.headers)


def large_and_empty_bodies_pass():
    channel = connect(frame_max=8192).channel()
    channel.queue_declare("sizes", exclusive=True)
    for size in (0, 1, 8184, 8185, 3 << 20):
        body = os.urandom(size)
        channel.basic_publish("", "sizes", body)
        assert get(channel, "sizes", auto_ack=True)[2] == body, size


def get_of_an_empty_queue_is_empty():
    channel = connect().channel()
    channel.queue_declare("empty", exclusive=True)
    assert channel.basic_get("empty") == (None, None, None)


def unroutable_mandatory_message_is_returned():
    channel = connect().channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", "no-such-queue", b"back", mandatory=True)
    except UnroutableError as error:
        returned = error.messages[0]
        assert returned.method.reply_code == 312 and returned.method.reply_text == "NO_ROUTE", returned.method
        assert returned.body == b"back"
        channel.basic_publish("", "no-such-queue", b"dropped and confirmed")
        return
    raise AssertionError("the message was not returned")


def unacked_messages_return_marked_in_their_order():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare("again")
    channel.confirm_delivery()
    for number in range(3):
        channel.basic_publish("", "again", str(number).encode())
    for number in range(3):
        assert get(channel, "again")[2] == str(number).encode()
    connection.close()
    channel = connect().channel()
    found = [get(channel, "again", auto_ack=True) for _ in range(3)]
    assert [(m.redelivered, b) for m, _, b in found] == [(True, b"0"), (True, b"1"), (True, b"2")], found
    channel.queue_delete("again")


def nack_and_reject_requeue_or_drop():
    channel = connect().channel()
    channel.queue_declare("turns", exclusive=True)
    for number in range(4):
        channel.basic_publish("", "turns", str(number).encode())
    tags = [get(channel, "turns")[0].delivery_tag for _ in range(4)]
    channel.basic_nack(tags[1], multiple=True, requeue=True)
    channel.basic_reject(tags[2], requeue=False)
    channel.basic_ack(tags[3])
    found = [get(channel, "turns", auto_ack=True) for _ in range(2)]
    assert [(m.redelivered, b) for m, _, b in found] == [(True, b"0"), (True, b"1")], found
    assert channel.basic_get("turns")[0] is None


def unknown_delivery_tag_is_406():
    text = closed_channel(406, lambda channel: channel.basic_ack(99))
    assert text == "PRECONDITION_FAILED - unknown delivery tag 99", text


def prefetch_bounds_what_is_unacked():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare("bounded", exclusive=True)
    for number in range(10):
        channel.basic_publish("", "bounded", str(number).encode())
    channel.basic_qos(prefetch_count=3)
    tags = []
    channel.basic_consume("bounded", lambda _c, method, _p, _b: tags.append(method.delivery_tag))
    eventually("three deliveries", lambda: connection.process_data_events(0.05) or len(tags) == 3)
    connection.process_data_events(0.5)
    assert len(tags) == 3, tags
    channel.basic_ack(tags[1], multiple=True)
    eventually("two more", lambda: connection.process_data_events(0.05) or len(tags) == 5)
    connection.process_data_events(0.3)
    assert len(tags) == 5, tags


def work_is_shared_between_consumers():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare("work", exclusive=True)
    channel.basic_qos(prefetch_count=1)
    seen = {"a": 0, "b": 0}

    def take(name):
        def on(ch, method, _p, _b):
            seen[name] += 1
            ch.basic_ack(method.delivery_tag)
        return on

    for name in seen:
        channel.basic_consume("work", take(name), consumer_tag=name)
    for _ in range(20):
        channel.basic_publish("", "work", b"x")
    eventually("all work", lambda: connection.process_data_events(0.05) or sum(seen.values()) == 20)
    assert seen["a"] == seen["b"] == 10, seen


def confirms_cover_every_publish():
    ready = []

    def on_open(channel):
        channel.confirm_delivery(lambda frame: ready.append(frame.method), lambda *_: start(channel))

    def start(channel):
        channel.queue_declare("confirmed", durable=True, callback=lambda _: burst(channel))

    def burst(channel):
        for _ in range(500):
            channel.basic_publish("", "confirmed", b"x", pika.BasicProperties(delivery_mode=2))

    connection = pika.SelectConnection(parameters(), on_open_callback=lambda c: c.channel(on_open_callback=on_open))
    covered = 0
    end = time.monotonic() + 15
    while covered < 500:
        assert time.monotonic() < end, f"{covered} of 500 confirmed"
        connection.ioloop.call_later(0.05, connection.ioloop.stop)
        connection.ioloop.start()
        tags = set()
        for method in ready:
            assert isinstance(method, spec.Basic.Ack), method
            tags.update(range(1, method.delivery_tag + 1) if method.multiple else [method.delivery_tag])
        covered = len(tags)
    connect().channel().queue_delete("confirmed")


def transactions_commit_and_roll_back():
    channel = connect().channel()
    channel.queue_declare("tx")
    other = connect().channel()
    channel.tx_select()
    channel.basic_publish("", "tx", b"gone")
    channel.tx_rollback()
    channel.basic_publish("", "tx", b"kept")
    assert other.basic_get("tx")[0] is None
    channel.tx_commit()
    assert get(other, "tx", auto_ack=True)[2] == b"kept"
    assert other.basic_get("tx")[0] is None
    other.queue_delete("tx")


def consumer_tag_twice_is_530():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare("tagged", exclusive=True)
    channel.basic_consume("tagged", lambda *_: None, consumer_tag="same")
    raw = Raw()
    raw.send(spec.Channel.Open(), 1)
    raw.expect(spec.Channel.OpenOk)
    raw.send(spec.Queue.Declare(queue="tagged2", exclusive=True), 1)
    raw.expect(spec.Queue.DeclareOk)
    for _ in range(2):
        raw.send(spec.Basic.Consume(queue="tagged2", consumer_tag="same"), 1)
    raw.expect(spec.Basic.ConsumeOk)
    close = raw.expect(spec.Connection.Close)
    assert close.reply_code == 530, close


# --- across a restart ----------------------------------------------------------------------------------


def before_a_restart():
    channel = connect().channel()
    channel.confirm_delivery()
    channel.exchange_declare("kept-exchange", "topic", durable=True)
    channel.exchange_declare("gone-exchange", "topic")
    channel.queue_declare("kept", durable=True)
    channel.queue_declare("gone")
    channel.queue_bind("kept", "kept-exchange", "a.#")
    channel.basic_publish("", "kept", b"persistent", pika.BasicProperties(delivery_mode=2))
    channel.basic_publish("", "kept", b"transient", pika.BasicProperties(delivery_mode=1))


def after_a_restart():
    connection = connect()
    assert _absent(connection, "gone")
    closed_channel(404, lambda channel: channel.exchange_declare("gone-exchange", passive=True))
    channel = connection.channel()
    assert channel.queue_declare("kept", passive=True).method.message_count == 1
    assert get(channel, "kept", auto_ack=True)[2] == b"persistent"
    channel.basic_publish("kept-exchange", "a.b", b"still bound")
    assert get(channel, "kept", auto_ack=True)[2] == b"still bound"


if __name__ == "__main__":
    PORT = int(sys.argv[2])
    PID = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    globals()[sys.argv[1]]()
