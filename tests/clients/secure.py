"""AMQP over TLS: a login with a password, and one with a certificate.

usage: secure.py PORT FOLDER
The folder has ca, and certificate and key of `alice`, who is a user, and of `nobody`.
"""
import ssl
import sys

import pika
from pika.exceptions import ProbableAuthenticationError

PORT = int(sys.argv[1])
FOLDER = sys.argv[2]
USER = "CN=alice,O=client"


def connect(credentials, certificate=None, version=None):
    context = ssl.create_default_context(cafile=f"{FOLDER}/ca")
    if certificate:
        context.load_cert_chain(f"{FOLDER}/{certificate}", f"{FOLDER}/{certificate}.key")
    if version:
        context.minimum_version = context.maximum_version = version
    return pika.BlockingConnection(pika.ConnectionParameters(
        host="127.0.0.1", port=PORT, socket_timeout=5, stack_timeout=10, heartbeat=2, connection_attempts=1,
        ssl_options=pika.SSLOptions(context, "localhost"), credentials=credentials,
    ))


def exchange(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for size in (0, 1, 20_000, 3_000_000):
        channel.basic_publish("", queue, b"x" * size)
        assert channel.basic_get(queue, auto_ack=True)[2] == b"x" * size
    # Longer than two heartbeats of two seconds: both sides keep the connection up.
    connection.process_data_events(time_limit=5)
    channel.queue_declare(queue, passive=True)
    connection.close()


external = pika.credentials.ExternalCredentials
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    exchange(connect(pika.PlainCredentials(USER, "secret"), version=version))
    exchange(connect(external(), "alice", version))
try:
    connect(external(), "nobody")
    raise AssertionError("nobody could log in")
except ProbableAuthenticationError as error:
    assert "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL." in str(error), error
