//! From octets to work: cuts frames off what was read and hands them on, all in one turn at the shards.
//!
//! Everything that needs no waiting is done here while the octets lie in the read buffer. What does need it
//! (declares, logins, commits) ends the turn and is left to [`super::slow`].

use super::publish::{Incoming, Target};
use super::{Connection, Phase};
use crate::shard::Turn;
use amqp::content::{ContentError, ContentHeader};
use amqp::frame::{self, Frame, FrameKind};
use amqp::method::{Method, MethodError};
use amqp::reply_code;
use broker_core::channel::content::Assembly;
use broker_core::exception::{Exception, Scope};
use broker_core::message::MessageView;
use broker_core::queue::Settle;
use std::sync::Arc;

/// What a look at the read buffer led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Everything whole was used up.
    Read,
    /// A method needs waiting: it starts where the used octets end.
    Slow,
    /// The client does not read what it asked for: the rest waits where the used octets end.
    HeldBack,
}

/// Frames after which the output is looked at: a client that asks for much and reads nothing has to wait.
const STEPS_PER_LOOK: u32 = 16;

/// Acknowledgements that are settled together: what they let out to consumers comes before the next frame.
const ACKS_AT_ONCE: usize = 256;
/// Octets of a frame with `basic.ack`.
const ACK_OCTETS: usize = 21;

/// What one step did.
enum Step {
    Used(usize),
    Incomplete,
    Slow,
}

/// Classes and methods that may have to wait for something.
fn is_slow(payload: &[u8]) -> bool {
    match payload {
        // connection, exchange, queue
        [0, 10 | 40 | 50, ..] => true,
        // tx.commit
        [0, 90, 0, 20, ..] => true,
        _ => false,
    }
}

impl Connection {
    /// Works through the whole frames in `data`. Returns how many octets were used and what comes next.
    pub(crate) fn process(&mut self, data: &[u8]) -> (usize, Next) {
        let node = Arc::clone(&self.node);
        let mut turn = Turn::new(&node, std::mem::take(&mut self.buffers), node.now_ms());
        let mut used = 0;
        // Looked at first once for each read: few large publishes can ask for much, too.
        let mut steps = STEPS_PER_LOOK - 1;
        let next = loop {
            steps += 1;
            if steps.is_multiple_of(STEPS_PER_LOOK) && self.outbox.is_overfull() {
                break Next::HeldBack;
            }
            match self.step(&mut turn, &data[used..]) {
                Ok(Step::Used(octets)) => used += octets,
                Ok(Step::Incomplete) => break Next::Read,
                Ok(Step::Slow) => break Next::Slow,
                Err((0, exception)) => {
                    self.close_connection(&mut turn, &exception);
                    self.deaf = true;
                    used = data.len();
                    break Next::Read;
                }
                Err((octets, exception)) if exception.scope == Scope::Connection => {
                    used += octets;
                    self.close_connection(&mut turn, &exception);
                    break Next::Read;
                }
                Err((octets, exception)) => {
                    used += octets;
                    let channel = self.current_channel;
                    self.close_channel(&mut turn, channel, &exception);
                }
            }
        };
        self.end_turn(turn);
        (used, next)
    }

    /// Confirms what the turn made durable or needs no log, and ends it.
    pub(crate) fn end_turn(&mut self, mut turn: Turn<'_>) {
        turn.close();
        self.write_confirms(&mut turn, true);
        self.tally.flush(&self.node.counters);
        self.buffers = turn.finish();
    }

