//! What a client sends to whom: nothing before the document has verified, and then only to its key.

use std::sync::{Arc, Mutex};

use adyton_parent::client::{ClientError, VerifiedEnclave, seal_request};
use adyton_shared::frame::{FrameReader, FrameWriter, Kind};
use adyton_shared::id::SealingKey;
use adyton_shared::message::{self, FromEnclave, ToEnclave};
use adyton_shared::sealed_request::SealError;
use serde_bytes::ByteBuf;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use crate::command::{RUN, adyton, json, settings};
use crate::forge::{Enclave, Forge, Says};
use crate::jobs::{DEADLINES, request};

/// Makes a document over a nonce.
type Answer<'a> = Box<dyn Fn(Vec<u8>) -> Vec<u8> + 'a>;
type Heard = Arc<Mutex<Vec<(Kind, Vec<u8>)>>>;

/// Answers challenges with this document and listens to whatever else comes.
async fn answer(listener: UnixListener, heard: Heard, answer: impl Fn(Vec<u8>) -> Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut line = [0; b"CONNECT 5000\n".len()];
    stream.read_exact(&mut line).await.unwrap();
    stream.write_all(b"OK 1073741824\n").await.unwrap();
    let (read, write) = tokio::io::split(stream);
    let (mut frames, mut answers) = (FrameReader::new(read, DEADLINES), FrameWriter::new(write, DEADLINES));
    let mut bytes = Vec::new();
    while let Ok(kind) = frames.next(&mut bytes).await {
        heard.lock().unwrap().push((kind, bytes.clone()));
        if let Ok(ToEnclave::Attest { nonce }) = message::decode(&bytes) {
            let document = ByteBuf::from(answer(nonce.as_bytes().to_vec()));
            let answer = message::encode(&FromEnclave::Document { document }).unwrap();
            answers.send(Kind::Control, &answer).await.unwrap();
        }
        bytes.clear();
    }
}

// S-7, S-12, V-11
#[tokio::test]
async fn nothing_is_sent_to_whoever_shows_a_document_that_does_not_verify() {
    let (forge, other) = (Forge::new(), Forge::new());
    let (enclave, before) = (forge.enclave(), forge.enclave());
    let of = |enclave: &Enclave<'_>, nonce| enclave.identity(Some(nonce));
    let key = |bytes: Vec<u8>| {
        let (forge, enclave) = (&forge, &enclave);
        move |nonce| forge.document(Says { public_key: bytes.clone(), ..of(enclave, nonce) })
    };
    let old = before.document(Some(vec![9; 32]));
    let cases: [(&str, Answer<'_>, Option<&str>); 9] = [
        (
            "another image",
            Box::new(|n| forge.document(Says { pcr0: 8, ..of(&enclave, n) })),
            Some("pcr_mismatch"),
        ),
        ("another root", Box::new(|n| other.document(of(&enclave, n))), Some("wrong_root")),
        ("an earlier boot's answer", Box::new(|_| old.clone()), Some("nonce_mismatch")),
        ("one that answers nobody", Box::new(|_| enclave.document(None)), Some("nonce_absent")),
        ("no document", Box::new(|_| b"trust me".to_vec()), Some("malformed")),
        ("no key", Box::new(key(Vec::new())), None),
        ("a short key", Box::new(key(vec![9; 31])), None),
        ("two keys", Box::new(key(vec![9; 64])), None),
        (
            "another purpose",
            Box::new(|n| forge.document(Says { statement: b"hello".to_vec(), ..of(&enclave, n) })),
            None,
        ),
    ];
    for (what, says, code) in cases {
        let folder = TempDir::new().unwrap();
        settings(&folder, &forge).await;
        let heard = Heard::default();
        let listener = UnixListener::bind(folder.path().join("v.sock")).unwrap();
        let mut command = adyton(&folder, &[&RUN[..], &["-o", "out", "--json"]].concat());
        let ended = tokio::select! {
            ended = command.output() => ended.unwrap(),
            () = async { answer(listener, Arc::clone(&heard), says).await; std::future::pending().await } => unreachable!(),
        };
        assert_eq!(ended.status.code(), Some(1), "{what}: {ended:?}");
        let said = json(&ended.stderr);
        if let Some(code) = code {
            assert_eq!(said["code"], code, "{what}: {said}");
        }
        let heard = heard.lock().unwrap();
        let challenge = |(kind, bytes): &(Kind, Vec<u8>)| {
            *kind == Kind::Control && matches!(message::decode(bytes), Ok(ToEnclave::Attest { .. }))
        };
        assert!(heard.len() == 1 && heard.iter().all(challenge), "{what}: {heard:?}");
        assert!(!folder.path().join("out").exists(), "{what}");
    }
}

// S-12
#[tokio::test]
async fn nothing_is_sealed_to_any_image() {
    let folder = TempDir::new().unwrap();
    settings(&folder, &Forge::new()).await;
    // Nobody listens: it is refused before it looks for an enclave.
    for more in [&["--any-image"][..], &["--any-image", "--sealed"]] {
        let ended =
            adyton(&folder, &[&RUN[..], &["-o", "out", "--json"], more].concat()).output().await.unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert_eq!(json(&ended.stderr)["code"], "no_expectations");
    }
    let open = ["-o", "out", "--json", "--any-image", "--plain-request"];
    let ended = adyton(&folder, &[&RUN[..], &open].concat()).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(3), "it looks for an enclave: {ended:?}");
    let both = ["-o", "out", "--sealed", "--plain-request"];
    let ended = adyton(&folder, &[&RUN[..], &both].concat()).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

/// A genuine enclave, with another key for sealing.
async fn verified(forge: &Forge, enclave: &Enclave<'_>, sealing_key: SealingKey) -> VerifiedEnclave {
    let answer = |nonce| {
        let document = ByteBuf::from(enclave.document(Some(nonce)));
        FromEnclave::Document { document }
    };
    let asked = crate::who::ask(&forge.anchor(), &crate::forge::its_image(), answer).await.unwrap();
    VerifiedEnclave { sealing_key, ..asked }
}

// S-7, S-12
#[tokio::test]
async fn a_request_is_sealed_only_to_the_enclave_that_it_names_and_to_a_key_that_is_one() {
    let forge = Forge::new();
    let (asked, other) = (forge.enclave(), forge.enclave());
    let (wanted, signed) = request(&asked);
    let enclave = verified(&forge, &other, other.opening.public()).await;
    let refused = seal_request(&enclave, &wanted, &signed);
    assert!(matches!(refused, Err(ClientError::OtherEnclave)), "{refused:?}");
    // A point of small order: anybody could compute the secret.
    let enclave = verified(&forge, &asked, SealingKey::new([0; 32])).await;
    let refused = seal_request(&enclave, &wanted, &signed);
    assert!(matches!(refused, Err(ClientError::Seal(SealError::Unsealed))), "{refused:?}");
    let enclave = verified(&forge, &asked, asked.opening.public()).await;
    assert!(seal_request(&enclave, &wanted, &signed).is_ok());
}
