//! One stream to an enclave and the messages on it.

use std::time::Duration;

use adyton_shared::frame::{Deadlines, FrameError, FrameReader, FrameWriter, Kind};
use adyton_shared::id::{Nonce, Sha256Digest};
use adyton_shared::limits::MAX_FRAME_BYTES;
use adyton_shared::message::{self, Done, FromEnclave, SealedRequest, ToEnclave};
use adyton_shared::sealed_request::ReplyKey;
use aws_lc_rs::digest::{Context, SHA256};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::timeout;

use super::ClientError;
use super::result::SealedResult;

/// For one frame. The enclave takes no payload while it waits for KMS. How long nothing may come is
/// another matter: a digest says nothing before all of a payload has gone out.
const DEADLINES: Deadlines = Deadlines { idle: Duration::MAX, frame: Duration::from_mins(2) };
/// For the answer to a challenge.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// How long nothing may move in either direction during a job. The enclave itself gives up after two
/// minutes without payload, and after half a minute without an answer of KMS.
const SILENCE: Duration = Duration::from_secs(150);
/// How long a broken connection may take to deliver the reason.
const LINGER: Duration = Duration::from_secs(5);
/// How much of a payload goes into one frame, in bytes.
const UPLOAD_FRAME_BYTES: usize = MAX_FRAME_BYTES as usize;

/// A stream to an enclave on which one message follows the other.
pub struct Conversation<S> {
    input: FrameReader<ReadHalf<S>>,
    output: FrameWriter<WriteHalf<S>>,
}

/// A signed request as it goes out.
#[derive(Debug)]
pub enum Order {
    /// In the open: who carries it reads the job and the claims.
    Open(Vec<u8>),
    /// Sealed by [`super::seal_request`].
    Sealed {
        /// What is sent.
        sealed: SealedRequest,
        /// Opens the answer.
        reply: ReplyKey,
    },
}

impl From<Vec<u8>> for Order {
    fn from(signed: Vec<u8>) -> Self {
        Self::Open(signed)
    }
}

impl Order {
    fn split(self) -> (ToEnclave, Option<ReplyKey>) {
        match self {
            Self::Open(signed) => (ToEnclave::Job { request: ByteBuf::from(signed) }, None),
            Self::Sealed { sealed, reply } => (ToEnclave::SealedJob(sealed), Some(reply)),
        }
    }
}

/// A payload to send.
pub struct Upload<'a, R> {
    /// The encrypted payload.
    pub payload: R,
    /// Whether to hash it while sending, to compare with the receipt. One SHA-256 of all bytes.
    pub hash: bool,
    /// Told the number of bytes sent so far.
    pub progress: &'a mut (dyn FnMut(u64) + Send),
}

