"""A TCP server that greets with its name, and a client that collects greetings.

usage: tcp.py serve NAME PORT
       tcp.py ask HOST PORT COUNT      prints the greetings, one line each; `-` for none
"""
import socket
import sys


def serve(name, port):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", port))
    server.listen(128)
    print("ready", flush=True)
    while True:
        try:
            connection, _ = server.accept()
            connection.sendall(name.encode() + b"\n")
            connection.close()
        except OSError:
            pass  # a health check resets its connection


def ask(host, port, count):
    for _ in range(count):
        try:
            with socket.create_connection((host, port), 5) as connection:
                print(connection.recv(64).decode().strip() or "-", flush=True)
        except OSError:
            print("-", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
