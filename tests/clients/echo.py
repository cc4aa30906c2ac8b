"""Answers UDP datagrams with a name, also on addresses that come and go: echo.py NAME PORT"""
import socket
import struct
import sys

IP_PKTINFO = 8

name, port = sys.argv[1].encode(), int(sys.argv[2])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
server.bind(("0.0.0.0", port))
print("ready", flush=True)
while True:
    data, control, _, peer = server.recvmsg(64, 64)
    # Answer from the address that was asked, which the kernel tells beside the datagram.
    _, _, info = control[0]
    _, asked, _ = struct.unpack("=I4s4s", info)
    answer = [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=I4s4s", 0, asked, b"\0" * 4))]
    try:
        server.sendmsg([data + b" " + name], answer, 0, peer)
    except OSError:
        pass  # the address left this host in between
