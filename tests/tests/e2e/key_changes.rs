//! A key policy that changes while jobs run: what was released before runs to its end, within the
//! cache's age; what is released after it is refused, and nothing of it can be read.

use adyton_parent::Stream;
use adyton_shared::ErrorCode;
use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::id::{JobId, Sha256Digest};
use adyton_shared::job::{Input, Job, Step};
use adyton_shared::message::{self, Done, FromEnclave, Refusal, ToEnclave};
use adyton_shared::receipt::UnverifiedReceipt;
use adyton_shared::result::ResultOpener;
use adyton_tests::client::{Requester, code, job, path};
use adyton_tests::hostile::{HostileParent, Wallet};
use adyton_tests::message::Recipe;
use adyton_tests::process::PATIENCE;
use adyton_tests::world::{Enclave, World};
use serde_bytes::ByteBuf;
use tokio::io::{ReadHalf, WriteHalf, split};

const DEADLINES: Deadlines = Deadlines { idle: PATIENCE, frame: PATIENCE };
/// Enough of a payload for the enclave to send some of its result, and little enough to fit into a socket.
const BEGINNING: usize = 200 * 1024;

fn select_ids() -> Job {
    job(Input::Ndjson, vec![Step::Select(vec![path("id")])])
}

fn records() -> Vec<u8> {
    b"{\"id\":\"0123456789\"}\n".repeat(100_000)
}

/// A job that is sent by hand, so that a test knows how far it is.
struct Upload {
    id: JobId,
    reader: FrameReader<ReadHalf<Stream>>,
    writer: FrameWriter<WriteHalf<Stream>>,
    sealed: Vec<Vec<u8>>,
}

impl Upload {
    async fn start(requester: &Requester) -> Self {
        let (request, signed) = requester.sign(requester.enclave().await, "a", select_ids());
        let (read, write) = split(requester.dial().await);
        let (reader, mut writer) = (FrameReader::new(read, DEADLINES), FrameWriter::new(write, DEADLINES));
        let start = message::encode(&ToEnclave::Job { request: ByteBuf::from(signed) }).expect("encoded");
        writer.send(Kind::Control, &start).await.expect("sent");
        Self { id: request.id, reader, writer, sealed: Vec::new() }
    }

    async fn send(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(64 * 1024) {
            self.writer.send(Kind::Data, part).await.expect("sent");
        }
    }

    /// Waits for the first frame of the result: by then the key has been released and used.
    async fn result_begins(&mut self) {
        let mut frame = Vec::new();
        assert_eq!(self.reader.next(&mut frame).await.expect("a frame"), Kind::Data);
        self.sealed.push(frame);
    }

    /// Sends the rest while the result comes, and returns it; or the refusal, which comes without a key.
    async fn end(self, rest: &[u8]) -> Result<Vec<u8>, Refusal> {
        let Self { id, mut reader, mut writer, mut sealed } = self;
        let send = async {
            for part in rest.chunks(64 * 1024) {
                if writer.send(Kind::Data, part).await.is_err() {
                    return;
                }
            }
            let _ = writer.send(Kind::End, &[]).await;
        };
        let receive = async {
            loop {
                let mut frame = Vec::new();
                match reader.next(&mut frame).await.expect("a frame") {
                    Kind::Data => sealed.push(frame),
                    Kind::End => {}
                    Kind::Control => return message::decode(&frame).expect("a message"),
                }
            }
        };
        let ((), last) = tokio::join!(send, receive);
        if let FromEnclave::Refused(refusal) = last {
            return Err(refusal);
        }
        let FromEnclave::Done(Done { key, receipt }) = last else { panic!("no end of a job: {last:?}") };
        assert!(UnverifiedReceipt::parse(&receipt).is_ok());
        let mut opener = ResultOpener::new(&key, id).expect("a key");
        let mut output = Vec::new();
        for frame in &mut sealed {
            output.extend_from_slice(opener.open(frame).expect("a frame of the result"));
        }
        Ok(output)
    }
}

struct Scene {
    world: World,
    enclave: Enclave,
    _parent: HostileParent,
    requester: Requester,
}