/// A job that the enclave says it has done. Nothing of this is verified yet.
pub struct Sent {
    /// What the enclave sent last.
    pub done: Done,
    /// The result, still sealed.
    pub result: SealedResult,
    /// Digest of what was sent, if asked for.
    pub input_digest: Option<Sha256Digest>,
    /// Length of what was sent, in bytes.
    pub input_bytes: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    /// Begins a conversation on a fresh stream.
    pub fn new(stream: S) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { input: FrameReader::new(read, DEADLINES), output: FrameWriter::new(write, DEADLINES) }
    }

    /// Asks for an identity document over this nonce.
    ///
    /// # Errors
    /// [`ClientError`]; the document itself is not looked at.
    pub async fn attest(&mut self, nonce: Nonce) -> Result<Vec<u8>, ClientError> {
        self.say(&ToEnclave::Attest { nonce }).await?;
        let heard = timeout(ANSWER_DEADLINE, self.hear()).await;
        match heard.map_err(|_| FrameError::Deadline(ANSWER_DEADLINE))?? {
            FromEnclave::Document { document } => Ok(document.into_vec()),
            FromEnclave::Refused(refusal) => Err(ClientError::Refused(refusal)),
            FromEnclave::Done(_) | FromEnclave::SealedDone { .. } => Err(ClientError::UnexpectedMessage),
        }
    }

    /// Sends a job with its payload, and stores what comes back in `result`. Reads and writes at the
    /// same time; a refusal can come at any moment.
    ///
    /// # Errors
    /// [`ClientError`]. The conversation is over then.
    pub async fn job<R: AsyncRead + Unpin>(
        &mut self,
        request: impl Into<Order>,
        upload: Upload<'_, R>,
        result: SealedResult,
    ) -> Result<Sent, ClientError> {
        let Self { input, output } = self;
        let (request, reply) = request.into().split();
        let (moved, mut activity) = watch::channel(());
        let mut sending = std::pin::pin!(send(output, &request, upload, &moved));
        let mut sent = None;
        let mut receiving = std::pin::pin!(receive(input, reply, result, &moved));
        let mut silence =
            std::pin::pin!(async { while let Ok(Ok(())) = timeout(SILENCE, activity.changed()).await {} });
        let (done, result) = loop {
            tokio::select! {
                biased;
                done = &mut receiving => break done?,
                outcome = &mut sending, if sent.is_none() => match outcome {
                    Ok(digest) => sent = Some(digest),
                    // What the enclave says about it is worth more than a broken pipe.
                    Err(ClientError::Frame(error)) => {
                        return Err(match timeout(LINGER, receiving).await {
                            Ok(Err(refused @ ClientError::Refused(_))) => refused,
                            _ => ClientError::Frame(error),
                        });
                    }
                    Err(error) => return Err(error),
                },
                () = &mut silence => return Err(FrameError::Deadline(SILENCE).into()),
            }
        };
        // An enclave cannot be done before it has everything. If it has, sending is over, too.
        let (input_digest, input_bytes) = match sent {
            Some(sent) => sent,
            None => timeout(LINGER, sending).await.map_err(|_| ClientError::UnexpectedMessage)??,
        };
        Ok(Sent { done, result, input_digest, input_bytes })
    }

    async fn say(&mut self, message: &ToEnclave) -> Result<(), ClientError> {
        let bytes = message::encode(message).map_err(message::MessageError::from)?;
        Ok(self.output.send(Kind::Control, &bytes).await?)
    }

    async fn hear(&mut self) -> Result<FromEnclave, ClientError> {
        let mut bytes = Vec::new();
        match self.input.next(&mut bytes).await? {
            Kind::Control => Ok(message::decode(&bytes)?),
            Kind::Data | Kind::End => Err(ClientError::UnexpectedMessage),
        }
    }
}

type Digested = (Option<Sha256Digest>, u64);

async fn send<W: AsyncWrite + Unpin, R: AsyncRead + Unpin>(
    output: &mut FrameWriter<W>,
    request: &ToEnclave,
    upload: Upload<'_, R>,
    moved: &watch::Sender<()>,
) -> Result<Digested, ClientError> {
    let Upload { mut payload, hash, progress } = upload;
    let bytes = message::encode(request).map_err(message::MessageError::from)?;
    output.queue(Kind::Control, &bytes)?;
    let mut digest = hash.then(|| Context::new(&SHA256));
    let mut total: u64 = 0;
    loop {
        let mut frame = output.data_frame();
        let ended = fill(&mut payload, frame.buffer()).await.map_err(ClientError::Input)?;
        if let Some(digest) = &mut digest {
            digest.update(frame.payload());
        }
        total += frame.payload().len() as u64;
        frame.queue()?;
        if ended {
            output.queue(Kind::End, &[])?;
        }
        output.flush().await?;
        moved.send_replace(());
        progress(total);
        if ended {
            return Ok((digest.map(|digest| Sha256Digest::from_digest(&digest.finish())), total));
        }
    }
}

