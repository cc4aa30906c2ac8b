//! Our codec against the `amq-protocol` crate, in both directions: what we write it reads, what it writes we read,
//! and field by field both mean the same.
//!
//! Where the two differ by design, and so are not compared:
//!
//! * `amq-protocol` keeps tables in a map: it sorts names and drops repeated ones. RabbitMQ keeps both order and
//!   repetitions, and so do we. The samples have sorted, distinct names.
//! * It hides the arguments prefetch_size of basic.qos and ticket of access.request-ok (it writes 0 and 1) and does
//!   not know RabbitMQ's basic.credit family.
//! * It reads the type letter `U` as a 16-bit integer; RabbitMQ refuses it, and so do we. It reads floats that are not
//!   finite, names that are not UTF-8 it refuses; RabbitMQ does the opposite, and so do we.
//! * It demands UTF-8 in the short strings of properties; RabbitMQ does not, and neither do we.
//! * It accepts any weight in a content header, a heartbeat with a payload and any frame size; RabbitMQ does not.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{self as theirs, AMQPClass};
use amq_protocol::types::{
    AMQPValue, DecimalValue, FieldArray, FieldTable as TheirTable, LongString, ShortString,
};
use proptest::prelude::*;

use super::sample;
use crate::content::{BasicProperties, ContentHeader, Properties};
use crate::frame::{self, FrameKind};
use crate::method::Method;
use crate::table::{FieldTable, FieldValue, Table};

/// From our types to theirs.
trait Convert {
    type Theirs;
    fn convert(&self) -> Self::Theirs;
}

macro_rules! same {
    ($($kind:ty),*) => {$(
        impl Convert for $kind {
            type Theirs = $kind;
            fn convert(&self) -> $kind {
                *self
            }
        }
    )*};
}

same!(bool, u8, u16, u32, u64);

impl Convert for &str {
    type Theirs = ShortString;
    fn convert(&self) -> ShortString {
        ShortString::from(*self)
    }
}

impl Convert for &[u8] {
    type Theirs = LongString;
    fn convert(&self) -> LongString {
        LongString::from(*self)
    }
}

impl Convert for Table<'_> {
    type Theirs = TheirTable;
    fn convert(&self) -> TheirTable {
        self.to_owned().convert()
    }
}

impl Convert for FieldTable {
    type Theirs = TheirTable;
    fn convert(&self) -> TheirTable {
        let mut table = TheirTable::default();
        for (name, value) in self.iter() {
            table.insert(ShortString::from(name), value.convert());
        }
        table
    }
}

impl Convert for FieldValue {
    type Theirs = AMQPValue;
    fn convert(&self) -> AMQPValue {
        match self {
            Self::Bool(value) => AMQPValue::Boolean(*value),
            Self::Byte(value) => AMQPValue::ShortShortInt(*value),
            Self::UnsignedByte(value) => AMQPValue::ShortShortUInt(*value),
            Self::Short(value) => AMQPValue::ShortInt(*value),
            Self::UnsignedShort(value) => AMQPValue::ShortUInt(*value),
            Self::SignedInt(value) => AMQPValue::LongInt(*value),
            Self::UnsignedInt(value) => AMQPValue::LongUInt(*value),
            Self::Long(value) => AMQPValue::LongLongInt(*value),
            Self::Float(value) => AMQPValue::Float(*value),
            Self::Double(value) => AMQPValue::Double(*value),
            Self::Decimal { scale, value } => {
                AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: *value })
            }
            Self::LongStr(octets) => AMQPValue::LongString(LongString::from(octets.clone())),
            Self::Binary(octets) => AMQPValue::ByteArray(octets.clone().into()),
            Self::Timestamp(value) => AMQPValue::Timestamp(*value),
            Self::Array(values) => AMQPValue::FieldArray(FieldArray::from(
                values.iter().map(Convert::convert).collect::<Vec<_>>(),
            )),
            Self::Table(table) => AMQPValue::FieldTable(table.convert()),
            Self::Void => AMQPValue::Void,
        }
    }
}

