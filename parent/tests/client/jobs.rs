//! One job with an enclave that a script plays: what it sends, and what the client makes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use adyton_parent::client::{
    Claims, ClientError, Conversation, SealedResult, Sent, Upload, VerifiedReceipt, sign_request,
    verify_receipt,
};
use adyton_shared::KeyArn;
use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::id::{JobId, PolicyDigest, Sha256Digest};
use adyton_shared::job::{Destination, DigestAlgorithm, Input, Job, Step};
use adyton_shared::message::{self, Done, FromEnclave, ToEnclave};
use adyton_shared::receipt::Receipt;
use adyton_shared::request::Request;
use adyton_shared::result::{MAX_RESULT_CHUNK_BYTES, ResultSealer};
use aws_lc_rs::signature::Ed25519KeyPair;
use serde_bytes::ByteBuf;
use tempfile::TempDir;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex};

use crate::forge::{Enclave, Forge, POLICY, its_image, now_ms};

pub(crate) const DEADLINES: Deadlines =
    Deadlines { idle: Duration::from_secs(30), frame: Duration::from_secs(30) };

/// The enclave's end of a stream.
pub(crate) struct Far {
    pub(crate) frames: FrameReader<ReadHalf<DuplexStream>>,
    pub(crate) answers: FrameWriter<WriteHalf<DuplexStream>>,
}

impl Far {
    pub(crate) fn new(stream: DuplexStream) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { frames: FrameReader::new(read, DEADLINES), answers: FrameWriter::new(write, DEADLINES) }
    }

    /// Takes the request.
    pub(crate) async fn request(&mut self) {
        let mut bytes = Vec::new();
        assert_eq!(self.frames.next(&mut bytes).await.unwrap(), Kind::Control);
        assert!(matches!(message::decode(&bytes).unwrap(), ToEnclave::Job { .. }));
    }

    /// Takes the whole payload.
    pub(crate) async fn payload(&mut self) -> Vec<u8> {
        let mut payload = Vec::new();
        while self.frames.next(&mut payload).await.unwrap() == Kind::Data {}
        payload
    }

    pub(crate) async fn say(&mut self, message: &FromEnclave) {
        self.answers.send(Kind::Control, &message::encode(message).unwrap()).await.unwrap();
    }
}

/// A request that an enclave would take.
pub(crate) fn request(enclave: &Enclave<'_>) -> (Request, Vec<u8>) {
    let steps = vec![Step::Digest(DigestAlgorithm::Sha256)];
    let job = Job { version: 1, input: Input::Raw, steps, to: Destination::Parent };
    let key = Ed25519KeyPair::generate().unwrap();
    sign_request(enclave.id(), &"billing".parse().unwrap(), &key, BTreeMap::new(), job).unwrap()
}

/// The receipt that an honest enclave signs.
pub(crate) fn receipt(request: &Request, payload: &[u8], result: &[u8]) -> Receipt {
    Receipt {
        version: 1,
        job: request.id,
        requester: request.requester.clone(),
        job_digest: request.job.digest().unwrap(),
        input_digest: Sha256Digest::of(payload),
        input_bytes: payload.len() as u64,
        output_digest: Sha256Digest::of(result),
        output_bytes: result.len() as u64,
        key: KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/1").unwrap(),
        to: Destination::Parent,
        policy: POLICY,
        records_in: 0,
        records_out: Some(0),
        started: now_ms(),
        finished: now_ms(),
    }
}

/// Sealed frames of a result, and the message that opens them.
pub(crate) fn sealed(job: JobId, result: &[u8]) -> (Vec<Vec<u8>>, ResultSealer) {
    let mut sealer = ResultSealer::new(job).unwrap();
    let frames = result.chunks(MAX_RESULT_CHUNK_BYTES).map(|chunk| {
        let mut frame = chunk.to_vec();
        sealer.seal(&mut frame).unwrap();
        frame
    });
    (frames.collect(), sealer)
}

