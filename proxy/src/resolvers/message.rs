//! Questions to name servers and their answers; the wire format is hickory-proto's.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// Records of one answer that are looked at.
const MOST_RECORDS: usize = 1000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Hosts and ports of a service.
    Srv,
}

impl Kind {
    fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Srv => RecordType::SRV,
        }
    }
}

/// A host that an SRV record names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Its name, without the dot at the end.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share, 0 to 65535.
    pub weight: u16,
    /// Its addresses, when the answer came with them.
    pub addresses: Vec<IpAddr>,
}

/// A good answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Addresses of the name, in a fixed order.
    pub addresses: Vec<IpAddr>,
    /// Hosts of the service, in a fixed order.
    pub services: Vec<Service>,
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With records.
    Found(Records),
    /// The name exists and has no such record.
    Empty,
    /// The name does not exist.
    NoName,
    /// The name server does not want to answer.
    Refused,
    /// The answer was cut and must be asked for over TCP.
    Truncated,
    /// Another error, or nonsense.
    Other,
    /// Nobody answered.
    Timeout,
}

/// The bytes of a question; `None` when the name cannot be one.
#[must_use]
pub fn question(id: u16, name: &str, kind: Kind, payload: u16) -> Option<Vec<u8>> {
    let name = absolute(name)?;
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind.record_type()));
    let mut edns = Edns::new();
    edns.set_max_payload(payload.max(512));
    message.set_edns(edns);
    message.to_vec().ok()
}

