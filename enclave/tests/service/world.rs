//! Fakes of the enclave's ports: a scripted NSM, kernel, parent and KMS, and a requester.
//!
//! The NSM signs nothing, but its documents are well-formed and carry its time. The parent is on
//! the other end of pipes in memory. Nobody here shares code with what is tested but the wire.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adyton_enclave::boot::{self, BootError, Enclave, Platform};
use adyton_enclave::event::{Event, Events};
use adyton_enclave::platform::{BoxFuture, Dial, Kernel, Listen, Nsm, Stream};
use adyton_enclave::service;
use adyton_shared::envelope::{Draft, EncryptedDataKey, KMS_PROVIDER, Suite};
use adyton_shared::frame::{Deadlines, FrameError, FrameReader, FrameWriter, Kind};
use adyton_shared::id::{EnclaveId, JobId, RequesterKey};
use adyton_shared::job::{Destination, DigestAlgorithm, FieldPath, Input, Job, Step};
use adyton_shared::message::{self, CREDENTIALS_PORT, FromEnclave, FromParent, KMS_PORT, Refusal, ToEnclave};
use adyton_shared::receipt::{Receipt, UnverifiedReceipt};
use adyton_shared::request::Request;
use adyton_shared::result::ResultOpener;
use adyton_shared::statement::Statement;
use adyton_shared::{DataKey, EncryptionContext, ErrorCode};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use aws_nitro_enclaves_nsm_api::api::{
    AttestationDoc, Digest, ErrorCode as NsmError, Request as NsmRequest, Response,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, duplex};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::scripted_kms::{ARN, HOST, NOW_MS, authority, credentials, header, response, seal};

/// For what the tests themselves wait for, in paused time: never the first deadline to pass.
pub(crate) const PATIENT: Deadlines =
    Deadlines { idle: Duration::from_hours(24), frame: Duration::from_hours(24) };
/// The plaintext of every wrapped key here.
const DATA_KEY: [u8; 32] = [0x77; 32];

/// What the NSM does when it is asked for a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attests {
    Well,
    Fails,
    WithoutSense,
    Panics,
}

/// What the NSM does with PCR16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    Works,
    IsLocked,
    ExtendFails,
    LockFails,
    StaysUnlocked,
    HoldsOther,
}

/// A security module that keeps a list of what it was asked.
pub(crate) struct ScriptedNsm {
    started: Instant,
    /// Its clock against the test's, in milliseconds.
    pub(crate) ahead_ms: AtomicI64,
    attests: Mutex<Attests>,
    register: Register,
    extended: Mutex<Vec<u8>>,
    pub(crate) asked: Mutex<Vec<&'static str>>,
    documents: watch::Sender<usize>,
}

impl ScriptedNsm {
    pub(crate) fn new(register: Register, attests: Attests) -> Self {
        Self {
            started: Instant::now(),
            ahead_ms: AtomicI64::new(0),
            attests: Mutex::new(attests),
            register,
            extended: Mutex::default(),
            asked: Mutex::default(),
            documents: watch::Sender::new(0),
        }
    }

