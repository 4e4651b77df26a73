//! A guest kernel that corrupts long packets: 100 MiB in, 100 MiB out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use adyton_enclave::platform::Stream;
use adyton_shared::ErrorCode;
use adyton_shared::capped::Capped;
use adyton_shared::frame::{FrameError, FrameReader, FrameWriter, Kind};
use adyton_shared::id::Sha256Digest;
use adyton_shared::job::{Input, Job};
use adyton_shared::limits::MAX_VSOCK_WRITE_BYTES;
use adyton_shared::message::{self, FromEnclave, ToEnclave};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex, split};

use crate::world::{PATIENT, Running, Talk, World, job, key, message, select};

/// Spoils a byte of every write that is longer than a faulty guest kernel bears.
struct Faulty(DuplexStream);

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.len() <= MAX_VSOCK_WRITE_BYTES {
            return Pin::new(&mut self.0).poll_write(cx, buf);
        }
        let mut spoilt = buf.to_vec();
        spoilt[100] ^= 1;
        Pin::new(&mut self.0).poll_write(cx, &spoilt)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Longer than any write, so that writes are not short by themselves.
const PIPE_BYTES: usize = 1 << 20;

/// A connection whose two ends run on faulty kernels and keep their writes short or not.
fn connect(running: &Running, parent_is_capped: bool, enclave_is_capped: bool) -> Stream {
    let end = |stream, capped| -> Stream {
        if capped { Box::new(Capped(Faulty(stream))) } else { Box::new(Faulty(stream)) }
    };
    let (near, far) = duplex(PIPE_BYTES);
    running.arrive(Ok(end(far, enclave_is_capped)));
    end(near, parent_is_capped)
}

fn select_ids() -> Job {
    job(Input::Ndjson, vec![select(&["id"])])
}

fn records(bytes: usize) -> Vec<u8> {
    let record = format!("{{\"id\":\"{}\"}}\n", "0123456789".repeat(20)).into_bytes();
    record.repeat(bytes / record.len() + 1)
}

// S-9
#[tokio::test(start_paused = true)]
async fn a_hundred_mebibytes_in_and_out_arrive_whole_when_writes_stay_short() {
    const BYTES: usize = 100 << 20;
    let running = World::new().serve().await;
    let (payload, expected) = {
        let records = records(BYTES);
        (message(&records), Sha256Digest::of(&records))
    };
    let request = running.request(select_ids());
    let done = Talk::over(connect(&running, true, true)).run(&request, &payload).await.unwrap();
    assert!(done.output.len() >= BYTES);
    assert_eq!(Sha256Digest::of(&done.output), expected);
    assert_eq!(done.receipt.output_digest, expected);
    assert_eq!(done.receipt.input_digest, Sha256Digest::of(&payload));
}

// S-9
#[tokio::test(start_paused = true)]
async fn a_long_write_of_the_parent_is_caught_by_its_first_checksum() {
    let running = World::new().serve().await;
    let payload = message(&records(4 << 20));
    let request = running.request(select_ids());
    let mut talk = Talk::over(connect(&running, false, true));
    talk.start(&request).await;
    talk.send(Kind::Data, &payload[..200_000]).await.unwrap();
    assert_eq!(talk.refusal().await, ErrorCode::CorruptFrame.into());
    assert!(talk.hangs_up().await);
}

// S-9
#[tokio::test(start_paused = true)]
async fn a_long_write_of_the_enclave_is_caught_by_its_first_checksum() {
    let running = World::new().serve().await;
    let payload = message(&records(4 << 20));
    let signed = running.request(select_ids()).sign(&key(1)).unwrap();
    let (read, write) = split(connect(&running, true, false));
    let mut writer = FrameWriter::new(write, PATIENT);
    let start = message::encode(&ToEnclave::Job { request: ByteBuf::from(signed) }).unwrap();
    writer.send(Kind::Control, &start).await.unwrap();
    let send = async {
        for part in payload.chunks(200_000) {
            writer.send(Kind::Data, part).await.unwrap();
        }
    };
    let read = async {
        let (mut reader, mut frame) = (FrameReader::new(read, PATIENT), Vec::new());
        loop {
            match reader.next(&mut frame).await {
                Ok(Kind::Data | Kind::End) => frame.clear(),
                Ok(Kind::Control) => panic!("{:?}", message::decode::<FromEnclave>(&frame)),
                Err(error) => return error,
            }
        }
    };
    let error = tokio::select! {
        error = read => error,
        () = send => panic!("all of it was taken"),
    };
    assert!(matches!(error, FrameError::Corrupt), "{error}");
}