/// Where a job's result waits.
pub(crate) fn send<'a>(
    folder: &TempDir,
    near: DuplexStream,
    signed: Vec<u8>,
    payload: &'a [u8],
    progress: &'a mut (dyn FnMut(u64) + Send),
) -> impl Future<Output = Result<Sent, ClientError>> + use<'a> {
    let result = SealedResult::in_folder(folder.path());
    async move { Conversation::new(near).job(signed, Upload { payload, hash: true, progress }, result).await }
}

/// Changes something, or leaves it as it is.
type Change<'a, T> = &'a dyn Fn(&mut T);

/// What a script can change.
struct Play<'a> {
    /// Changes the sealed frames.
    frames: Change<'a, Vec<Vec<u8>>>,
    /// Changes the receipt.
    receipt: Change<'a, Receipt>,
    /// Another document than the enclave's own.
    document: Option<Vec<u8>>,
}

impl Default for Play<'_> {
    fn default() -> Self {
        Self { frames: &|_| {}, receipt: &|_| {}, document: None }
    }
}

/// Plays a job to its end, as the command line does, and returns the result's plaintext.
async fn play(
    forge: &Forge,
    enclave: &Enclave<'_>,
    payload: &[u8],
    result: &[u8],
    play: Play<'_>,
) -> Result<(Vec<u8>, VerifiedReceipt), ClientError> {
    let folder = tempfile::tempdir().unwrap();
    let (request, signed) = request(enclave);
    let (near, far) = duplex(16 * 1024);
    let mut far = Far::new(far);
    let playing = async {
        far.request().await;
        let received = far.payload().await;
        let (mut frames, sealer) = sealed(request.id, result);
        (play.frames)(&mut frames);
        for frame in &frames {
            far.answers.send(Kind::Data, frame).await.unwrap();
        }
        far.answers.send(Kind::End, &[]).await.unwrap();
        let mut honest = receipt(&request, &received, result);
        (play.receipt)(&mut honest);
        let document = play.document.unwrap_or_else(|| enclave.document(None));
        let receipt = ByteBuf::from(honest.sign(&enclave.key, document).unwrap());
        far.say(&FromEnclave::Done(Done { key: sealer.finish(), receipt })).await;
    };
    let mut ignore = |_| {};
    let (sent, ()) = tokio::join!(send(&folder, near, signed, payload, &mut ignore), playing);
    let sent = sent?;
    // Whatever is spooled has no name.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let mut plaintext = Vec::new();
    let output = sent.result.open(&sent.done.key, request.id, &mut plaintext)?;
    let claims = Claims {
        enclave: Some(enclave.id()),
        job: Some(request.id),
        requester: Some(request.requester),
        policy: Some(POLICY),
        job_digest: Some(request.job.digest().unwrap()),
        input: sent.input_digest.map(|digest| (digest, sent.input_bytes)),
        output: Some(output),
    };
    let verified = verify_receipt(&sent.done.receipt, &forge.anchor(), &its_image(), &claims)?;
    Ok((plaintext, verified))
}