    pub(crate) fn attests(&self, attests: Attests) {
        *self.attests.lock().unwrap() = attests;
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap();
        (NOW_MS + elapsed).saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// Waits until it has been asked for so many documents, whether it gave them or not.
    pub(crate) async fn documents(&self, count: usize) {
        self.documents.subscribe().wait_for(|asked| *asked >= count).await.unwrap();
    }

    fn attest(&self, user_data: Option<ByteBuf>, nonce: Option<ByteBuf>, key: Option<ByteBuf>) -> Response {
        let attests = *self.attests.lock().unwrap();
        self.documents.send_modify(|asked| *asked += 1);
        match attests {
            Attests::Well => {}
            Attests::Fails => return Response::Error(NsmError::InternalError),
            Attests::WithoutSense => return Response::Attestation { document: vec![0x84, 0x40, 0xa0] },
            Attests::Panics => panic!("a defect"),
        }
        let payload = AttestationDoc::new(
            "i-1234567890abcdef0-enc0123456789abcde".into(),
            Digest::SHA384,
            self.now_ms(),
            BTreeMap::from([(16, self.extended.lock().unwrap().clone())]),
            vec![1],
            vec![vec![1]],
            user_data.map(ByteBuf::into_vec),
            nonce.map(ByteBuf::into_vec),
            key.map(ByteBuf::into_vec),
        );
        let protected = ByteBuf::from(b"\xa1\x01\x38\x22".to_vec());
        let empty = BTreeMap::<u8, u8>::new();
        let object = (protected, empty, ByteBuf::from(payload.to_binary()), ByteBuf::from(vec![0; 96]));
        Response::Attestation { document: serde_cbor::to_vec(&object).unwrap() }
    }
}

impl Nsm for ScriptedNsm {
    fn process(&self, request: NsmRequest) -> Response {
        let read_only = || Response::Error(NsmError::ReadOnlyIndex);
        let (name, response) = match request {
            NsmRequest::ExtendPCR { index, data } => {
                assert_eq!(index, 16);
                let response = match self.register {
                    Register::IsLocked => read_only(),
                    Register::ExtendFails => Response::Error(NsmError::InternalError),
                    _ => {
                        self.extended.lock().unwrap().clone_from(&data);
                        Response::ExtendPCR { data }
                    }
                };
                ("extend", response)
            }
            NsmRequest::LockPCR { index: 16 } if self.register == Register::LockFails => {
                ("lock", read_only())
            }
            NsmRequest::LockPCR { index: 16 } => ("lock", Response::LockPCR),
            NsmRequest::DescribePCR { index: 16 } => {
                let lock = self.register != Register::StaysUnlocked;
                let mut data = self.extended.lock().unwrap().clone();
                if self.register == Register::HoldsOther {
                    data[47] ^= 1;
                }
                ("describe", Response::DescribePCR { lock, data })
            }
            NsmRequest::Attestation { user_data, nonce, public_key } => {
                self.asked.lock().unwrap().push("attest");
                return self.attest(user_data, nonce, public_key);
            }
            other => panic!("nobody should ask for {other:?}"),
        };
        self.asked.lock().unwrap().push(name);
        response
    }
}

/// What the kernel's two files hold; `None` cannot be read.
pub(crate) struct Files(pub(crate) Option<&'static str>, pub(crate) Option<&'static str>);

impl Kernel for Files {
    fn rng_current(&self) -> io::Result<String> {
        self.0.map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn clocksource(&self) -> io::Result<String> {
        self.1.map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Keeps events.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, event: Event) -> usize {
        self.all().into_iter().filter(|seen| *seen == event).count()
    }
}

impl Events for Recorder {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// The parent as the enclave dials it, with a KMS behind port 8000.
pub(crate) struct Parent {
    acceptor: TlsAcceptor,
    nsm: Arc<ScriptedNsm>,
    pub(crate) panics: AtomicBool,
    pub(crate) calls: AtomicU32,
}

impl Parent {
    async fn serve_kms(self: Arc<Self>, stream: Stream) -> io::Result<()> {
        let mut stream = self.acceptor.clone().accept(stream).await?;
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let head = String::from_utf8(head).unwrap();
            let mut body = vec![0; header(&head, "content-length").unwrap().parse().unwrap()];
            stream.read_exact(&mut body).await?;
            self.calls.fetch_add(1, Ordering::Relaxed);
            let answer = decrypt(&serde_json::from_slice(&body).unwrap());
            stream.write_all(&response(200, &answer.to_string())).await?;
            stream.flush().await?;
        }
    }