/// Appends what is there, up to a frame; `true` at the end of the input. Nothing is held back until a
/// frame is full: to the enclave, a slow source would look like a dead one.
async fn fill<R: AsyncRead + Unpin>(input: &mut R, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    let (begin, full) = (buffer.len(), buffer.len() + UPLOAD_FRAME_BYTES);
    buffer.reserve(UPLOAD_FRAME_BYTES);
    while buffer.len() < full {
        let holds_some = buffer.len() > begin;
        let room = (full - buffer.len()) as u64;
        let mut rest = (&mut *input).take(room);
        let read = tokio::select! {
            biased;
            read = rest.read_buf(buffer) => read,
            () = std::future::ready(()), if holds_some => return Ok(false),
        };
        match read {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

async fn receive<R: AsyncRead + Unpin>(
    input: &mut FrameReader<R>,
    mut reply: Option<ReplyKey>,
    mut result: SealedResult,
    moved: &watch::Sender<()>,
) -> Result<(Done, SealedResult), ClientError> {
    let mut frame = Vec::new();
    let mut ended = false;
    loop {
        frame.clear();
        match input.next(&mut frame).await {
            Ok(Kind::Data) if !ended => {
                result.push(&frame).map_err(ClientError::Spool)?;
                moved.send_replace(());
            }
            Ok(Kind::End) if !ended => ended = true,
            Ok(Kind::Data | Kind::End) => return Err(ClientError::UnexpectedMessage),
            Ok(Kind::Control) => match message::decode(&frame)? {
                // As the request went out, so the answer comes back.
                FromEnclave::Done(done) if ended && reply.is_none() => return Ok((done, result)),
                FromEnclave::SealedDone { sealed } if ended => {
                    let key = reply.take().ok_or(ClientError::UnexpectedMessage)?;
                    let done = key.open(&sealed).map_err(|_| ClientError::ResultTampered)?;
                    return Ok((done, result));
                }
                FromEnclave::Refused(refusal) => return Err(ClientError::Refused(refusal)),
                FromEnclave::Done(_) | FromEnclave::SealedDone { .. } | FromEnclave::Document { .. } => {
                    return Err(ClientError::UnexpectedMessage);
                }
            },
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context as TaskContext, Poll};
    use tokio::io::{AsyncWriteExt as _, ReadBuf, duplex};

    // S-5
    #[tokio::test]
    async fn a_slow_source_is_sent_as_it_comes_and_a_quick_one_in_one_frame() {
        let (mut source, mut input) = duplex(64);
        let mut buffer = Vec::new();
        source.write_all(b"first").await.unwrap();
        assert!(!fill(&mut input, &mut buffer).await.unwrap());
        assert_eq!(buffer, b"first");
        drop(source);
        buffer.clear();
        assert!(fill(&mut input, &mut buffer).await.unwrap());
        assert!(buffer.is_empty());
        assert!(fill(&mut &b"whole"[..], &mut buffer).await.unwrap());
        assert_eq!(buffer, b"whole");
    }

    /// Interrupted before every byte.
    struct Awkward(&'static [u8], bool);

    impl AsyncRead for Awkward {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut TaskContext<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            self.1 = !self.1;
            if self.1 {
                return Poll::Ready(Err(std::io::ErrorKind::Interrupted.into()));
            }
            if let Some((first, rest)) = self.0.split_first() {
                buf.put_slice(&[*first]);
                self.0 = rest;
            }
            Poll::Ready(Ok(()))
        }
    }

    // S-5
    #[tokio::test]
    async fn an_interrupted_source_is_read_to_its_end() {
        let mut buffer = Vec::new();
        assert!(fill(&mut Awkward(b"all of it", false), &mut buffer).await.unwrap());
        assert_eq!(buffer, b"all of it");
    }

    /// Takes a job and the payload's first frame, and reads on without ever answering.
    async fn mute(enclave: tokio::io::DuplexStream) {
        let mut frames = FrameReader::new(enclave, DEADLINES);
        let mut sink = Vec::new();
        while frames.next(&mut sink).await.is_ok() {
            sink.clear();
        }
        std::future::pending::<()>().await;
    }

    // S-3
    #[tokio::test(start_paused = true)]
    async fn an_enclave_that_says_nothing_is_given_up_but_not_while_a_payload_goes_out() {
        let begin = tokio::time::Instant::now();
        let (near, far) = duplex(64);
        let silent = tokio::spawn(mute(far));
        let nonce = Nonce::try_from(vec![1; 16]).unwrap();
        let answer = Conversation::new(near).attest(nonce).await;
        assert!(matches!(answer, Err(ClientError::Frame(FrameError::Deadline(ANSWER_DEADLINE)))));
        assert_eq!(begin.elapsed(), ANSWER_DEADLINE);
        silent.abort();

        let (near, far) = duplex(64);
        let silent = tokio::spawn(mute(far));
        let (mut source, payload) = duplex(64);
        let feeding = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(100)).await;
                source.write_all(b"x").await.unwrap();
            }
        });
        let begin = tokio::time::Instant::now();
        let upload = Upload { payload, hash: true, progress: &mut |_| {} };
        let folder = tempfile::tempdir().unwrap();
        let sent = Conversation::new(near).job(vec![1], upload, SealedResult::in_folder(folder.path())).await;
        assert!(matches!(sent, Err(ClientError::Frame(FrameError::Deadline(SILENCE)))));
        assert_eq!(begin.elapsed(), Duration::from_secs(10 * 100) + SILENCE);
        feeding.await.unwrap();
        silent.abort();
    }
}