/// Our method as theirs, field by field by name; `None` for what they do not have.
macro_rules! method_to_theirs {
    ($method:expr; $($variant:ident: $class:ident $name:ident {$($field:ident),*};)*) => {
        match $method {
            $(Method::$variant(_fields) => {
                let module = theirs::$class::$name { $($field: _fields.$field.convert()),* };
                Some(AMQPClass::from_method(theirs::$class::AMQPMethod::$name(module)))
            })*
            Method::BasicCredit(_) | Method::BasicCreditOk(_) | Method::BasicCreditDrained(_) => None,
        }
    };
}

trait FromMethod<M> {
    fn from_method(method: M) -> Self;
}

macro_rules! classes {
    ($($class:ident $variant:ident),*) => {$(
        impl FromMethod<theirs::$class::AMQPMethod> for AMQPClass {
            fn from_method(method: theirs::$class::AMQPMethod) -> Self {
                AMQPClass::$variant(method)
            }
        }
    )*};
}

classes!(
    connection Connection, channel Channel, access Access, exchange Exchange, queue Queue, basic Basic, tx Tx,
    confirm Confirm
);

#[rustfmt::skip]
fn to_theirs(method: &Method<'_>) -> Option<AMQPClass> {
    method_to_theirs! { method;
        ConnectionStart: connection Start {version_major, version_minor, server_properties, mechanisms, locales};
        ConnectionStartOk: connection StartOk {client_properties, mechanism, response, locale};
        ConnectionSecure: connection Secure {challenge};
        ConnectionSecureOk: connection SecureOk {response};
        ConnectionTune: connection Tune {channel_max, frame_max, heartbeat};
        ConnectionTuneOk: connection TuneOk {channel_max, frame_max, heartbeat};
        ConnectionOpen: connection Open {virtual_host};
        ConnectionOpenOk: connection OpenOk {};
        ConnectionClose: connection Close {reply_code, reply_text, class_id, method_id};
        ConnectionCloseOk: connection CloseOk {};
        ConnectionBlocked: connection Blocked {reason};
        ConnectionUnblocked: connection Unblocked {};
        ConnectionUpdateSecret: connection UpdateSecret {new_secret, reason};
        ConnectionUpdateSecretOk: connection UpdateSecretOk {};
        ChannelOpen: channel Open {};
        ChannelOpenOk: channel OpenOk {};
        ChannelFlow: channel Flow {active};
        ChannelFlowOk: channel FlowOk {active};
        ChannelClose: channel Close {reply_code, reply_text, class_id, method_id};
        ChannelCloseOk: channel CloseOk {};
        AccessRequest: access Request {realm, exclusive, passive, active, write, read};
        AccessRequestOk: access RequestOk {};
        ExchangeDeclare: exchange Declare {exchange, kind, passive, durable, auto_delete, internal, nowait, arguments};
        ExchangeDeclareOk: exchange DeclareOk {};
        ExchangeDelete: exchange Delete {exchange, if_unused, nowait};
        ExchangeDeleteOk: exchange DeleteOk {};
        ExchangeBind: exchange Bind {destination, source, routing_key, nowait, arguments};
        ExchangeBindOk: exchange BindOk {};
        ExchangeUnbind: exchange Unbind {destination, source, routing_key, nowait, arguments};
        ExchangeUnbindOk: exchange UnbindOk {};
        QueueDeclare: queue Declare {queue, passive, durable, exclusive, auto_delete, nowait, arguments};
        QueueDeclareOk: queue DeclareOk {queue, message_count, consumer_count};
        QueueBind: queue Bind {queue, exchange, routing_key, nowait, arguments};
        QueueBindOk: queue BindOk {};
        QueueUnbind: queue Unbind {queue, exchange, routing_key, arguments};
        QueueUnbindOk: queue UnbindOk {};
        QueuePurge: queue Purge {queue, nowait};
        QueuePurgeOk: queue PurgeOk {message_count};
        QueueDelete: queue Delete {queue, if_unused, if_empty, nowait};
        QueueDeleteOk: queue DeleteOk {message_count};
        BasicQos: basic Qos {prefetch_count, global};
        BasicQosOk: basic QosOk {};
        BasicConsume: basic Consume {queue, consumer_tag, no_local, no_ack, exclusive, nowait, arguments};
        BasicConsumeOk: basic ConsumeOk {consumer_tag};
        BasicCancel: basic Cancel {consumer_tag, nowait};
        BasicCancelOk: basic CancelOk {consumer_tag};
        BasicPublish: basic Publish {exchange, routing_key, mandatory, immediate};
        BasicReturn: basic Return {reply_code, reply_text, exchange, routing_key};
        BasicDeliver: basic Deliver {consumer_tag, delivery_tag, redelivered, exchange, routing_key};
        BasicGet: basic Get {queue, no_ack};
        BasicGetOk: basic GetOk {delivery_tag, redelivered, exchange, routing_key, message_count};
        BasicGetEmpty: basic GetEmpty {};
        BasicAck: basic Ack {delivery_tag, multiple};
        BasicReject: basic Reject {delivery_tag, requeue};
        BasicRecoverAsync: basic RecoverAsync {requeue};
        BasicRecover: basic Recover {requeue};
        BasicRecoverOk: basic RecoverOk {};
        BasicNack: basic Nack {delivery_tag, multiple, requeue};
        ConfirmSelect: confirm Select {nowait};
        ConfirmSelectOk: confirm SelectOk {};
        TxSelect: tx Select {};
        TxSelectOk: tx SelectOk {};
        TxCommit: tx Commit {};
        TxCommitOk: tx CommitOk {};
        TxRollback: tx Rollback {};
        TxRollbackOk: tx RollbackOk {};
    }
}

