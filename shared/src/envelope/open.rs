//! Opens the body of a message, frame by frame, in the caller's buffer.
//!
//! A frame's plaintext exists only after its tag has verified. Nothing is
//! copied and nothing allocated per frame; memory is the caller's buffer, which
//! never needs to hold more than one frame. An [`Opener`] that has refused
//! something refuses everything after it.
//! Source: message format reference, "Body structure" and "Footer structure".

use std::fmt;
use std::ops::Range;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};

use super::authenticate::authenticate;
use super::body::{BodyAad, FIRST_SEQUENCE, Kind};
use super::error::OpenError;
use super::footer::SignatureCheck;
use super::header::{Content, TAG_BYTES, UnverifiedHeader};
use super::locate::{Piece, Stop, locate};
use super::suite::Suite;
use crate::context::PUBLIC_KEY_PAIR;
use crate::{DataKey, EncryptionContext};

/// Length of a footer's length, in bytes.
const FOOTER_PREFIX_BYTES: usize = 2;

/// What [`Opener::next`] did with the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: at least so many bytes must be in the buffer.
    Need(usize),
    /// Verified and decrypted a frame where it lay.
    Frame {
        /// How many bytes of the buffer are done with, once the plaintext has been used.
        consumed: usize,
        /// Where the plaintext is in the buffer; may be empty.
        plaintext: Range<usize>,
    },
    /// The message is complete, its signature verified if it has one.
    End {
        /// How many bytes of the buffer are done with: all of them.
        consumed: usize,
    },
}

/// Opens the body of one message whose header has verified.
pub struct Opener {
    suite: Suite,
    context: EncryptionContext,
    cipher: LessSafeKey,
    content: Content,
    regular: BodyAad,
    last: BodyAad,
    signature: Option<SignatureCheck>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The next piece of the body has this sequence number.
    Body(u32),
    Footer,
    Ended,
    Failed(OpenError),
}

impl Opener {
    /// Checks commitment and header tag; see [`UnverifiedHeader::verify`].
    pub(super) fn new(
        header: UnverifiedHeader,
        key: &DataKey,
        extra_context: &EncryptionContext,
    ) -> Result<Self, OpenError> {
        let public_key = header.context.value(PUBLIC_KEY_PAIR).or(extra_context.value(PUBLIC_KEY_PAIR));
        let mut signature = SignatureCheck::new(header.suite, public_key)?;
        let cipher = authenticate(&header, key, extra_context)?;
        if let Some(check) = &mut signature {
            check.update(&header.bytes);
        }
        let last = match header.content {
            Content::Unframed => Kind::Unframed,
            Content::Framed(_) => Kind::Final,
        };
        Ok(Self {
            cipher,
            content: header.content,
            regular: BodyAad::new(header.message_id(), Kind::Regular),
            last: BodyAad::new(header.message_id(), last),
            signature,
            state: State::Body(FIRST_SEQUENCE),
            suite: header.suite,
            context: header.context,
        })
    }

    /// The suite, now authenticated.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The stored pairs of the encryption context, now authenticated.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// Whether a signature comes last: then nothing may be released before [`Step::End`].
    pub fn is_signed(&self) -> bool {
        self.suite.is_signed()
    }

    /// Takes one step on `buffer`, which starts at the first byte not yet consumed.
    ///
    /// Bytes after the message are looked for in what the buffer holds at the end, and in what a
    /// later call brings.
    ///
    /// # Errors
    /// [`OpenError`]; the same one again from every later call. What the buffer then holds is
    /// neither ciphertext nor plaintext and of no use.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<Step, OpenError> {
        let step = match self.state {
            State::Body(sequence) => self.body(sequence, buffer),
            State::Footer => self.footer(buffer),
            State::Ended if buffer.is_empty() => Ok(Step::End { consumed: 0 }),
            State::Ended => Err(OpenError::Trailing),
            State::Failed(error) => Err(error),
        };
        if let Err(error) = &step {
            self.state = State::Failed(*error);
        }
        step
    }

    /// Says that there is no more input.
    ///
    /// # Errors
    /// [`OpenError::Truncated`] unless the message was complete, or the error that came before.
    pub fn finish(self) -> Result<(), OpenError> {
        match self.state {
            State::Ended => Ok(()),
            State::Body(_) | State::Footer => Err(OpenError::Truncated),
            State::Failed(error) => Err(error),
        }
    }

    fn body(&mut self, sequence: u32, buffer: &mut [u8]) -> Result<Step, OpenError> {
        match locate(buffer, self.content, sequence) {
            Ok(piece) => self.open(&piece, buffer),
            Err(Stop::Need(bytes)) => Ok(Step::Need(bytes)),
            Err(Stop::Refused(error)) => Err(error),
        }
    }

    fn open(&mut self, piece: &Piece, buffer: &mut [u8]) -> Result<Step, OpenError> {
        let plaintext = piece.prefix..piece.prefix.saturating_add(piece.content);
        let consumed = plaintext.end.saturating_add(TAG_BYTES);
        let Some(bytes) = buffer.get_mut(..consumed) else {
            return Ok(Step::Need(consumed));
        };
        // The signature is over the ciphertext: hash it before it is decrypted where it lies.
        if let Some(check) = &mut self.signature {
            check.update(bytes);
        }
        let (_, sealed) = bytes.split_at_mut_checked(piece.prefix).ok_or(OpenError::Malformed)?;
        let (content, tag) = sealed.split_at_mut_checked(piece.content).ok_or(OpenError::Malformed)?;
        let aad = if piece.is_last { &mut self.last } else { &mut self.regular };
        let aad = Aad::from(aad.for_frame(piece.sequence, piece.content as u64));
        let nonce = Nonce::assume_unique_for_key(piece.iv);
        self.cipher.open_in_place_separate_tag(nonce, aad, tag, content).map_err(|_| OpenError::Tampered)?;
        self.state = match (piece.is_last, &self.signature) {
            (false, _) => State::Body(piece.sequence.checked_add(1).ok_or(OpenError::Malformed)?),
            (true, Some(_)) => State::Footer,
            (true, None) => State::Ended,
        };
        Ok(Step::Frame { consumed, plaintext })
    }

    fn footer(&mut self, buffer: &[u8]) -> Result<Step, OpenError> {
        let Some((length, rest)) = buffer.split_first_chunk::<FOOTER_PREFIX_BYTES>() else {
            return Ok(Step::Need(FOOTER_PREFIX_BYTES));
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if self.signature.as_ref().is_none_or(|check| length > check.max_signature_bytes()) {
            return Err(OpenError::Signature);
        }
        let consumed = FOOTER_PREFIX_BYTES.saturating_add(length);
        let Some((signature, trailing)) = rest.split_at_checked(length) else {
            return Ok(Step::Need(consumed));
        };
        self.signature.take().ok_or(OpenError::Signature)?.verify(signature)?;
        if !trailing.is_empty() {
            return Err(OpenError::Trailing);
        }
        self.state = State::Ended;
        Ok(Step::End { consumed })
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("suite", &self.suite)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