    /// One frame, or one publish when it lies here whole. An error comes with the octets it used; 0 means that
    /// the stream can not be read any further.
    fn step(&mut self, turn: &mut Turn<'_>, data: &[u8]) -> Result<Step, (usize, Exception)> {
        let (frame, size) = match frame::parse(data, self.frame_max) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Step::Incomplete),
            Err(error) => {
                return Err((0, Exception::connection(reply_code::FRAME_ERROR, error.explanation(data))));
            }
        };
        match self.phase {
            Phase::Running => {}
            Phase::Start | Phase::Tune | Phase::Open => return self.login_frame(frame, size),
            Phase::Header | Phase::Closing | Phase::Done => {
                return match frame.kind {
                    FrameKind::Method => Ok(Step::Slow),
                    _ => Ok(Step::Used(size)),
                };
            }
        }
        self.current_channel = frame.channel;
        if frame.channel == 0 {
            return self.connection_frame(frame, size);
        }
        let fail = |error: Exception| (size, error);
        let Some(channel) = self.channels.get(&frame.channel) else {
            return self.unopened(turn, frame).map(|()| Step::Used(size)).map_err(fail);
        };
        if channel.closing {
            return self.closing_frame(turn, frame).map(|()| Step::Used(size)).map_err(fail);
        }
        match (frame.kind, &channel.assembly) {
            (FrameKind::Heartbeat, _) => Err(fail(unexpected(frame.unexpected_explanation()))),
            (FrameKind::Method, Some(assembly)) => Err(fail(interrupted(assembly))),
            (FrameKind::Method, None) if is_slow(frame.payload) => Ok(Step::Slow),
            (FrameKind::Method, None) if self.may_be_far(frame.payload) => Ok(Step::Slow),
            (FrameKind::Method, None) => self.method_frame(turn, frame, size, data),
            (_, None) => {
                Err(fail(unexpected("expected method frame, got non method frame instead".to_owned())))
            }
            (FrameKind::Header, Some(_)) => {
                self.header_frame(turn, frame).map(|()| Step::Used(size)).map_err(fail)
            }
            (FrameKind::Body, Some(_)) => {
                self.body_frame(turn, frame).map(|()| Step::Used(size)).map_err(fail)
            }
        }
    }

    /// A frame before the connection is open.
    fn login_frame(&mut self, frame: Frame<'_>, size: usize) -> Result<Step, (usize, Exception)> {
        match frame.kind {
            FrameKind::Method | FrameKind::Heartbeat if frame.channel == 0 => {
                self.connection_frame(frame, size)
            }
            _ if self.phase == Phase::Open => Err((size, unexpected(frame.unexpected_explanation()))),
            _ => {
                self.end_login(&frame.unexpected_explanation());
                Ok(Step::Used(size))
            }
        }
    }

    /// Ends the connection without a word. RabbitMQ: who is not logged in yet is not told what was wrong.
    pub(crate) fn end_login(&mut self, reason: &str) {
        tracing::warn!(connection = &*self.info.name, reason, "out of order during login");
        self.phase = Phase::Done;
    }

    fn connection_frame(&mut self, frame: Frame<'_>, size: usize) -> Result<Step, (usize, Exception)> {
        match frame.kind {
            FrameKind::Heartbeat => Ok(Step::Used(size)),
            FrameKind::Method => Ok(Step::Slow),
            _ => Err((size, unexpected(frame.unexpected_explanation()))),
        }
    }

    fn method_frame(
        &mut self,
        turn: &mut Turn<'_>,
        frame: Frame<'_>,
        size: usize,
        data: &[u8],
    ) -> Result<Step, (usize, Exception)> {
        if single_ack(frame.payload).is_some() {
            return self.acks(turn, frame.channel, data);
        }
        let method = decode(frame.payload).map_err(|error| (size, error))?;
        let (class_id, method_id) = (method.class_id(), method.method_id());
        let name = |error: Exception| error.at(class_id, method_id);
        if let Method::BasicPublish(publish) = &method {
            self.publishes = true;
            if let Some((view, more)) = whole_content(&data[size..], frame.channel, self.frame_max) {
                let view =
                    MessageView { exchange: publish.exchange, routing_key: publish.routing_key, ..view };
                let target = Target { mandatory: publish.mandatory, immediate: publish.immediate };
                self.publish(turn, frame.channel, Incoming::Borrowed(view), target)
                    .map_err(|error| (size + more, name(error)))?;
                return Ok(Step::Used(size + more));
            }
            if let Some(channel) = self.channels.get_mut(&frame.channel) {
                let (mandatory, immediate) = (publish.mandatory, publish.immediate);
                channel.assembly =
                    Some(Assembly::new(publish.exchange, publish.routing_key, mandatory, immediate));
            }
            return Ok(Step::Used(size));
        }
        self.fast_method(turn, frame.channel, &method).map_err(|error| (size, name(error)))?;
        Ok(Step::Used(size))
    }

    /// Acknowledgements of single deliveries that follow each other on a channel: they are settled together.
    fn acks(&mut self, turn: &mut Turn<'_>, channel: u16, data: &[u8]) -> Result<Step, (usize, Exception)> {
        let mut tags = std::mem::take(&mut self.tags);
        tags.clear();
        while tags.len() < ACKS_AT_ONCE
            && let Ok(Some((frame, _))) = frame::parse(&data[tags.len() * ACK_OCTETS..], self.frame_max)
            && (frame.kind, frame.channel) == (FrameKind::Method, channel)
            && let Some(tag) = single_ack(frame.payload)
        {
            tags.push(tag);
        }
        let used = tags.len() * ACK_OCTETS;
        let settled = self.settle(turn, channel, Settle::Ack, &tags, false);
        self.tags = tags;
        settled
            .map(|()| Step::Used(used))
            .map_err(|(index, error)| ((index + 1) * ACK_OCTETS, error.at(60, 80)))
    }

    fn header_frame(&mut self, turn: &mut Turn<'_>, frame: Frame<'_>) -> Result<(), Exception> {
        let Some(assembly) = self.assembly(frame.channel) else { return Ok(()) };
        if assembly.has_header() {
            return Err(interrupted(assembly));
        }
        let header = ContentHeader::decode(frame.payload).map_err(|error| match error {
            ContentError::Properties(_) => {
                Exception::connection(reply_code::FRAME_ERROR, "cannot decode content header").at(60, 40)
            }
            _ => interrupted(assembly),
        })?;
        if header.class_id != amqp::content::CLASS_BASIC {
            let text = format!(
                "expected content header for class 60, got one for class {} instead",
                header.class_id
            );
            return Err(unexpected(text).at(60, 40));
        }
        assembly.header(header.properties.raw(), header.body_size);
        self.finish_assembly(turn, frame.channel)
    }

    fn body_frame(&mut self, turn: &mut Turn<'_>, frame: Frame<'_>) -> Result<(), Exception> {
        let limit = self.node.settings.max_message_size;
        let Some(assembly) = self.assembly(frame.channel) else { return Ok(()) };
        if !assembly.has_header() {
            return Err(interrupted(assembly));
        }
        if assembly.body_len() + frame.payload.len() as u64 <= limit {
            assembly.body(frame.payload).map_err(|_| interrupted(assembly))?;
        } else {
            // It will be refused when it is complete; until then it only counts.
            assembly.skip(frame.payload.len() as u64).map_err(|_| interrupted(assembly))?;
        }
        self.finish_assembly(turn, frame.channel)
    }

    fn finish_assembly(&mut self, turn: &mut Turn<'_>, channel: u16) -> Result<(), Exception> {
        let Some(open) = self.channels.get_mut(&channel) else { return Ok(()) };
        if !open.assembly.as_ref().is_some_and(Assembly::is_complete) {
            return Ok(());
        }
        let Some(assembly) = open.assembly.take() else { return Ok(()) };
        let target = Target { mandatory: assembly.mandatory, immediate: assembly.immediate };
        self.publish(turn, channel, Incoming::Assembled(assembly), target).map_err(|error| error.at(60, 40))
    }

    fn assembly(&mut self, channel: u16) -> Option<&mut Assembly> {
        self.channels.get_mut(&channel)?.assembly.as_mut()
    }

    /// A frame on a channel that is not open.
    fn unopened(&mut self, turn: &mut Turn<'_>, frame: Frame<'_>) -> Result<(), Exception> {
        match frame.kind {
            FrameKind::Heartbeat => Err(unexpected(frame.unexpected_explanation())),
            FrameKind::Method => match decode(frame.payload)? {
                Method::ChannelOpen(_) => self.open_channel(turn, frame.channel),
                Method::ChannelCloseOk(_) => Err(unimplemented_method().at(20, 41)),
                method => Err(Exception::connection(reply_code::CHANNEL_ERROR, "expected 'channel.open'")
                    .at(method.class_id(), method.method_id())),
            },
            _ => Err(unexpected("expected method frame, got non method frame instead".to_owned())),
        }
    }

    /// A frame on a channel for which `channel.close` was sent.
    fn closing_frame(&mut self, turn: &mut Turn<'_>, frame: Frame<'_>) -> Result<(), Exception> {
        if frame.kind == FrameKind::Method {
            match Method::decode(frame.payload) {
                Ok(Method::ChannelCloseOk(_)) => {
                    self.forget_channel(frame.channel);
                }
                Ok(Method::ChannelClose(_)) => {
                    self.send(turn, frame.channel, &amqp::method::channel::CloseOk);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The delivery tag of a `basic.ack` that means one delivery.
fn single_ack(payload: &[u8]) -> Option<u64> {
    let tag = payload.strip_prefix(&[0, 60, 0, 80])?.strip_suffix(&[0])?;
    Some(u64::from_be_bytes(tag.try_into().ok()?))
}

/// Header and body that follow a publish, when they lie there whole and in at most one body frame. Returns the
/// octets they take.
fn whole_content(data: &[u8], channel: u16, frame_max: u32) -> Option<(MessageView<'_>, usize)> {
    let (frame, size) = frame::parse(data, frame_max).ok()??;
    if frame.kind != FrameKind::Header || frame.channel != channel {
        return None;
    }
    let header = ContentHeader::decode(frame.payload).ok()?;
    if header.class_id != amqp::content::CLASS_BASIC {
        return None;
    }
    let properties = header.properties.raw();
    let view = |body| MessageView { exchange: "", routing_key: "", properties, body };
    if header.body_size == 0 {
        return Some((view(&[]), size));
    }
    let (body, body_size) = frame::parse(&data[size..], frame_max).ok()??;
    if body.kind != FrameKind::Body
        || body.channel != channel
        || body.payload.len() as u64 != header.body_size
    {
        return None;
    }
    Some((view(body.payload), size + body_size))
}

/// Decodes a method; the error is what RabbitMQ answers.
pub(crate) fn decode(payload: &[u8]) -> Result<Method<'_>, Exception> {
    Method::decode(payload).map_err(|error| match error {
        MethodError::UnknownMethod { .. } => unimplemented_method(),
        _ => {
            let (class_id, method_id) = error.ids();
            Exception::connection(reply_code::FRAME_ERROR, error.explanation(payload)).at(class_id, method_id)
        }
    })
}

/// A method that no client may send here.
pub(crate) fn unimplemented_method() -> Exception {
    Exception::connection(reply_code::COMMAND_INVALID, "unimplemented method")
}

fn unexpected(text: String) -> Exception {
    Exception::connection(reply_code::UNEXPECTED_FRAME, text)
}

/// Something else came where the rest of a publish was due.
fn interrupted(assembly: &Assembly) -> Exception {
    let text = if assembly.has_header() {
        "expected content body, got non content body frame instead"
    } else {
        "expected content header for class 60, got non content header frame instead"
    };
    unexpected(text.to_owned()).at(60, 40)
}
