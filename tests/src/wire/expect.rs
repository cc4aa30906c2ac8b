//! What a test says about an answer: that it comes, that nothing comes, that something is refused and how.

use super::{Client, Close, PATIENCE, Received};
use amqp::method::{Method, channel, connection, queue};
use amqp::reply_code;
use std::io::Write as _;
use std::time::{Duration, Instant};

impl Client {
    /// Sends a method and waits for its answer, which must be what comes next on its channel, but for
    /// deliveries: those stay where they are.
    ///
    /// # Panics
    /// Something else comes.
    pub fn call<'m>(&mut self, number: u16, method: impl Into<Method<'m>>, answer: &str) -> Received {
        self.send(number, method);
        let received =
            self.answer(number).unwrap_or_else(|| panic!("the broker hung up instead of {answer}"));
        assert_eq!(received.name(), answer, "{:?}", received.method());
        received
    }

    /// What comes next on this channel and is no delivery, or the end of the connection.
    pub(super) fn answer(&mut self, number: u16) -> Option<Received> {
        self.take(|it| match it.name() {
            "connection.close" => true,
            "basic.deliver" => false,
            _ => it.channel == number,
        })
    }

    /// What comes next; it must have this name.
    ///
    /// # Panics
    /// It is something else.
    pub fn expect(&mut self, name: &str) -> Received {
        let received = self.receive().unwrap_or_else(|| panic!("the broker hung up instead of {name}"));
        assert_eq!(received.name(), name, "{:?}", received.method());
        received
    }

    /// What comes next on this channel; it must have this name. The end of the connection counts for every
    /// channel.
    ///
    /// # Panics
    /// It is something else.
    pub fn expect_on(&mut self, number: u16, name: &str) -> Received {
        let closed = |it: &Received| it.name() == "connection.close";
        let received = self.take(|it| it.channel == number || closed(it));
        let received = received.unwrap_or_else(|| panic!("the broker hung up instead of {name}"));
        assert_eq!(received.name(), name, "{:?}", received.method());
        received
    }

    /// Fails if anything but heartbeats comes within this time.
    ///
    /// # Panics
    /// Something comes, or the broker hangs up.
    pub fn expect_silence(&mut self, time: Duration) {
        assert!(self.is_silent(time), "expected nothing, got {:?}", self.names());
    }

    /// Whether nothing but heartbeats comes within this time, and nothing is left that came before.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.listen(time);
        self.events.is_empty()
    }

    /// Takes in what comes within this time.
    fn listen(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.stream.set_read_timeout(Some(left)).expect("a socket option");
            match self.read_or_wait() {
                Ok(open) => assert!(open, "the broker hung up"),
                Err(_) => break,
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    }

    /// Nothing is on its way on this channel: a question about the queue is answered, and nothing follows.
    ///
    /// # Panics
    /// Something was on its way.
    pub fn expect_nothing(&mut self, number: u16, queue: &str) {
        let passive = queue::Declare { queue, passive: true, ..queue::Declare::default() };
        self.send(number, passive);
        self.expect_on(number, "queue.declare-ok");
        // RabbitMQ answers the question past what waits in front of the queue.
        self.listen(Duration::from_millis(100));
        let come: Vec<_> = self.events.iter().filter(|it| it.channel == number).collect();
        assert!(come.is_empty(), "expected nothing, got {come:?}");
    }

    /// The broker closed this channel for this reason. The text is without the name of the code before it.
    /// The channel is open again afterwards.
    ///
    /// # Panics
    /// It did not, or for another reason.
    pub fn expect_channel_close(&mut self, number: u16, code: u16, text: &str, at: (u16, u16)) {
        let close = self.expect_on(number, "channel.close").close();
        let text = full_text(code, text);
        assert_eq!(close, Close { channel: number, code, text, at });
        self.put(number, channel::CloseOk);
        self.open(number);
    }

    /// The broker closed the connection for this reason, and hangs up once that is answered.
    ///
    /// # Panics
    /// It did not, or for another reason.
    pub fn expect_connection_close(&mut self, code: u16, text: &str, at: (u16, u16)) {
        let received = self.take(|it| it.name().ends_with(".close")).expect("a close before the end");
        let text = full_text(code, text);
        assert_eq!(received.close(), Close { channel: 0, code, text, at });
        self.put(0, connection::CloseOk);
        let answer = self.take_output();
        // It may not wait for the answer.
        let _ = self.stream.write_all(&answer);
        self.expect_end();
    }

    /// The broker hangs up.
    ///
    /// # Panics
    /// It says something before.
    pub fn expect_end(&mut self) {
        if let Some(received) = self.receive() {
            panic!("expected the end, got {:?}", received.method());
        }
        assert!(self.input.is_empty(), "before the end came {:?}", self.input);
    }

    /// Sends a method that is refused with an error of its channel; the channel is open again afterwards.
    ///
    /// # Panics
    /// It is not refused, or for another reason.
    pub fn refused<'m>(&mut self, number: u16, method: impl Into<Method<'m>>, code: u16, text: &str) {
        let method = method.into();
        self.send(number, method);
        self.expect_channel_close(number, code, text, (method.class_id(), method.method_id()));
    }

    /// Sends a method that ends the connection.
    ///
    /// # Panics
    /// It does not, or for another reason.
    pub fn fatal<'m>(&mut self, number: u16, method: impl Into<Method<'m>>, code: u16, text: &str) {
        let method = method.into();
        self.send(number, method);
        self.expect_connection_close(code, text, (method.class_id(), method.method_id()));
    }
}

/// `NOT_FOUND - no queue …`.
fn full_text(code: u16, text: &str) -> String {
    format!("{} - {text}", reply_code::name(code).expect("a reply code that has a name"))
}