    async fn serve_credentials(self: Arc<Self>, stream: Stream) {
        let (from, to) = tokio::io::split(stream);
        FrameReader::new(from, PATIENT).next(&mut Vec::new()).await.unwrap();
        let expires = self.nsm.now_ms() + 3_600_000;
        let answer = FromParent::Credentials(credentials("ASIAEXAMPLE", Some(expires)));
        let answer = message::encode(&answer).unwrap();
        FrameWriter::new(to, PATIENT).send(Kind::Control, &answer).await.unwrap();
    }
}

fn decrypt(question: &Value) -> Value {
    let document = STANDARD.decode(question["Recipient"]["AttestationDocument"].as_str().unwrap()).unwrap();
    let recipient = parsed(&document).public_key.unwrap();
    json!({
        "KeyId": question["KeyId"],
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "CiphertextForRecipient": STANDARD.encode(seal(&recipient, &DATA_KEY)),
    })
}

struct Dialled(Arc<Parent>);

impl Dial for Dialled {
    fn dial(&self, port: u32) -> BoxFuture<'_, io::Result<Stream>> {
        let parent = Arc::clone(&self.0);
        Box::pin(async move {
            assert!(!parent.panics.load(Ordering::Relaxed), "a defect");
            let (near, far) = duplex(64 * 1024);
            match port {
                KMS_PORT => drop(tokio::spawn(parent.serve_kms(Box::new(far)))),
                CREDENTIALS_PORT => drop(tokio::spawn(parent.serve_credentials(Box::new(far)))),
                other => panic!("nobody listens on {other}"),
            }
            Ok(Box::new(near) as Stream)
        })
    }
}

/// Hands over what a test puts in.
pub(crate) struct Queue(mpsc::UnboundedReceiver<io::Result<Stream>>);

impl Listen for Queue {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Option<Stream>>> {
        Box::pin(async move { self.0.recv().await.transpose() })
    }
}

/// Everything around an enclave that has not been booted.
pub(crate) struct World {
    pub(crate) nsm: Arc<ScriptedNsm>,
    pub(crate) events: Arc<Recorder>,
    pub(crate) parent: Arc<Parent>,
    kernel: Arc<Files>,
    pub(crate) policy: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(
            ScriptedNsm::new(Register::Works, Attests::Well),
            Files(Some("nsm-hwrng\n"), Some("kvm-clock\n")),
        )
    }

    pub(crate) fn with(nsm: ScriptedNsm, kernel: Files) -> Self {
        let nsm = Arc::new(nsm);
        let (roots, acceptor) = authority(HOST);
        let parent = Parent {
            acceptor,
            nsm: Arc::clone(&nsm),
            panics: AtomicBool::new(false),
            calls: AtomicU32::new(0),
        };
        let policy = policy(&roots);
        Self { nsm, events: Arc::default(), parent: Arc::new(parent), kernel: Arc::new(kernel), policy }
    }

    /// With other text in the policy.
    pub(crate) fn edited(mut self, from: &str, to: &str) -> Self {
        assert!(self.policy.contains(from), "{from} is not in the policy");
        self.policy = self.policy.replace(from, to);
        self
    }

    pub(crate) async fn boot(&self) -> Result<Arc<Enclave>, BootError> {
        let platform = Platform {
            nsm: Arc::clone(&self.nsm) as Arc<dyn Nsm>,
            dial: Arc::new(Dialled(Arc::clone(&self.parent))),
            kernel: Arc::clone(&self.kernel) as Arc<dyn Kernel>,
            events: Arc::clone(&self.events) as Arc<dyn Events>,
        };
        boot::boot(platform, self.policy.as_bytes()).await
    }

    pub(crate) async fn serve(self) -> Running {
        let enclave = self.boot().await.unwrap();
        let (arrivals, queue) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let service = tokio::spawn(service::serve(Arc::clone(&enclave), Queue(queue), shutdown));
        let id = EnclaveId::new([0; 32]);
        let mut running = Running { world: self, enclave, arrivals, stop, service, id };
        running.id = running.ask_for_id().await;
        running
    }
}

fn policy(roots: &str) -> String {
    let (billing, auditor) = (public(&key(1)), public(&key(2)));
    format!(
        r#"
version = 1
name = "payments"

[kms]
region = "eu-west-1"
keys = ["{ARN}"]
deadline_seconds = 3
roots = """
{roots}"""

[context]
tenant = {{ signed = true }}
object = {{ signed = true }}
purpose = {{ equals = "payments" }}
version = {{ minimum = 1 }}

[[requester]]
name = "billing"
key = "{billing}"

[[requester]]
name = "auditor"
key = "{auditor}"

[[release]]
requester = "billing"
to = "parent"
fields = ["id", {{ path = "pan", as = "mask", keep_last = 4 }}]

[[release]]
requester = "billing"
to = "parent"
digest = true

[[release]]
requester = "auditor"
to = "parent"
fields = ["id"]

[limits]
jobs = 4

[cache]
age_seconds = 0
"#
    )
}

