//! Properties that own what is in them, to be built or changed.

use super::{
    APP_ID, CLUSTER_ID, CONTENT_ENCODING, CONTENT_TYPE, CORRELATION_ID, DELIVERY_MODE, EXPIRATION, HEADERS,
    KIND, MESSAGE_ID, PRIORITY, Properties, REPLY_TO, TIMESTAMP, USER_ID, flag,
};
use crate::table::FieldTable;
use crate::wire::Put;

/// The fourteen properties of a message; see [`Properties`] for their meanings.
///
/// Strings have at most 255 octets on the wire; [`encode`](Self::encode) cuts longer ones.
#[derive(Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "documented at the getters of `Properties`")]
pub struct BasicProperties {
    pub content_type: Option<Vec<u8>>,
    pub content_encoding: Option<Vec<u8>>,
    pub headers: Option<FieldTable>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<Vec<u8>>,
    pub reply_to: Option<Vec<u8>>,
    pub expiration: Option<Vec<u8>>,
    pub message_id: Option<Vec<u8>>,
    pub timestamp: Option<u64>,
    pub kind: Option<Vec<u8>>,
    pub user_id: Option<Vec<u8>>,
    pub app_id: Option<Vec<u8>>,
    pub cluster_id: Option<Vec<u8>>,
}

impl BasicProperties {
    /// Appends property flags and list, as [`Properties::parse`] reads them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u16(0);
        let mut flags = 0;
        let mut strings = |out: &mut Vec<u8>, list: &[(usize, &Option<Vec<u8>>)]| {
            for (index, value) in list {
                if let Some(value) = value {
                    flags |= flag(*index);
                    out.put_shortbytes(value);
                }
            }
        };
        strings(out, &[(CONTENT_TYPE, &self.content_type), (CONTENT_ENCODING, &self.content_encoding)]);
        if let Some(headers) = &self.headers {
            headers.encode(out);
        }
        out.extend(self.delivery_mode);
        out.extend(self.priority);
        strings(
            out,
            &[
                (CORRELATION_ID, &self.correlation_id),
                (REPLY_TO, &self.reply_to),
                (EXPIRATION, &self.expiration),
                (MESSAGE_ID, &self.message_id),
            ],
        );
        if let Some(timestamp) = self.timestamp {
            out.put_u64(timestamp);
        }
        strings(
            out,
            &[
                (KIND, &self.kind),
                (USER_ID, &self.user_id),
                (APP_ID, &self.app_id),
                (CLUSTER_ID, &self.cluster_id),
            ],
        );
        let others = [
            (HEADERS, self.headers.is_some()),
            (DELIVERY_MODE, self.delivery_mode.is_some()),
            (PRIORITY, self.priority.is_some()),
            (TIMESTAMP, self.timestamp.is_some()),
        ];
        for (index, _) in others.into_iter().filter(|(_, there)| *there) {
            flags |= flag(index);
        }
        out[start..start + 2].copy_from_slice(&flags.to_be_bytes());
    }
}

impl From<Properties<'_>> for BasicProperties {
    fn from(raw: Properties<'_>) -> Self {
        let owned = |octets: Option<&[u8]>| octets.map(<[u8]>::to_vec);
        Self {
            content_type: owned(raw.content_type()),
            content_encoding: owned(raw.content_encoding()),
            headers: raw.headers().map(|headers| headers.to_owned()),
            delivery_mode: raw.delivery_mode(),
            priority: raw.priority(),
            correlation_id: owned(raw.correlation_id()),
            reply_to: owned(raw.reply_to()),
            expiration: owned(raw.expiration()),
            message_id: owned(raw.message_id()),
            timestamp: raw.timestamp(),
            kind: owned(raw.kind()),
            user_id: owned(raw.user_id()),
            app_id: owned(raw.app_id()),
            cluster_id: owned(raw.cluster_id()),
        }
    }
}

impl std::fmt::Debug for BasicProperties {
    /// Only the properties that are there, strings as text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("BasicProperties");
        let strings = [
            ("content_type", &self.content_type),
            ("content_encoding", &self.content_encoding),
            ("correlation_id", &self.correlation_id),
            ("reply_to", &self.reply_to),
            ("expiration", &self.expiration),
            ("message_id", &self.message_id),
            ("kind", &self.kind),
            ("user_id", &self.user_id),
            ("app_id", &self.app_id),
            ("cluster_id", &self.cluster_id),
        ];
        for (name, value) in strings {
            if let Some(value) = value {
                out.field(name, &format_args!("\"{}\"", value.escape_ascii()));
            }
        }
        if let Some(headers) = &self.headers {
            out.field("headers", headers);
        }
        for (name, value) in [("delivery_mode", self.delivery_mode), ("priority", self.priority)] {
            if let Some(value) = value {
                out.field(name, &value);
            }
        }
        if let Some(timestamp) = self.timestamp {
            out.field("timestamp", &timestamp);
        }
        out.finish()
    }
}