/// The same method without what the oracle does not show.
fn without_hidden(mut method: Method<'_>) -> Method<'_> {
    match &mut method {
        Method::BasicQos(qos) => qos.prefetch_size = 0,
        // It writes the ticket every server grants.
        Method::AccessRequestOk(ok) => ok.ticket = 1,
        _ => {}
    }
    method
}

fn their_octets(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0
}

fn their_frame(octets: &[u8]) -> AMQPFrame {
    let (rest, frame) = parse_frame(octets).unwrap();
    assert!(rest.is_empty());
    frame
}

#[test]
fn the_samples_cover_every_method() {
    let mut names: Vec<_> = sample::layouts().into_iter().map(|layout| layout.name).collect();
    assert_eq!(names.len(), 69);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 69);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn methods_agree((name, payload) in sample::method(), channel: u16) {
        let ours = Method::decode(&payload).unwrap();
        prop_assert_eq!(ours.name(), name);
        let mut again = Vec::new();
        ours.encode(&mut again);
        prop_assert_eq!(&again, &payload);

        let ours = without_hidden(ours);
        let Some(class) = to_theirs(&ours) else { return Ok(()) };
        prop_assert_eq!(class.get_amqp_class_id(), ours.class_id());
        prop_assert_eq!(class.get_amqp_method_id(), ours.method_id());
        let theirs = AMQPFrame::Method(channel, class);

        let mut octets = Vec::new();
        frame::write_method(&mut octets, channel, &ours);
        prop_assert_eq!(&their_frame(&octets), &theirs);

        let octets = their_octets(&theirs);
        let (frame, used) = frame::parse(&octets, 0).unwrap().unwrap();
        prop_assert_eq!((frame.kind, frame.channel, used), (FrameKind::Method, channel, octets.len()));
        prop_assert_eq!(Method::decode(frame.payload), Ok(ours));
    }

    #[test]
    fn tables_agree(table in sample::table()) {
        // Any method with a table will do to carry it.
        let octets = table.to_bytes();
        let arguments = Table::parse(&octets).unwrap();
        prop_assert_eq!(arguments.to_owned(), table.clone());
        let bind = crate::method::queue::Bind { arguments, ..Default::default() };
        let mut frame = Vec::new();
        frame::write_fields(&mut frame, 1, &bind);
        let AMQPFrame::Method(1, AMQPClass::Queue(theirs::queue::AMQPMethod::Bind(bind))) = their_frame(&frame) else {
            panic!("not a queue.bind")
        };
        prop_assert_eq!(&bind.arguments, &table.convert());
        let class = AMQPClass::Queue(theirs::queue::AMQPMethod::Bind(bind));
        prop_assert_eq!(their_octets(&AMQPFrame::Method(1, class)), frame);
    }

    #[test]
    fn content_headers_agree(properties in properties(), body_size: u64, channel: u16) {
        let mut raw = Vec::new();
        properties.encode(&mut raw);
        let parsed = Properties::parse(&raw).unwrap();
        prop_assert_eq!(BasicProperties::from(parsed), properties.clone());
        let theirs = AMQPFrame::Header(channel, amq_protocol::frame::AMQPContentHeader {
            class_id: 60,
            body_size,
            properties: their_properties(&properties),
        });

        let mut octets = Vec::new();
        frame::write_content_header(&mut octets, channel, 60, body_size, &raw);
        prop_assert_eq!(&their_frame(&octets), &theirs);
        prop_assert_eq!(&their_octets(&theirs), &octets);

        let (frame, _) = frame::parse(&octets, 0).unwrap().unwrap();
        prop_assert_eq!(frame.kind, FrameKind::Header);
        let header = ContentHeader::decode(frame.payload).unwrap();
        prop_assert_eq!((header.class_id, header.body_size), (60, body_size));
        prop_assert_eq!(header.properties.raw(), &raw[..]);
    }

    #[test]
    fn bodies_agree(body in proptest::collection::vec(any::<u8>(), 0..20_000), channel: u16, over in 0u32..3000) {
        let frame_max = crate::FRAME_MIN_SIZE + over;
        let mut octets = Vec::new();
        frame::write_body(&mut octets, channel, &body, frame_max);
        let mut rest = &octets[..];
        let mut joined = Vec::new();
        while !rest.is_empty() {
            let (ours, used) = frame::parse(rest, frame_max).unwrap().unwrap();
            let theirs = their_frame(&rest[..used]);
            prop_assert!(used <= frame_max as usize);
            prop_assert_eq!(&theirs, &AMQPFrame::Body(channel, ours.payload.to_vec()));
            prop_assert_eq!(their_octets(&theirs), &rest[..used]);
            joined.extend_from_slice(ours.payload);
            rest = &rest[used..];
        }
        prop_assert_eq!(joined, body);
    }
}