/// An enclave that serves.
pub(crate) struct Running {
    pub(crate) world: World,
    pub(crate) enclave: Arc<Enclave>,
    pub(crate) arrivals: mpsc::UnboundedSender<io::Result<Stream>>,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) service: JoinHandle<()>,
    pub(crate) id: EnclaveId,
}

impl Running {
    pub(crate) fn dial(&self) -> Talk {
        let (near, far) = duplex(64 * 1024);
        self.arrive(Ok(Box::new(far)));
        Talk::over(Box::new(near))
    }

    /// Has the listener return this.
    pub(crate) fn arrive(&self, arrival: io::Result<Stream>) {
        self.arrivals.send(arrival).unwrap();
    }

    async fn ask_for_id(&self) -> EnclaveId {
        let mut talk = self.dial();
        talk.say(&ToEnclave::Attest { nonce: vec![0xFF; 32].try_into().unwrap() }).await;
        let FromEnclave::Document { document } = talk.hear().await else { panic!("no document") };
        named(&parsed(&document))
    }

    /// A good request that expires in a minute.
    pub(crate) fn request(&self, job: Job) -> Request {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).unwrap();
        let issued = self.world.nsm.now_ms() / 1000;
        let claim = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Request {
            version: 1,
            id: JobId::new(id),
            requester: "billing".parse().unwrap(),
            enclave: self.id,
            issued,
            expires: issued + 60,
            claims: BTreeMap::from([claim("tenant", "acme"), claim("object", "a")]),
            job,
        }
    }

    /// What becomes of a signed request whose payload is empty: admitted ones end in
    /// [`ErrorCode::HeaderMalformed`].
    pub(crate) async fn submit(&self, signed: Vec<u8>) -> Refusal {
        let mut talk = self.dial();
        talk.say(&ToEnclave::Job { request: ByteBuf::from(signed) }).await;
        let _ = talk.send(Kind::End, &[]).await;
        talk.refusal().await
    }

    /// Runs a digest job over a small payload.
    pub(crate) async fn run(&self) -> Result<Finished, Refusal> {
        let request = self.request(digest());
        self.dial().run(&request, &message(b"data")).await
    }
}

/// One conversation, from the parent's side.
pub(crate) struct Talk {
    reader: FrameReader<ReadHalf<Stream>>,
    writer: FrameWriter<WriteHalf<Stream>>,
}

/// A job that was done.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) output: Vec<u8>,
    pub(crate) receipt: Receipt,
    /// The document that vouches for the receipt, and its time.
    pub(crate) document: Vec<u8>,
    pub(crate) document_ms: u64,
}

impl Talk {
    pub(crate) fn over(stream: Stream) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { reader: FrameReader::new(read, PATIENT), writer: FrameWriter::new(write, PATIENT) }
    }

    pub(crate) async fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), FrameError> {
        self.writer.send(kind, payload).await
    }

    pub(crate) async fn say(&mut self, message: &ToEnclave) {
        self.send(Kind::Control, &message::encode(message).unwrap()).await.unwrap();
    }

    /// Starts a job; its payload is up to the caller.
    pub(crate) async fn start(&mut self, request: &Request) {
        let signed = request.sign(&key(1)).unwrap();
        self.say(&ToEnclave::Job { request: ByteBuf::from(signed) }).await;
    }

    pub(crate) async fn hear(&mut self) -> FromEnclave {
        let mut bytes = Vec::new();
        assert_eq!(self.reader.next(&mut bytes).await.unwrap(), Kind::Control);
        message::decode(&bytes).unwrap()
    }

    pub(crate) async fn refusal(&mut self) -> Refusal {
        match self.hear().await {
            FromEnclave::Refused(refusal) => refusal,
            other => panic!("no refusal: {other:?}"),
        }
    }

    pub(crate) async fn code(&mut self) -> ErrorCode {
        self.refusal().await.code
    }

    /// Whether the enclave hangs up now, without another word.
    pub(crate) async fn hangs_up(&mut self) -> bool {
        matches!(self.reader.next(&mut Vec::new()).await, Err(FrameError::Closed))
    }

    pub(crate) async fn run(&mut self, request: &Request, payload: &[u8]) -> Result<Finished, Refusal> {
        self.start(request).await;
        let send = async {
            for part in payload.chunks(200 * 1024) {
                self.writer.send(Kind::Data, part).await.unwrap();
            }
            self.writer.send(Kind::End, &[]).await.unwrap();
        };
        let ((), finished) = tokio::join!(send, finish(&mut self.reader, request.id));
        finished
    }

    /// What comes of a job whose payload has been sent.
    pub(crate) async fn finish(&mut self, request: &Request) -> Result<Finished, Refusal> {
        finish(&mut self.reader, request.id).await
    }
}

