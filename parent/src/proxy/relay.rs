//! Carries bytes between two streams, each direction to its own end.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::counters::Counters;

/// One for each direction of each connection.
const BUFFER_BYTES: usize = 16 * 1024;

/// Carries bytes both ways until both directions have ended. An end on one side is passed on to the
/// other, whose answer is still carried back.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] if nothing moves for `idle`; otherwise what a stream failed with.
pub(super) async fn relay<E, D>(
    enclave: E,
    destination: D,
    idle: Duration,
    counters: &Counters,
) -> io::Result<()>
where
    E: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    let (enclave_read, enclave_write) = tokio::io::split(enclave);
    let (destination_read, destination_write) = tokio::io::split(destination);
    let (moved, activity) = watch::channel(());
    let out = copy(enclave_read, destination_write, counters.bytes(false), &moved);
    let back = copy(destination_read, enclave_write, counters.bytes(true), &moved);
    let both = async {
        let (out, back) = tokio::try_join!(out, back)?;
        // A side that stopped reading has still been told everything that the other one said.
        out.and(back)
    };
    tokio::select! {
        ended = both => ended,
        error = idle_for(idle, activity) => Err(error),
    }
}

/// Waits until nothing has moved for so long.
async fn idle_for(idle: Duration, mut activity: watch::Receiver<()>) -> io::Error {
    while let Ok(Ok(())) = timeout(idle, activity.changed()).await {}
    io::ErrorKind::TimedOut.into()
}

/// Carries one direction to its end. A failed write ends only this direction and is the inner result;
/// a failed read ends all, because passing it on as a clean end would hide that something is missing.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
    moved: &watch::Sender<()>,
) -> io::Result<io::Result<()>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => return Ok(to.shutdown().await.or_else(already_closed)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        moved.send_replace(());
        if let Err(error) = write_all(&mut to, &buffer[..count]).await {
            return Ok(Err(error));
        }
        bytes.fetch_add(count as u64, Ordering::Relaxed);
        moved.send_replace(());
    }
}

/// As [`AsyncWriteExt::write_all`], but goes on after an interruption (S-5).
async fn write_all(to: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes).await {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    to.flush().await
}

fn already_closed(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::{DuplexStream, ReadBuf, duplex};

    /// Every second call is interrupted, and every other one moves a single byte.
    struct Awkward {
        inner: DuplexStream,
        interrupt: bool,
    }

    impl Awkward {
        fn interrupted(&mut self) -> bool {
            self.interrupt = !self.interrupt;
            self.interrupt
        }
    }

    impl AsyncRead for Awkward {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.interrupted() {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            let mut one = [0];
            let mut short = ReadBuf::new(&mut one);
            let polled = Pin::new(&mut self.inner).poll_read(cx, &mut short);
            buf.put_slice(short.filled());
            polled
        }
    }

    impl AsyncWrite for Awkward {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            if self.interrupted() {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            Pin::new(&mut self.inner).poll_write(cx, &buf[..buf.len().min(1)])
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }
    }

    // S-5
    #[tokio::test]
    async fn interrupted_and_short_calls_lose_nothing_in_either_direction() {
        let (mut enclave, near) = duplex(64);
        let (mut server, far) = duplex(64);
        let near = Awkward { inner: near, interrupt: false };
        let far = Awkward { inner: far, interrupt: true };
        let counters = Counters::default();
        let sent: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let ends = async {
            let (mut question, mut answer) = (Vec::new(), Vec::new());
            let ask = async {
                enclave.write_all(&sent).await.unwrap();
                enclave.shutdown().await.unwrap();
                enclave.read_to_end(&mut answer).await.unwrap();
            };
            let serve = async {
                server.read_to_end(&mut question).await.unwrap();
                server.write_all(&sent).await.unwrap();
                server.shutdown().await.unwrap();
            };
            tokio::join!(ask, serve);
            (question, answer)
        };
        let (relayed, (question, answer)) =
            tokio::join!(relay(near, far, Duration::from_mins(1), &counters), ends);
        relayed.unwrap();
        assert!(question == sent && answer == sent);
        assert_eq!((counters.read().bytes_from_enclave, counters.read().bytes_to_enclave), (5000, 5000));
    }

    // S-3
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_carries_nothing_ends_and_one_that_trickles_does_not() {
        let (mut enclave, near) = duplex(64);
        let (_server, far) = duplex(64);
        let counters = Counters::default();
        let idle = Duration::from_mins(1);
        let begin = tokio::time::Instant::now();
        let trickle = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                enclave.write_all(b"x").await.unwrap();
            }
        };
        let (ended, ()) = tokio::join!(relay(near, far, idle, &counters), trickle);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), Duration::from_secs(10 * 50 + 60));
    }
}
