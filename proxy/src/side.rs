//! One side of a session: a socket, plain or with TLS on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::reactor::Stream;

/// One side of a session.
#[derive(Debug)]
pub enum Side {
    /// Bytes as they are.
    Plain(Stream),
    /// Encrypted.
    Tls(Box<TlsStream<Stream>>),
}

impl Side {
    /// The socket.
    pub fn stream(&self) -> &Stream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// The socket, when its bytes are sent as they are.
    pub fn plain(&mut self) -> Option<&mut Stream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(_) => None,
        }
    }

    /// Whether it is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The state of the encryption.
    pub fn tls(&self) -> Option<&CommonState> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.get_ref().1),
        }
    }

    /// The name the client asked for (SNI).
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::Tls(tls) => match &**tls {
                TlsStream::Server(server) => server.get_ref().1.server_name(),
                TlsStream::Client(_) => None,
            },
            Self::Plain(_) => None,
        }
    }

    /// Reads what is there; 0 is the end.
    pub fn poll_recv(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_recv(context, buffer),
            Self::Tls(tls) => {
                let mut buffer = ReadBuf::new(buffer);
                match ready!(Pin::new(&mut **tls).poll_read(context, &mut buffer)) {
                    // A FIN without a close_notify, as many send it.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
                    other => Poll::Ready(other.map(|()| buffer.filled().len())),
                }
            }
        }
    }

    /// Writes what fits.
    pub fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_send(context, bytes),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write(context, bytes),
        }
    }

    /// Sends what was written.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_flush(context),
        }
    }

    /// Sends the end of the stream.
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Poll::Ready(stream.finish()),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(context),
        }
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            match std::future::poll_fn(|context| self.poll_send(context, &bytes[sent..])).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => sent += count,
            }
        }
        std::future::poll_fn(|context| self.poll_flush(context)).await
    }
}
