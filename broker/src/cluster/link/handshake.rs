//! The greeting, from both sides: two nodes make sure of each other before the first frame.
//!
//! What a stranger can make a node do is bounded: a message has a length, all of the greeting has a deadline (the
//! caller's), and before the other side has shown that it knows the secret, a node says nothing about itself.

use super::secret::{MAC, Secret, Use};
use super::settings::{LinkIdentity, PROTOCOLS, clock_ms};
use super::stream::Stream;
use super::token::{self, Token};
use super::{LinkError, PeerAddress};
use crate::tls::nodes;
use broker_core::link::greet::{
    Challenge, Greet, Hello, MAX_MESSAGE, PREFACE, Proof, Purpose, Reason, Refusal, Welcome, Who,
};
use std::io;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Octets of a text from the other side that are shown.
const SHOWN: usize = 512;
/// MACs in a proof at most: one per secret.
const MAX_SECRETS: usize = 2;
/// How long who was refused may take to read why.
const FAREWELL: Duration = Duration::from_millis(300);

/// Who the other side is, after a greeting that went well.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    /// Itself.
    pub(crate) who: Who,
    /// By how many milliseconds its clock is ahead of ours, about.
    pub(crate) clock_ahead_ms: i64,
    /// The secret of the cluster, for who came with a token.
    pub(crate) secret: Option<Secret>,
}

/// What who dials wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) purpose: Purpose,
    pub(super) session: u64,
    /// Whom it should be.
    pub(super) expects: Option<&'a PeerAddress>,
    /// What it uses instead of the secret.
    pub(super) token: Option<&'a Token>,
}

