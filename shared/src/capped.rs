//! A stream whose writes stay short.
//!
//! Some guest kernels corrupt vsock packets that span several descriptors (S-9). Every stream over
//! a real `AF_VSOCK` is wrapped in [`Capped`], whatever protocol runs on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::MAX_VSOCK_WRITE_BYTES;

/// Passes everything through, but at most [`MAX_VSOCK_WRITE_BYTES`] in one write.
#[derive(Debug)]
pub struct Capped<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for Capped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Capped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let short = buf.get(..MAX_VSOCK_WRITE_BYTES).unwrap_or(buf);
        Pin::new(&mut self.0).poll_write(cx, short)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Counts the longest write it was offered.
    #[derive(Default)]
    struct Longest(usize);

    impl AsyncWrite for Longest {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0 = self.0.max(buf.len());
            Poll::Ready(Ok(buf.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    // S-9
    #[tokio::test]
    async fn no_write_is_longer_than_a_guest_kernel_bears() {
        let mut capped = Capped(Longest::default());
        capped.write_all(&vec![0; 1 << 20]).await.unwrap();
        assert_eq!(capped.0.0, MAX_VSOCK_WRITE_BYTES);
    }
}
