//! Many clients, and clients that take their time.

use crate::harness::{Kms, REGION};
use crate::protocol::{connect, exchange, read_answer, signed, start};
use adyton_simulator::kms::User;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

fn list(user: &User) -> Vec<u8> {
    signed(user, REGION, "ListKeys", b"{}")
}

async fn serves(kms: &Kms, user: &User) {
    assert_eq!(exchange(&mut connect(kms).await, &list(user)).await.status, 200);
}

async fn open(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_at_once_are_all_answered() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        let (port, request) = (kms.port, signed(&user, REGION, "GenerateRandom", br#"{"NumberOfBytes":32}"#));
        clients.spawn(async move {
            let mut stream = open(port).await;
            for _ in 0..5 {
                assert_eq!(exchange(&mut stream, &request).await.status, 200);
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_block_nobody() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let whole = list(&user);
    let mut slow = Vec::new();
    // One stops in its headers, one in its body, one sends a lot and reads nothing.
    for part in [20, whole.len() - 1] {
        let mut stream = connect(&kms).await;
        stream.write_all(&whole[..part]).await.unwrap();
        slow.push(stream);
    }
    let mut deaf = connect(&kms).await;
    for _ in 0..50 {
        deaf.write_all(&whole).await.unwrap();
    }
    for _ in 0..20 {
        serves(&kms, &user).await;
    }
    // They are still served themselves, when they get on with it.
    slow[0].write_all(&whole[20..]).await.unwrap();
    slow[1].write_all(&whole[whole.len() - 1..]).await.unwrap();
    for stream in slow.iter_mut().chain([&mut deaf]) {
        assert_eq!(read_answer(stream).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait_and_are_served() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let request = list(&user);
    let mut held = Vec::new();
    for _ in 0..256 {
        let mut stream = open(kms.port).await;
        assert_eq!(exchange(&mut stream, &request).await.status, 200);
        held.push(stream);
    }
    // The host takes these connections; the service accepts them when others have gone.
    let mut waiting = Vec::new();
    for _ in 0..44 {
        let mut stream = open(kms.port).await;
        stream.write_all(&request).await.unwrap();
        waiting.push(stream);
    }
    drop(held);
    for mut stream in waiting {
        assert_eq!(read_answer(&mut stream).await.unwrap().status, 200);
    }
}