/// What goes wrong in a greeting.
#[derive(Debug)]
pub(super) enum Failure {
    /// The other side is refused, and told so, or it refused.
    Refused(Refusal),
    /// The connection failed.
    Io(io::Error),
    /// What it said belongs to no greeting. Not worth an answer.
    Stranger,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

pub(super) fn refusal(reason: Reason, text: impl Into<String>) -> Refusal {
    Refusal { reason, text: text.into() }
}

/// Greets who listens.
pub(super) async fn dial(
    stream: &mut Stream,
    mine: &LinkIdentity,
    wish: Wish<'_>,
) -> Result<Greeting, LinkError> {
    greet(stream, mine, wish).await.map_err(|failure| match failure {
        Failure::Refused(refusal) => LinkError::Refused(refusal.reason, shown(&refusal.text)),
        Failure::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => LinkError::Connect(
            "it closed the connection without an answer: is this the port for nodes of a Warren broker, \
             and not RabbitMQ's or another program's?"
                .to_owned(),
        ),
        Failure::Io(error) => match error.get_ref().and_then(|it| it.downcast_ref()) {
            Some(rustls::Error::AlertReceived(alert)) => {
                let text = format!(
                    "it does not take this node's certificate ({alert:?}): is it of the same authority?"
                );
                LinkError::Refused(Reason::Tls, text)
            }
            _ => LinkError::Connect(error.to_string()),
        },
        Failure::Stranger => LinkError::Connect(
            "what listens there is no Warren broker: is it the port for nodes, and not RabbitMQ's or \
             another program's?"
                .to_owned(),
        ),
    })
}

async fn greet(stream: &mut Stream, mine: &LinkIdentity, wish: Wish<'_>) -> Result<Greeting, Failure> {
    let claim = wish.token.map(|token| token.claim().clone());
    let hello = Greet::Hello(Hello {
        nonce: rand::random(),
        protocol: PROTOCOLS,
        purpose: wish.purpose,
        token: claim,
    });
    let hello = encoded(&hello)?;
    let mut first = PREFACE.to_vec();
    first.extend_from_slice(&framed(&hello));
    stream.write_all(&first).await?;
    stream.flush().await?;
    let (challenge, Greet::Challenge(said)) = receive(stream).await? else { return Err(Failure::Stranger) };
    agreed(said.protocol, "it")?;
    let secrets: Vec<Secret> = match wish.token {
        Some(token) => vec![token.secret()],
        None => mine.secrets.iter().take(MAX_SECRETS).cloned().collect(),
    };
    let who = encoded_who(&mine.who(wish.session, wish.expects.map(|peer| peer.node)))?;
    let parts: [&[u8]; 3] = [&hello, &challenge, &who];
    let macs = secrets.iter().map(|secret| secret.mac(Use::Dialer, &parts)).collect();
    let asked = clock_ms();
    let proof = encoded(&Greet::Proof(Proof { who: who.clone(), macs }))?;
    send(stream, &proof).await?;
    let (_, Greet::Welcome(welcome)) = receive(stream).await? else { return Err(Failure::Stranger) };
    let answered = clock_ms();
    let sealed = welcome.sealed.as_deref().unwrap_or_default();
    let parts: [&[u8]; 5] = [&hello, &challenge, &proof, &welcome.who, sealed];
    let Some(secret) = secrets.iter().find(|it| it.verify(Use::Acceptor, &parts, &welcome.mac)) else {
        return Err(Failure::Refused(refusal(
            Reason::Cookie,
            "it does not know the secret of this cluster, though it says that this node does",
        )));
    };
    let theirs = Who::decode(&welcome.who).map_err(|_| Failure::Stranger)?;
    check_name(stream, &theirs)?;
    if let Purpose::Lane(_) = wish.purpose {
        check_cluster(mine, &theirs)?;
    }
    if let Some(expected) = wish.expects
        && (theirs.node != Some(expected.node) || theirs.name != expected.name)
    {
        let text = format!(
            "{} is expected there, and it is {}",
            named(Some(expected.node), &expected.name),
            called(&theirs)
        );
        return Err(Failure::Refused(refusal(Reason::Node, text)));
    }
    let sent_parts: [&[u8]; 3] = [&hello, &challenge, &proof];
    let given = welcome.sealed.as_ref().filter(|_| wish.token.is_some());
    let given = given.and_then(|sealed| secret.open(&sent_parts, sealed));
    // Half of the way there and back is over when the clock is read there.
    let middle = asked + answered.saturating_sub(asked) / 2;
    let clock_ahead_ms = ahead(theirs.clock_ms, middle);
    Ok(Greeting { who: theirs, clock_ahead_ms, secret: given })
}

/// Greets who dialed. `admit` decides about a node that knows the secret.
pub(super) async fn accept(
    stream: &mut Stream,
    mine: &LinkIdentity,
    admit: impl FnOnce(&Who, Purpose) -> Result<(), Refusal>,
) -> Result<(Greeting, Purpose), (Failure, Option<Who>)> {
    let mut who = None;
    match answer(stream, mine, admit, &mut who).await {
        Ok(done) => Ok(done),
        Err(failure) => {
            if let Failure::Refused(refusal) = &failure {
                say_farewell(stream, refusal).await;
            }
            Err((failure, who))
        }
    }
}

async fn answer(
    stream: &mut Stream,
    mine: &LinkIdentity,
    admit: impl FnOnce(&Who, Purpose) -> Result<(), Refusal>,
    seen: &mut Option<Who>,
) -> Result<(Greeting, Purpose), Failure> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if preface != PREFACE {
        let (version, same) = preface.split_last().unwrap_or((&0, &[]));
        if same != &PREFACE[..PREFACE.len() - 1] {
            return Err(Failure::Stranger);
        }
        let text = format!(
            "this node does not know version {version} of the greeting: upgrade the older of the two"
        );
        return Err(Failure::Refused(refusal(Reason::Version, text)));
    }
    let (hello, Greet::Hello(said)) = receive(stream).await? else { return Err(Failure::Stranger) };
    agreed(said.protocol, "the node that dialed")?;
    let challenge = encoded(&Greet::Challenge(Challenge { nonce: rand::random(), protocol: PROTOCOLS }))?;
    send(stream, &challenge).await?;
    let (proof, Greet::Proof(shown_proof)) = receive(stream).await? else { return Err(Failure::Stranger) };
    let theirs = Who::decode(&shown_proof.who).map_err(|_| Failure::Stranger)?;
    *seen = Some(theirs.clone());
    if shown_proof.macs.len() > MAX_SECRETS {
        return Err(Failure::Stranger);
    }
    let parts: [&[u8]; 3] = [&hello, &challenge, &shown_proof.who];
    let proved = proved(mine, said.token.as_ref(), &parts, &shown_proof.macs)?;
    if said.token.is_some() && said.purpose != Purpose::Ask {
        return Err(Failure::Refused(refusal(Reason::Token, "a token is for joining, and for nothing else")));
    }
    check_name(stream, &theirs)?;
    if let Purpose::Lane(_) = said.purpose {
        check_cluster(mine, &theirs)?;
    }
    if theirs.expects.is_some() && theirs.expects != mine.node {
        let expected = named(theirs.expects, "another");
        let text = format!("{expected} is expected here, and this is {}", named(mine.node, &mine.name));
        return Err(Failure::Refused(refusal(Reason::Node, text)));
    }
    admit(&theirs, said.purpose).map_err(Failure::Refused)?;
    let sealed = match (&said.token, mine.secrets.first()) {
        (Some(_), Some(own)) => proved.seal(&[&hello, &challenge, &proof], own),
        _ => None,
    };
    let who = encoded_who(&mine.who(0, None))?;
    let parts: [&[u8]; 5] = [&hello, &challenge, &proof, &who, sealed.as_deref().unwrap_or_default()];
    let mac = proved.mac(Use::Acceptor, &parts);
    send(stream, &encoded(&Greet::Welcome(Welcome { who, sealed, mac }))?).await?;
    let clock_ahead_ms = ahead(theirs.clock_ms, clock_ms());
    Ok((Greeting { who: theirs, clock_ahead_ms, secret: None }, said.purpose))
}

