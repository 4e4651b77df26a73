//! Copies bytes both ways until both directions have ended.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

const BUFFER_BYTES: usize = 64 * 1024;

/// Copies until each side has said that it will write no more, and passes that on (half-close).
/// Nothing moving in either direction for `idle` is an error.
pub(super) async fn both_ways<A, B>(
    a: A,
    b: B,
    idle: Duration,
    a_to_b: &AtomicU64,
    b_to_a: &AtomicU64,
) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (moved, last) = watch::channel(Instant::now());
    let (mut a_read, mut a_write) = tokio::io::split(a);
    let (mut b_read, mut b_write) = tokio::io::split(b);
    let copying = async {
        tokio::try_join!(
            one_way(&mut a_read, &mut b_write, &moved, a_to_b),
            one_way(&mut b_read, &mut a_write, &moved, b_to_a),
        )
    };
    tokio::select! {
        done = copying => done.map(|_| ()),
        () = silence(last, idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn one_way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &watch::Sender<Instant>,
    counter: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => return shut(to).await,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        moved.send_replace(Instant::now());
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match to.write(rest).await {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    moved.send_replace(Instant::now());
                    counter.fetch_add(written as u64, Ordering::Relaxed);
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        to.flush().await?;
    }
}

/// The other side may have closed completely by now, which is no error of this direction.
async fn shut(to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    match to.shutdown().await {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}

async fn silence(last: watch::Receiver<Instant>, idle: Duration) {
    loop {
        let until = *last.borrow() + idle;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}
