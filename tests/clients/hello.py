"""One message there and back: publish with a confirm, then consume it.

usage: hello.py amqp://USER:PASSWORD@HOST:PORT/VHOST
"""
import sys

import pika


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("hello", durable=True)
    channel.basic_publish("", "hello", b"hello", pika.BasicProperties(delivery_mode=2), mandatory=True)
    print("published and confirmed")
    method, _, body = channel.basic_get("hello")
    channel.basic_ack(method.delivery_tag)
    print(f"received {body.decode()!r}")
    connection.close()


if __name__ == "__main__":
    main()