/// The secret that the other side knows: one of ours, or what its token says.
fn proved(
    mine: &LinkIdentity,
    claim: Option<&broker_core::link::greet::Claim>,
    parts: &[&[u8]],
    macs: &[[u8; MAC]],
) -> Result<Secret, Failure> {
    let (candidates, reason, text) = match claim {
        None => (mine.secrets.clone(), Reason::Cookie, WRONG_COOKIE.to_owned()),
        Some(claim) => {
            let secrets = mine.secrets.iter().filter_map(|secret| token::secret_of(claim, secret).ok());
            let text = "the join token was not made in this cluster, or its cookie was replaced since: make a new one";
            (secrets.collect(), Reason::Token, text.to_owned())
        }
    };
    let knows = |secret: &Secret| macs.iter().any(|mac| secret.verify(Use::Dialer, parts, mac));
    let Some(secret) = candidates.into_iter().find(knows) else {
        return Err(Failure::Refused(refusal(reason, text)));
    };
    // Only who has the token is told what is wrong with it.
    if let Some(claim) = claim {
        let bad = |text: String| Failure::Refused(refusal(Reason::Token, text));
        token::still_good(claim, SystemTime::now()).map_err(|error| bad(error.to_string()))?;
        if claim.cluster_id != mine.cluster_id {
            return Err(bad("the join token is for another cluster".to_owned()));
        }
    }
    Ok(secret)
}

/// What RabbitMQ's tools say about it, and what to do.
const WRONG_COOKIE: &str = "authentication failed: the cookies differ. Copy the cookie file of one node to the other \
                            (mode 600, same owner as the process), and restart it";

/// A certificate names its node.
fn check_name(stream: &Stream, theirs: &Who) -> Result<(), Failure> {
    if theirs.name.is_empty() || theirs.name.len() > 255 || theirs.name.chars().any(char::is_control) {
        return Err(Failure::Stranger);
    }
    let Some(certificate) = stream.certificate() else { return Ok(()) };
    match nodes::node_name(certificate) {
        Some(name) if name == theirs.name => Ok(()),
        name => {
            let name = name.unwrap_or_else(|| "nobody".to_owned());
            let text = format!("{} shows the certificate of {}", theirs.name, shown(&name));
            Err(Failure::Refused(refusal(Reason::Tls, text)))
        }
    }
}