/// Reads an answer; `None` when it belongs to another question.
#[must_use]
pub fn read(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Option<Answer> {
    let message = match Message::from_vec(bytes) {
        Ok(message) => message,
        // The number is in the first two bytes, whatever the rest is.
        Err(_) => return (bytes.get(..2) == Some(&id.to_be_bytes()[..])).then_some(Answer::Other),
    };
    let asked = absolute(name)?;
    if message.metadata.id != id || message.metadata.message_type != MessageType::Response {
        return None;
    }
    if let [query] = &message.queries[..]
        && (query.name != asked || query.query_type != kind.record_type())
    {
        return None;
    }
    if message.metadata.truncation {
        return Some(Answer::Truncated);
    }
    Some(match message.metadata.response_code {
        ResponseCode::NoError => match records(&message, &asked, kind) {
            found if found == Records::default() => Answer::Empty,
            found => Answer::Found(found),
        },
        ResponseCode::NXDomain => Answer::NoName,
        ResponseCode::Refused => Answer::Refused,
        _ => Answer::Other,
    })
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn records(message: &Message, asked: &Name, kind: Kind) -> Records {
    let mut found = Records::default();
    // Aliases come before what they lead to, or anywhere; a name is followed until nothing new is found.
    let mut names = vec![asked.clone()];
    let mut at = 0;
    while let Some(name) = names.get(at).cloned() {
        at += 1;
        for record in message.answers.iter().take(MOST_RECORDS).filter(|record| record.name == name) {
            match (&record.data, kind) {
                (RData::CNAME(alias), _) if names.len() < 16 && !names.contains(&alias.0) => {
                    names.push(alias.0.clone());
                }
                (RData::A(ip), Kind::A) => found.addresses.push(IpAddr::V4(ip.0)),
                (RData::AAAA(ip), Kind::Aaaa) => found.addresses.push(IpAddr::V6(ip.0)),
                (RData::SRV(service), Kind::Srv) => found.services.push(Service {
                    host: service.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
                    port: service.port,
                    weight: service.weight,
                    addresses: with_it(message, &service.target),
                }),
                _ => {}
            }
        }
    }
    found.addresses.sort_unstable();
    found.addresses.dedup();
    found.services.sort_unstable();
    found.services.dedup();
    found
}

/// Addresses that came along in the additional section.
fn with_it(message: &Message, host: &Name) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = message
        .additionals
        .iter()
        .take(MOST_RECORDS)
        .filter(|record| record.name == *host)
        .filter_map(|record| match &record.data {
            RData::A(ip) => Some(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
            _ => None,
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME, SRV};

    fn name(text: &str) -> Name {
        absolute(text).unwrap()
    }

    fn answer(id: u16, asked: &str, kind: Kind, code: ResponseCode, answers: Vec<Record>) -> Vec<u8> {
        let mut message = Message::response(id, OpCode::Query);
        message.metadata.response_code = code;
        message.add_query(Query::query(name(asked), kind.record_type()));
        message.add_answers(answers);
        message.to_vec().unwrap()
    }

    #[test]
    fn a_question_can_be_read_again() {
        let bytes = question(7, "rabbit.example", Kind::A, 8192).unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!((message.metadata.id, message.queries[0].name.clone()), (7, name("rabbit.example.")));
        assert_eq!(message.edns.unwrap().max_payload(), 8192);
        assert!(message.metadata.recursion_desired);
        assert_eq!(question(7, &"a".repeat(70), Kind::A, 512), None);
    }

    #[test]
    fn aliases_are_followed() {
        let records = vec![
            Record::from_rdata(name("x.example"), 60, RData::CNAME(CNAME(name("y.example")))),
            Record::from_rdata(name("y.example"), 60, RData::A(A::new(10, 0, 0, 2))),
            Record::from_rdata(name("y.example"), 60, RData::A(A::new(10, 0, 0, 1))),
            Record::from_rdata(name("other.example"), 60, RData::A(A::new(10, 9, 9, 9))),
        ];
        let bytes = answer(9, "x.example", Kind::A, ResponseCode::NoError, records);
        let addresses = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let found = Records { addresses, services: Vec::new() };
        assert_eq!(read(&bytes, 9, "X.example", Kind::A), Some(Answer::Found(found)));
        // Another number or another question is not ours.
        assert_eq!(read(&bytes, 8, "x.example", Kind::A), None);
        assert_eq!(read(&bytes, 9, "z.example", Kind::A), None);
        assert_eq!(read(&bytes, 9, "x.example", Kind::Aaaa), None);
    }

    #[test]
    fn services_come_with_their_addresses() {
        let service = RData::SRV(SRV::new(1, 10, 5672, name("A.example")));
        let mut message = Message::from_vec(&answer(
            1,
            "_amqp._tcp.example",
            Kind::Srv,
            ResponseCode::NoError,
            vec![Record::from_rdata(name("_amqp._tcp.example"), 60, service)],
        ))
        .unwrap();
        message.add_additional(Record::from_rdata(name("a.example"), 60, RData::A(A::new(10, 0, 0, 1))));
        let bytes = message.to_vec().unwrap();
        let Some(Answer::Found(found)) = read(&bytes, 1, "_amqp._tcp.example", Kind::Srv) else { panic!() };
        let addresses = vec!["10.0.0.1".parse().unwrap()];
        let wanted = Service { host: "a.example".to_owned(), port: 5672, weight: 10, addresses };
        assert_eq!(found.services, [wanted]);
    }

    #[test]
    fn every_code_has_its_answer() {
        for (code, expected) in [
            (ResponseCode::NoError, Answer::Empty),
            (ResponseCode::NXDomain, Answer::NoName),
            (ResponseCode::Refused, Answer::Refused),
            (ResponseCode::ServFail, Answer::Other),
        ] {
            let bytes = answer(3, "x.example", Kind::A, code, Vec::new());
            assert_eq!(read(&bytes, 3, "x.example", Kind::A), Some(expected));
        }
        assert_eq!(read(&[0, 3, 0xff], 3, "x.example", Kind::A), Some(Answer::Other));
        assert_eq!(read(&[0, 4, 0xff], 3, "x.example", Kind::A), None);
        assert_eq!(read(&[], 3, "x.example", Kind::A), None);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = read(&bytes, 3, "x.example", Kind::Srv);
        }
    }
}