fn patterned(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[tokio::test]
async fn a_result_opens_in_memory_and_on_disk_and_is_that_of_its_receipt() {
    let forge = Forge::new();
    let enclave = forge.enclave();
    for (payload, result) in [(0, 0), (1, 1), (700_000, 9_000_000)] {
        let (payload, result) = (patterned(payload), patterned(result));
        let (plaintext, verified) = play(&forge, &enclave, &payload, &result, Play::default()).await.unwrap();
        assert!(plaintext == result);
        assert_eq!(verified.enclave, enclave.id());
        assert_eq!(verified.receipt.input_digest, Sha256Digest::of(&payload));
    }
}

#[tokio::test]
async fn frames_changed_moved_left_out_or_repeated_never_become_a_result() {
    let forge = Forge::new();
    let enclave = forge.enclave();
    let result = patterned(3 * MAX_RESULT_CHUNK_BYTES);
    let tampers: [(&str, Change<'_, Vec<Vec<u8>>>); 5] = [
        ("changed", &|frames| frames[1][7] ^= 1),
        ("moved", &|frames| frames.swap(0, 1)),
        ("without the first", &|frames| drop(frames.remove(0))),
        ("repeated", &|frames| frames.insert(1, frames[0].clone())),
        ("cut short", &|frames| frames[2].truncate(20)),
    ];
    for (what, frames) in tampers {
        let played = play(&forge, &enclave, b"x", &result, Play { frames, ..Play::default() }).await;
        assert!(matches!(played, Err(ClientError::ResultTampered)), "{what}: {:?}", played.err());
    }
    // That the last one is missing is seen by the receipt.
    let frames = &|frames: &mut Vec<Vec<u8>>| drop(frames.pop());
    let played = play(&forge, &enclave, b"x", &result, Play { frames, ..Play::default() }).await;
    assert!(matches!(played, Err(ClientError::ReceiptMismatch("output"))), "{:?}", played.err());
}

#[tokio::test]
async fn a_receipt_for_anything_else_is_refused() {
    let forge = Forge::new();
    let enclave = forge.enclave();
    let other = Sha256Digest::of(b"other");
    let changes: [(&str, Change<'_, Receipt>); 9] = [
        ("job", &|receipt| receipt.job = JobId::new([1; 16])),
        ("requester", &|receipt| receipt.requester = "auditor".parse().unwrap()),
        ("job definition", &|receipt| receipt.job_digest = other),
        ("input", &|receipt| receipt.input_digest = other),
        ("input", &|receipt| receipt.input_bytes += 1),
        ("output", &|receipt| receipt.output_digest = other),
        ("output", &|receipt| receipt.output_bytes += 1),
        ("policy", &|receipt| receipt.policy = PolicyDigest::new([1; 48])),
        ("time than its document's", &|receipt| receipt.finished += 4 * 60 * 60 * 1000),
    ];
    for (what, receipt) in changes {
        let played = play(&forge, &enclave, b"in", b"out", Play { receipt, ..Play::default() }).await;
        assert!(
            matches!(played, Err(ClientError::ReceiptMismatch(w)) if w == what),
            "{what}: {:?}",
            played.err()
        );
    }
}

// S-7, V-13
#[tokio::test]
async fn a_receipt_of_another_key_root_or_image_is_refused() {
    let (forge, other) = (Forge::new(), Forge::new());
    let enclave = forge.enclave();
    let with = |document: Vec<u8>| Play { document: Some(document), ..Play::default() };
    let of_another = play(&forge, &enclave, b"in", b"out", with(forge.enclave().document(None))).await;
    assert!(matches!(of_another, Err(ClientError::Receipt(_))), "{:?}", of_another.err());

    let same_key = crate::forge::Says { pcr0: 8, ..enclave.identity(None) };
    for (document, code) in
        [(forge.document(same_key), "pcr_mismatch"), (other.document(enclave.identity(None)), "wrong_root")]
    {
        let Err(ClientError::Attestation(error)) =
            play(&forge, &enclave, b"in", b"out", with(document)).await
        else {
            panic!("refused by the verifier")
        };
        assert_eq!(error.code(), code);
    }

    // Another genuine enclave did the job.
    let (asked, answered) = (forge.enclave(), forge.enclave());
    let (request, _) = request(&asked);
    let signed = receipt(&request, b"in", b"out").sign(&answered.key, answered.document(None)).unwrap();
    let claims = Claims { enclave: Some(asked.id()), ..Claims::default() };
    let refused = verify_receipt(&signed, &forge.anchor(), &its_image(), &claims);
    assert!(matches!(refused, Err(ClientError::ReceiptMismatch("enclave"))), "{:?}", refused.err());
}
