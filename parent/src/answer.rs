//! Questions of enclaves and their answers: one control frame each, one after the other, until the enclave leaves.

use std::future::Future;
use std::time::Duration;

use adyton_shared::frame::{Deadlines, FrameError, FrameReader, FrameWriter, Kind};
use adyton_shared::message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(30), frame: Duration::from_secs(5) };

/// Why a conversation ended before the enclave ended it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConverseError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the enclave asked something else than what is answered on this port")]
    Unexpected,
}

/// Answers questions of one kind on a stream. Encoded answers may hold secrets and are wiped.
pub(crate) async fn answer<Q, A, F>(
    stream: impl AsyncRead + AsyncWrite,
    mut with: impl FnMut(Q) -> F,
) -> Result<(), ConverseError>
where
    Q: Serialize + DeserializeOwned,
    A: Serialize,
    F: Future<Output = A>,
{
    let (read, write) = tokio::io::split(stream);
    let mut input = FrameReader::new(read, DEADLINES);
    let mut output = FrameWriter::new(write, DEADLINES);
    let mut question = Vec::new();
    loop {
        question.clear();
        match input.next(&mut question).await {
            Ok(Kind::Control) => {}
            Ok(_) => return Err(ConverseError::Unexpected),
            Err(FrameError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let asked = message::decode(&question).map_err(|_| ConverseError::Unexpected)?;
        let answer = message::encode(&with(asked).await).map_err(|_| ConverseError::Unexpected)?;
        output.send(Kind::Control, &Zeroizing::new(answer)).await?;
    }
}
