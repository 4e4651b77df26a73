//! Frames over streams that misbehave: corrupt, short, interrupted, slow and silent ones.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use adyton_shared::capped::Capped;
use adyton_shared::frame::{Deadlines, FrameError, FrameReader, FrameWriter, Kind};
use adyton_shared::limits::{MAX_FRAME_BYTES, MAX_VSOCK_WRITE_BYTES};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(5), frame: Duration::from_secs(2) };

async fn written(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameWriter::new(&mut bytes, DEADLINES).send(kind, payload).await.unwrap();
    bytes
}

async fn read(bytes: &[u8]) -> Result<(Kind, Vec<u8>), FrameError> {
    let mut payload = Vec::new();
    let kind = FrameReader::new(bytes, DEADLINES).next(&mut payload).await?;
    Ok((kind, payload))
}

/// Gives or takes one byte, and fails with EINTR before each.
struct Halting<S> {
    stream: S,
    interrupt: bool,
}

impl<S> Halting<S> {
    fn interrupted(&mut self) -> bool {
        self.interrupt = !self.interrupt;
        self.interrupt
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Halting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.interrupted() {
            return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        let poll = Pin::new(&mut self.stream).poll_read(cx, &mut one);
        buf.put_slice(one.filled());
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Halting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.interrupted() {
            return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, &buf[..buf.len().min(1)])
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Spoils a byte of every write that is longer than a faulty guest kernel bears.
#[derive(Default)]
struct Faulty(Vec<u8>);

impl AsyncWrite for Faulty {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.extend_from_slice(buf);
        if buf.len() > MAX_VSOCK_WRITE_BYTES {
            let last = self.0.len() - 8;
            self.0[last] ^= 1;
        }
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn frames_of_every_kind_come_back_as_they_were() {
    let largest = vec![7; MAX_FRAME_BYTES as usize];
    for (kind, payload) in
        [(Kind::Control, &b"c"[..]), (Kind::Data, b""), (Kind::Data, &largest), (Kind::End, b"")]
    {
        assert_eq!(read(&written(kind, payload).await).await.unwrap(), (kind, payload.to_vec()));
    }
}

// S-9
#[tokio::test]
async fn a_change_of_any_bit_is_found() {
    let good = written(Kind::Data, b"payload").await;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let mut into = b"before".to_vec();
            let refused = FrameReader::new(&bad[..], DEADLINES).next(&mut into).await;
            assert!(refused.is_err(), "byte {at}, bit {bit}");
            assert_eq!(into, b"before", "nothing of a refused frame is kept");
            if at > 4 {
                assert!(matches!(refused, Err(FrameError::Corrupt)), "byte {at}, bit {bit}: {refused:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_kind_is_named() {
    for number in [0, 4, 255] {
        assert!(matches!(read(&[number, 0, 0, 0, 0]).await, Err(FrameError::UnknownKind(n)) if n == number));
    }
}

// S-5
#[tokio::test]
async fn an_end_within_a_frame_differs_from_an_end_between_frames() {
    let good = written(Kind::Data, b"payload").await;
    assert!(matches!(read(&[]).await, Err(FrameError::Closed)));
    for length in 1..good.len() {
        assert!(matches!(read(&good[..length]).await, Err(FrameError::Truncated)), "{length} bytes");
    }
}

// S-5
#[tokio::test]
async fn interrupted_calls_are_repeated_and_short_ones_continued() {
    let payload = vec![9; 20_000];
    let mut bytes = Vec::new();
    let stream = Halting { stream: &mut bytes, interrupt: false };
    FrameWriter::new(stream, DEADLINES).send(Kind::Data, &payload).await.unwrap();
    let mut into = Vec::new();
    let stream = Halting { stream: &bytes[..], interrupt: false };
    assert_eq!(FrameReader::new(stream, DEADLINES).next(&mut into).await.unwrap(), Kind::Data);
    assert_eq!(into, payload);
}

// S-3
#[tokio::test(start_paused = true)]
async fn a_silent_sender_has_the_idle_deadline() {
    let (_silent, stream) = tokio::io::duplex(64);
    let refused = FrameReader::new(stream, DEADLINES).next(&mut Vec::new()).await;
    assert!(matches!(refused, Err(FrameError::Deadline(after)) if after == DEADLINES.idle));
}

// S-3
#[tokio::test(start_paused = true)]
async fn a_sender_of_one_byte_a_second_has_the_deadline_of_the_frame() {
    let (mut slow, stream) = tokio::io::duplex(64);
    let frame = written(Kind::Data, b"payload").await;
    let sender = async move {
        for byte in frame {
            slow.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let mut reader = FrameReader::new(stream, DEADLINES);
    let mut into = Vec::new();
    let refused = tokio::select! {
        refused = reader.next(&mut into) => refused,
        () = sender => panic!("the whole frame was taken"),
    };
    assert!(matches!(refused, Err(FrameError::Deadline(after)) if after == DEADLINES.frame));
}

// S-3
#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let (stream, _idle) = tokio::io::duplex(64);
    let refused = FrameWriter::new(stream, DEADLINES).send(Kind::Data, &[0; 1000]).await;
    assert!(matches!(refused, Err(FrameError::Deadline(after)) if after == DEADLINES.frame));
}

// S-9
#[tokio::test]
async fn short_writes_survive_a_transport_that_corrupts_long_ones() {
    let payload = vec![5; MAX_FRAME_BYTES as usize];
    let mut faulty = Faulty::default();
    FrameWriter::new(Capped(&mut faulty), DEADLINES).send(Kind::Data, &payload).await.unwrap();
    assert_eq!(read(&faulty.0).await.unwrap().1, payload);
    let mut faulty = Faulty::default();
    FrameWriter::new(&mut faulty, DEADLINES).send(Kind::Data, &payload).await.unwrap();
    assert!(matches!(read(&faulty.0).await, Err(FrameError::Corrupt)));
}

// S-10
#[tokio::test]
async fn a_writer_refuses_what_no_reader_would_take() {
    for kind in [Kind::Control, Kind::Data, Kind::End] {
        let payload = vec![0; kind.limit() as usize + 1];
        let mut bytes = Vec::new();
        let refused = FrameWriter::new(&mut bytes, DEADLINES).send(kind, &payload).await;
        assert!(matches!(refused, Err(FrameError::TooLarge { limit, .. }) if limit == kind.limit()));
        assert!(bytes.is_empty());
    }
}