impl Scene {
    /// An enclave that keeps released keys for so long.
    async fn with_age(seconds: u64) -> Self {
        let world = World::start().await;
        let age = format!("age_seconds = {seconds}");
        let enclave = world.enclave(|policy| policy.replace("age_seconds = 0", &age)).await;
        let wallet = Wallet::Profile(world.info.credentials_file.clone(), "enclave");
        let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet);
        let requester = world.requester_at(&enclave.socket);
        Self { world, enclave, _parent: parent, requester }
    }

    async fn seal(&self) -> Vec<u8> {
        let recipe = Recipe { frame_length: 64 * 1024, ..Recipe::of("a") };
        recipe.seal(&self.world.kms("owner").await, &self.enclave.key, &records()).await.bytes
    }

    /// From now on the key is released to another image only.
    async fn shut_out(&self) {
        let mut other = self.enclave.process.ready["pcrs"].clone();
        other["0"] = "11".repeat(48).into();
        self.world.demand(&self.enclave.key, &other).await;
    }

    async fn let_in(&self) {
        self.world.demand(&self.enclave.key, &self.enclave.process.ready["pcrs"]).await;
    }

    /// How often KMS was asked for a data key of this enclave.
    fn calls(&self) -> usize {
        let of_key = |line: &&serde_json::Value| {
            line["eventName"] == "Decrypt" && line.to_string().contains(self.enclave.key.as_str())
        };
        self.world.audit().iter().filter(of_key).count()
    }
}

// K-20
#[tokio::test]
async fn a_job_whose_key_was_released_before_the_policy_changed_runs_to_its_end() {
    for age in [300, 0] {
        let scene = Scene::with_age(age).await;
        let (bytes, expected) = (scene.seal().await, Sha256Digest::of(&records()));
        let mut upload = Upload::start(&scene.requester).await;
        upload.send(&bytes[..BEGINNING]).await;
        upload.result_begins().await;
        scene.shut_out().await;
        let output = upload.end(&bytes[BEGINNING..]).await.expect("it was released before");
        assert_eq!(Sha256Digest::of(&output), expected, "age {age}");
        assert_eq!(scene.calls(), 1);

        // The next release is refused. Where keys are kept, the same payload needs none.
        let again = scene.requester.run("a", select_ids(), &bytes).await;
        if age == 0 {
            assert_eq!(code(again), ErrorCode::KmsAccessDenied);
        } else {
            assert_eq!(Sha256Digest::of(&again.expect("its key is kept").output), expected);
            assert_eq!(scene.calls(), 1, "KMS was not asked again");
        }
        let other = scene.seal().await;
        let refused = scene.requester.run("a", select_ids(), &other).await;
        assert_eq!(code(refused), ErrorCode::KmsAccessDenied, "age {age}");

        scene.let_in().await;
        let done = scene.requester.run("a", select_ids(), &other).await.expect("a retry");
        assert_eq!(Sha256Digest::of(&done.output), expected);
        scene.world.stop().await;
    }
}

// K-20
#[tokio::test]
async fn a_job_that_was_admitted_before_the_policy_changed_and_has_no_key_yet_is_refused() {
    let scene = Scene::with_age(300).await;
    let bytes = scene.seal().await;
    let mut upload = Upload::start(&scene.requester).await;
    upload.send(&bytes[..100]).await;
    scene.shut_out().await;
    let refused = upload.end(&bytes[100..]).await.expect_err("no key, no result");
    assert_eq!(refused, ErrorCode::KmsAccessDenied.into());
    scene.let_in().await;
    scene.requester.run("a", select_ids(), &bytes).await.expect("a retry");
    scene.world.stop().await;
}

// K-20
#[tokio::test]
async fn a_kept_key_is_not_used_beyond_its_age() {
    let scene = Scene::with_age(2).await;
    let bytes = scene.seal().await;
    scene.requester.run("a", select_ids(), &bytes).await.expect("a job");
    scene.shut_out().await;
    // How often it is still used depends on the machine; that it ends does not.
    let refused = async {
        loop {
            let again = scene.requester.run("a", select_ids(), &bytes).await;
            if again.is_err() {
                return code(again);
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("it ends");
    assert_eq!(refused, ErrorCode::KmsAccessDenied);
    scene.world.stop().await;
}
