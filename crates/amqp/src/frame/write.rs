//! Appending frames to a write buffer. Nothing here allocates beyond the growth of that buffer.

use super::{FRAME_OVERHEAD, FrameKind, HEADER_SIZE};
use crate::FRAME_END;
use crate::method::{Method, MethodFields};
use crate::wire::Put;

/// Appends a method frame.
#[inline]
pub fn write_method(buf: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    write_frame(buf, FrameKind::Method, channel, |buf| method.encode(buf));
}

/// Appends a method frame from one method's struct, without the detour over [`Method`].
#[inline]
pub fn write_fields<'a, M: MethodFields<'a>>(buf: &mut Vec<u8>, channel: u16, fields: &M) {
    write_frame(buf, FrameKind::Method, channel, |buf| {
        buf.put_u16(M::CLASS_ID);
        buf.put_u16(M::METHOD_ID);
        fields.encode_fields(buf);
    });
}

/// Appends a content header frame. `raw_props` are property flags and list as received
/// ([`Properties::raw`](crate::Properties::raw)); `body_size` is in octets.
#[inline]
pub fn write_content_header(
    buf: &mut Vec<u8>,
    channel: u16,
    class_id: u16,
    body_size: u64,
    raw_props: &[u8],
) {
    buf.reserve(raw_props.len() + 20);
    write_frame(buf, FrameKind::Header, channel, |buf| {
        buf.put_u16(class_id);
        buf.put_u16(0); // weight, unused (AMQP 0-9-1 section 4.2.6.1)
        buf.put_u64(body_size);
        buf.extend_from_slice(raw_props);
    });
}

/// Appends a body as as many body frames as `frame_max` octets per frame ask for; 0 is no limit. An empty body has
/// no frame.
#[inline]
pub fn write_body(buf: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    let largest = if frame_max == 0 { u32::MAX } else { frame_max.saturating_sub(FRAME_OVERHEAD).max(1) };
    buf.reserve(body.len() + HEADER_SIZE + 1);
    for piece in body.chunks(largest as usize) {
        buf.extend_from_slice(&body_frame_header(channel, piece.len()));
        buf.extend_from_slice(piece);
        buf.push(FRAME_END);
    }
}

/// The octets before the payload of a body frame, for callers that send the body itself with `writev` and
/// [`FRAME_END`] behind it. `len` is the payload in octets, at most frame_max - 8.
#[inline]
#[must_use]
pub fn body_frame_header(channel: u16, len: usize) -> [u8; HEADER_SIZE] {
    debug_assert!(u32::try_from(len).is_ok(), "a body frame of {len} octets");
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = (len as u32).to_be_bytes();
    [FrameKind::Body.octet(), c0, c1, s0, s1, s2, s3]
}

/// Appends a heartbeat frame.
#[inline]
pub fn write_heartbeat(buf: &mut Vec<u8>) {
    buf.extend_from_slice(&[FrameKind::Heartbeat.octet(), 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Appends basic.deliver.
#[inline]
pub fn write_deliver(
    buf: &mut Vec<u8>,
    channel: u16,
    consumer_tag: &str,
    delivery_tag: u64,
    redelivered: bool,
    exchange: &str,
    routing_key: &str,
) {
    let deliver =
        crate::method::basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key };
    buf.reserve(HEADER_SIZE + 17 + consumer_tag.len() + exchange.len() + routing_key.len());
    write_fields(buf, channel, &deliver);
}

/// Appends basic.ack, from a server the confirm of a publish.
#[inline]
pub fn write_ack(buf: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    write_fields(buf, channel, &crate::method::basic::Ack { delivery_tag, multiple });
}

/// Appends a frame whose payload `payload` appends; the size is filled in afterwards.
#[inline]
fn write_frame(buf: &mut Vec<u8>, kind: FrameKind, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    buf.put_u8(kind.octet());
    buf.put_u16(channel);
    buf.put_u32(0);
    let start = buf.len();
    payload(buf);
    let size = (buf.len() - start) as u32;
    buf[start - 4..start].copy_from_slice(&size.to_be_bytes());
    buf.push(FRAME_END);
}