fn check_cluster(mine: &LinkIdentity, theirs: &Who) -> Result<(), Failure> {
    let (me, it) = (&mine.name, &theirs.name);
    let refused = |reason, text| Err(Failure::Refused(refusal(reason, text)));
    if theirs.cluster_id != mine.cluster_id {
        return refused(Reason::Cluster, format!("{it} belongs to another cluster than {me}"));
    }
    let (ours, its) = (mine.generation, theirs.generation);
    if ours != its {
        let behind = if its < ours { it } else { me };
        let text = format!(
            "{behind} belongs to what the cluster was before it was recovered with a new generation ({it} has {its}, \
             {me} has {ours}): reset {behind} and let it join again"
        );
        return refused(Reason::Generation, text);
    }
    if theirs.node.is_none() || mine.node.is_none() {
        let stranger = if theirs.node.is_none() { it } else { me };
        return refused(Reason::NotMember, format!("{stranger} is no member of the cluster"));
    }
    Ok(())
}

fn agreed(theirs: broker_core::link::greet::Protocols, whose: &str) -> Result<(), Failure> {
    PROTOCOLS.agree(theirs).map(drop).ok_or_else(|| {
        let text = format!(
            "{whose} speaks versions {} to {} of the protocol between nodes, and the other {} to {}: upgrade the \
             older of the two",
            theirs.oldest, theirs.newest, PROTOCOLS.oldest, PROTOCOLS.newest
        );
        Failure::Refused(refusal(Reason::Version, text))
    })
}

/// A node in words.
pub(super) fn called(who: &Who) -> String {
    named(who.node, &who.name)
}

fn named(node: Option<broker_core::ids::NodeId>, name: &str) -> String {
    match node {
        Some(node) => format!("{name} (node {node})"),
        None => name.to_owned(),
    }
}

fn ahead(theirs_ms: u64, ours_ms: u64) -> i64 {
    let ahead = i128::from(theirs_ms) - i128::from(ours_ms);
    i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX })
}

/// A text that another node sent, fit to be shown.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(SHOWN).collect()
}

/// Says why, and gives the other side the time to read it: closing with something unread would take it away.
pub(super) async fn say_farewell(stream: &mut Stream, refusal: &Refusal) {
    let text = shown(&refusal.text);
    let Ok(octets) = encoded(&Greet::Refusal(Refusal { reason: refusal.reason, text })) else { return };
    let farewell = async {
        send(stream, &octets).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        for _ in 0..64 {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok::<(), Failure>(())
    };
    // It may have gone already.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

fn encoded(message: &Greet) -> Result<Vec<u8>, Failure> {
    message.encode().map_err(|error| Failure::Io(io::Error::other(error)))
}

fn encoded_who(who: &Who) -> Result<Vec<u8>, Failure> {
    who.encode().map_err(|error| Failure::Io(io::Error::other(error)))
}

fn framed(message: &[u8]) -> Vec<u8> {
    // No message is longer than some thousand octets.
    let mut octets = u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    octets.extend_from_slice(message);
    octets
}

async fn send(stream: &mut Stream, message: &[u8]) -> Result<(), Failure> {
    stream.write_all(&framed(message)).await?;
    Ok(stream.flush().await?)
}

/// The next message, and its octets. A refusal is an error.
async fn receive(stream: &mut Stream) -> Result<(Vec<u8>, Greet), Failure> {
    let length = stream.read_u32_le().await? as usize;
    if length > MAX_MESSAGE {
        return Err(Failure::Stranger);
    }
    let mut octets = vec![0; length];
    stream.read_exact(&mut octets).await?;
    match Greet::decode(&octets).map_err(|_| Failure::Stranger)? {
        Greet::Refusal(refusal) => Err(Failure::Refused(refusal)),
        message => Ok((octets, message)),
    }
}
