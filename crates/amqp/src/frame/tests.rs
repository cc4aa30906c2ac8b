//! Tests of frames: whole, in pieces, and not frames at all. The texts are RabbitMQ 3.10's.

use super::*;
use crate::Method;
use crate::method::{basic, queue};

fn frame(kind: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
    let mut octets = vec![kind];
    octets.extend_from_slice(&channel.to_be_bytes());
    octets.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    octets.extend_from_slice(payload);
    octets.push(end);
    octets
}

#[test]
fn frames_are_cut_off_one_by_one() {
    let mut buf = Vec::new();
    write_method(
        &mut buf,
        7,
        &Method::BasicPublish(basic::Publish { routing_key: "q", ..Default::default() }),
    );
    write_content_header(&mut buf, 7, 60, 5, b"\x10\x00\x02");
    write_body(&mut buf, 7, b"hello", 4096);
    write_heartbeat(&mut buf);
    let kinds = [FrameKind::Method, FrameKind::Header, FrameKind::Body, FrameKind::Heartbeat];
    let mut rest = &buf[..];
    for kind in kinds {
        let (frame, used) = parse(rest, 4096).unwrap().unwrap();
        assert_eq!(frame.kind, kind);
        assert_eq!(frame.kind.octet(), rest[0]);
        assert_eq!(frame.channel, if kind == FrameKind::Heartbeat { 0 } else { 7 });
        for cut in 0..used {
            assert_eq!(parse(&rest[..cut], 4096), Ok(None), "{kind:?} cut at {cut}");
        }
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
}

/// What RabbitMQ's own clients would send and receive, octet by octet.
#[test]
fn written_frames_are_octet_for_octet_those_of_the_standard() {
    let mut buf = Vec::new();
    write_deliver(&mut buf, 1, "ct", 0x0102, true, "ex", "rk");
    assert_eq!(
        buf,
        b"\x01\x00\x01\x00\x00\x00\x16\x00\x3c\x00\x3c\x02ct\x00\x00\x00\x00\x00\x00\x01\x02\x01\x02ex\x02rk\xce"
    );
    buf.clear();
    write_ack(&mut buf, 0x0203, 9, true);
    assert_eq!(buf, b"\x01\x02\x03\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x00\x09\x01\xce");
    buf.clear();
    write_fields(
        &mut buf,
        1,
        &queue::Declare { queue: "q", durable: true, nowait: true, ..Default::default() },
    );
    assert_eq!(buf, b"\x01\x00\x01\x00\x00\x00\x0d\x00\x32\x00\x0a\x00\x00\x01q\x12\x00\x00\x00\x00\xce");
    buf.clear();
    write_content_header(&mut buf, 1, 60, 5, b"\x10\x00\x02");
    assert_eq!(
        buf,
        b"\x02\x00\x01\x00\x00\x00\x0f\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x10\x00\x02\xce"
    );
    buf.clear();
    write_heartbeat(&mut buf);
    assert_eq!(buf, b"\x08\x00\x00\x00\x00\x00\x00\xce");
}

#[test]
fn writing_appends() {
    let mut buf = b"before".to_vec();
    write_ack(&mut buf, 1, 1, false);
    write_body(&mut buf, 1, b"x", 0);
    assert!(buf.starts_with(b"before\x01\x00\x01"));
    assert!(buf.ends_with(b"\xce\x03\x00\x01\x00\x00\x00\x01x\xce"));
}

#[test]
fn bodies_are_split_to_fit() {
    let sizes = |length: usize, frame_max| {
        let mut buf = Vec::new();
        write_body(&mut buf, 3, &vec![b'z'; length], frame_max);
        let (mut rest, mut sizes) = (&buf[..], Vec::new());
        while let Some((frame, used)) = parse(rest, frame_max).unwrap() {
            assert!(frame_max == 0 || used <= frame_max as usize);
            sizes.push(frame.payload.len());
            rest = &rest[used..];
        }
        sizes
    };
    assert!(sizes(0, 4096).is_empty(), "an empty body has no frame");
    assert_eq!(sizes(1, 4096), [1]);
    assert_eq!(sizes(4088, 4096), [4088]);
    assert_eq!(sizes(4089, 4096), [4088, 1]);
    assert_eq!(sizes(10_000, 4096), [4088, 4088, 1824]);
    assert_eq!(sizes(200_000, 0), [200_000]);
    let mut buf = Vec::new();
    write_body(&mut buf, 3, b"abc", 4096);
    assert_eq!(buf[..7], body_frame_header(3, 3));
}

#[test]
fn oversized_frames_are_refused_at_the_header() {
    // RabbitMQ 3.10, frame_max 4096: payloads up to 4096 pass, 4097 gives this text.
    let header = |size: u32| [&[3, 0, 1][..], &size.to_be_bytes()].concat();
    assert_eq!(parse(&header(4096), 4096), Ok(None));
    let error = parse(&header(4097), 4096).unwrap_err();
    assert_eq!(error, FrameError::TooLarge { kind: 3, channel: 1, size: 4097, limit: 4088 });
    assert_eq!(error.explanation(&header(4097)), "type 3, all octets = <<>>: {frame_too_large,4097,4088}");
    assert_eq!(error.channel(), 1);
    let octets = frame(3, 1, &[b'z'; 10_000], FRAME_END);
    let error = parse(&octets, 4096).unwrap_err();
    assert_eq!(error.explanation(&octets), "type 3, all octets = <<>>: {frame_too_large,10000,4088}");
    assert_eq!(parse(&header(u32::MAX), 0), Ok(None), "no limit was negotiated");
    assert!(parse(&header(u32::MAX), 131_072).is_err());
    // An unknown type that is too large is too large.
    assert!(matches!(parse(&[9, 0, 0, 255, 255, 255, 255], 4096), Err(FrameError::TooLarge { kind: 9, .. })));
}

#[test]
fn unknown_frames_are_refused_at_the_header() {
    let rows: [(u8, &[u8], &str); 8] = [
        (9, b"abc", "type 9, all octets = <<\"abc\">>: unknown_frame"),
        (9, &[0, 1], "type 9, all octets = <<0,1>>: unknown_frame"),
        (0, b"\xc8\xc9abc", "type 0, all octets = <<\"\u{c8}\u{c9}abc\">>: unknown_frame"),
        (8, b"abc", "type 8, all octets = <<\"abc\">>: unknown_frame"),
        (1, &[0, 50, 0], "type 1, all octets = <<0,50,0>>: unknown_frame"),
        (1, &[], "type 1, all octets = <<>>: unknown_frame"),
        (2, &[0, 60, 0, 0], "type 2, all octets = <<0,60,0,0>>: unknown_frame"),
        (255, b"seventeen letters", "type 255, first 16 octets = <<\"seventeen letter\">>: unknown_frame"),
    ];
    for (kind, payload, text) in rows {
        let octets = frame(kind, 2, payload, FRAME_END);
        let error = parse(&octets, 4096).unwrap_err();
        assert_eq!(error, FrameError::UnknownType { kind, channel: 2, size: payload.len() as u32 });
        assert_eq!(error.explanation(&octets), text);
        assert_eq!(parse(&octets[..7], 4096), Err(error), "as soon as the header is there");
        for cut in 0..7 {
            assert_eq!(parse(&octets[..cut], 4096), Ok(None));
        }
    }
    let error = parse(&[9, 0, 1, 0, 0, 0, 3, b'a'], 4096).unwrap_err();
    assert_eq!(
        error.explanation(&[9, 0, 1, 0, 0, 0, 3, b'a']),
        "type 9, all octets = <<\"a\">>: unknown_frame"
    );
}

#[test]
fn a_wrong_frame_end_is_told_as_rabbitmq_tells_it() {
    let text = |payload: &[u8], end| {
        let octets = frame(3, 1, payload, end);
        let error = parse(&octets, 4096).unwrap_err();
        assert_eq!(error, FrameError::BadEnd { kind: 3, channel: 1, size: payload.len() as u32, end });
        assert_eq!(parse(&octets[..octets.len() - 1], 4096), Ok(None));
        error.explanation(&octets)
    };
    assert_eq!(text(b"abc", 0), "type 3, all octets = <<\"abc\">>: {invalid_frame_end_marker,0}");
    let octets: Vec<u8> = (0..8).collect();
    assert_eq!(
        text(&octets, 255),
        "type 3, all octets = <<0,1,2,3,4,5,6,7>>: {invalid_frame_end_marker,255}"
    );
    assert_eq!(
        text(&[200, 0].repeat(10), 255),
        format!(
            "type 3, first 16 octets = <<200,0,200,0,200,0,200,0,200,0,200,0,200,0,200,0>>: \
             {{invalid_frame_end_marker,\n{}255}}",
            " ".repeat(80)
        )
    );
}

#[test]
fn a_frame_out_of_place_is_quoted() {
    let octets = frame(8, 1, b"", FRAME_END);
    let (heartbeat, _) = parse(&octets, 4096).unwrap().unwrap();
    assert_eq!((heartbeat.kind, heartbeat.channel), (FrameKind::Heartbeat, 1));
    assert_eq!(heartbeat.unexpected_explanation(), "type 8, all octets = <<>>");
    let octets = frame(2, 0, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], FRAME_END);
    let (header, _) = parse(&octets, 4096).unwrap().unwrap();
    assert_eq!(header.unexpected_explanation(), "type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,1,0,0>>");
}

#[test]
fn the_protocol_header_is_no_frame() {
    assert_eq!(crate::PROTOCOL_HEADER, *b"AMQP\x00\x00\x09\x01");
    assert!(matches!(parse(&crate::PROTOCOL_HEADER, 0), Err(FrameError::UnknownType { kind: b'A', .. })));
    assert!(parse(b"GET / HTTP/1.1\r\n", 131_072).is_err());
}