#[test]
fn heartbeats_agree() {
    let mut octets = Vec::new();
    frame::write_heartbeat(&mut octets);
    assert_eq!(octets, their_octets(&AMQPFrame::Heartbeat));
    let (frame, used) = frame::parse(&octets, 4096).unwrap().unwrap();
    assert_eq!((frame.kind, frame.channel, used), (FrameKind::Heartbeat, 0, 8));
}

fn properties() -> impl Strategy<Value = BasicProperties> {
    use proptest::option::of;
    let text = || of(sample::shortstr().prop_map(String::into_bytes));
    (
        (text(), text(), of(sample::table()), of(any::<u8>()), of(any::<u8>()), text(), text()),
        (text(), text(), of(any::<u64>()), text(), text(), text(), text()),
    )
        .prop_map(|(first, second)| BasicProperties {
            content_type: first.0,
            content_encoding: first.1,
            headers: first.2,
            delivery_mode: first.3,
            priority: first.4,
            correlation_id: first.5,
            reply_to: first.6,
            expiration: second.0,
            message_id: second.1,
            timestamp: second.2,
            kind: second.3,
            user_id: second.4,
            app_id: second.5,
            cluster_id: second.6,
        })
}

fn their_properties(ours: &BasicProperties) -> theirs::BasicProperties {
    let text = |octets: &Vec<u8>| ShortString::from(String::from_utf8(octets.clone()).unwrap());
    let mut out = theirs::BasicProperties::default();
    macro_rules! set {
        ($($field:ident $with:ident $convert:expr;)*) => {
            $(if let Some(value) = &ours.$field {
                out = out.$with($convert(value));
            })*
        };
    }
    set! {
        content_type with_content_type text;
        content_encoding with_content_encoding text;
        headers with_headers Convert::convert;
        delivery_mode with_delivery_mode Convert::convert;
        priority with_priority Convert::convert;
        correlation_id with_correlation_id text;
        reply_to with_reply_to text;
        expiration with_expiration text;
        message_id with_message_id text;
        timestamp with_timestamp Convert::convert;
        kind with_type text;
        user_id with_user_id text;
        app_id with_app_id text;
        cluster_id with_cluster_id text;
    }
    out
}