async fn finish(reader: &mut FrameReader<ReadHalf<Stream>>, id: JobId) -> Result<Finished, Refusal> {
    let (mut frames, mut bytes): (Vec<Vec<u8>>, _) = (Vec::new(), Vec::new());
    loop {
        match reader.next(&mut bytes).await.unwrap() {
            Kind::Data => frames.push(std::mem::take(&mut bytes)),
            Kind::End => {}
            Kind::Control => break,
        }
    }
    let done = match message::decode(&bytes).unwrap() {
        FromEnclave::Done(done) => done,
        FromEnclave::Refused(refusal) => return Err(refusal),
        other @ (FromEnclave::Document { .. } | FromEnclave::SealedDone { .. }) => {
            panic!("no end of a job: {other:?}")
        }
    };
    let mut opener = ResultOpener::new(&done.key, id).unwrap();
    let mut output = Vec::new();
    for mut frame in frames {
        output.extend_from_slice(opener.open(&mut frame).unwrap());
    }
    let receipt = UnverifiedReceipt::parse(&done.receipt).unwrap();
    let document = receipt.document().to_vec();
    let attested = parsed(&document);
    let (enclave, document_ms) = (named(&attested), attested.timestamp);
    Ok(Finished { output, receipt: receipt.verify(&enclave).unwrap(), document, document_ms })
}

/// A document of the scripted NSM.
pub(crate) fn parsed(document: &[u8]) -> AttestationDoc {
    let (_, _, payload, _): (ByteBuf, BTreeMap<u8, u8>, ByteBuf, ByteBuf) =
        serde_cbor::from_slice(document).unwrap();
    AttestationDoc::from_binary(&payload).unwrap()
}

/// The key of the requester with this number.
pub(crate) fn key(number: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap()
}

fn public(key: &Ed25519KeyPair) -> RequesterKey {
    RequesterKey::new(key.public_key().as_ref().try_into().unwrap())
}

pub(crate) fn job(input: Input, steps: Vec<Step>) -> Job {
    Job { version: 1, input, steps, to: Destination::Parent }
}

pub(crate) fn digest() -> Job {
    job(Input::Raw, vec![Step::Digest(DigestAlgorithm::Sha256)])
}

pub(crate) fn select(fields: &[&str]) -> Step {
    Step::Select(fields.iter().map(|path| FieldPath::parse(path).unwrap()).collect())
}

/// An encrypted message that the requests' claims and the policy fit.
pub(crate) fn message(plaintext: &[u8]) -> Vec<u8> {
    const FRAME_BYTES: u32 = 64 * 1024;
    let pairs = [("tenant", "acme"), ("object", "a"), ("purpose", "payments"), ("version", "1")];
    let context = EncryptionContext::from_pairs(pairs).unwrap();
    let draft = Draft::new(Suite::from_id(0x0478).unwrap(), context).unwrap();
    let wrapped =
        EncryptedDataKey { provider: KMS_PROVIDER, information: ARN.as_bytes(), ciphertext: b"wrapped" };
    let data_key = DataKey::copy_from(&DATA_KEY).unwrap();
    let (mut sealer, mut message) = draft.seal_with(&data_key, &[wrapped], FRAME_BYTES).unwrap();
    let mut frames = plaintext.chunks(FRAME_BYTES as usize).peekable();
    let mut last: &[u8] = &[];
    while let Some(frame) = frames.next() {
        if frames.peek().is_some() {
            sealer.seal_frame(frame, &mut message).unwrap();
        } else {
            last = frame;
        }
    }
    sealer.finish(last, &mut message).unwrap();
    message
}

/// The enclave that a document names.
fn named(document: &AttestationDoc) -> EnclaveId {
    EnclaveId::new(Statement::parse(document.user_data.as_ref().unwrap()).unwrap().subject)
}
