//! One stream to an enclave and the messages on it.

use std::time::Duration;

use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::id::{Nonce, Sha256Digest};
use adyton_shared::limits::MAX_FRAME_BYTES;
use adyton_shared::message::{self, Done, FromEnclave, ToEnclave};
use aws_lc_rs::digest::{Context, SHA256};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadHalf, WriteHalf};

use super::ClientError;
use super::result::SealedResult;

/// The enclave may compute for a long time before the first byte of a result, and KMS may throttle.
const DEADLINES: Deadlines = Deadlines { idle: Duration::from_mins(10), frame: Duration::from_mins(2) };
/// How much of a payload goes into one frame, in bytes.
const UPLOAD_FRAME_BYTES: usize = MAX_FRAME_BYTES as usize;

/// A stream to an enclave on which one message follows the other.
pub struct Conversation<S> {
    input: FrameReader<ReadHalf<S>>,
    output: FrameWriter<WriteHalf<S>>,
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
        match self.hear().await? {
            FromEnclave::Document { document } => Ok(document.into_vec()),
            FromEnclave::Refused(refusal) => Err(ClientError::Refused(refusal)),
            FromEnclave::Done(_) => Err(ClientError::UnexpectedMessage),
        }
    }

    /// Sends a job with its payload, and stores what comes back in `result`. Reads and writes at the
    /// same time; a refusal can come at any moment.
    ///
    /// # Errors
    /// [`ClientError`]. The conversation is over then.
    pub async fn job<R: AsyncRead + Unpin>(
        &mut self,
        request: Vec<u8>,
        upload: Upload<'_, R>,
        result: SealedResult,
    ) -> Result<Sent, ClientError> {
        let Self { input, output } = self;
        let mut sending = std::pin::pin!(send(output, request, upload));
        let mut sent = None;
        let mut receiving = std::pin::pin!(receive(input, result));
        let (done, result) = loop {
            tokio::select! {
                biased;
                done = &mut receiving => break done?,
                outcome = &mut sending, if sent.is_none() => match outcome {
                    Ok(digest) => sent = Some(digest),
                    // What the enclave says about it is worth more than a broken pipe.
                    Err(ClientError::Frame(error)) => {
                        return Err(match receiving.await {
                            Err(refused @ ClientError::Refused(_)) => refused,
                            _ => ClientError::Frame(error),
                        });
                    }
                    Err(error) => return Err(error),
                },
            }
        };
        // An enclave cannot be done before it has everything.
        let (input_digest, input_bytes) = match sent {
            Some(sent) => sent,
            None => sending.await?,
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
    request: Vec<u8>,
    upload: Upload<'_, R>,
) -> Result<Digested, ClientError> {
    let Upload { mut payload, hash, progress } = upload;
    let job = ToEnclave::Job { request: ByteBuf::from(request) };
    let bytes = message::encode(&job).map_err(message::MessageError::from)?;
    output.queue(Kind::Control, &bytes)?;
    let mut digest = hash.then(|| Context::new(&SHA256));
    let mut total: u64 = 0;
    let mut buffer = Vec::with_capacity(UPLOAD_FRAME_BYTES);
    loop {
        buffer.clear();
        let ended = fill(&mut payload, &mut buffer).await.map_err(ClientError::Input)?;
        if !buffer.is_empty() {
            output.queue(Kind::Data, &buffer)?;
            if let Some(digest) = &mut digest {
                digest.update(&buffer);
            }
            total += buffer.len() as u64;
        }
        if ended {
            output.queue(Kind::End, &[])?;
        }
        output.flush().await?;
        progress(total);
        if ended {
            return Ok((digest.map(|digest| Sha256Digest::from_digest(&digest.finish())), total));
        }
    }
}

/// Fills the buffer to its capacity; `true` at the end of the input.
async fn fill<R: AsyncRead + Unpin>(input: &mut R, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    while buffer.len() < UPLOAD_FRAME_BYTES {
        let room = (UPLOAD_FRAME_BYTES - buffer.len()) as u64;
        match (&mut *input).take(room).read_buf(buffer).await {
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
    mut result: SealedResult,
) -> Result<(Done, SealedResult), ClientError> {
    let mut frame = Vec::new();
    let mut ended = false;
    loop {
        frame.clear();
        match input.next(&mut frame).await {
            Ok(Kind::Data) if !ended => result.push(&frame).map_err(ClientError::Spool)?,
            Ok(Kind::End) if !ended => ended = true,
            Ok(Kind::Data | Kind::End) => return Err(ClientError::UnexpectedMessage),
            Ok(Kind::Control) => match message::decode(&frame)? {
                FromEnclave::Done(done) if ended => return Ok((done, result)),
                FromEnclave::Refused(refusal) => return Err(ClientError::Refused(refusal)),
                FromEnclave::Done(_) | FromEnclave::Document { .. } => {
                    return Err(ClientError::UnexpectedMessage);
                }
            },
            Err(error) => return Err(error.into()),
        }
    }
}
