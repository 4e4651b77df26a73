//! What an enclave does not start with, and that it stops before anything secret or attested exists.

use adyton_enclave::boot::BootError;
use adyton_enclave::platform::AttestError;
use adyton_shared::id::{PolicyDigest, SealingKey};
use adyton_shared::statement::{Purpose, Statement};

use crate::world::{Attests, Files, Register, ScriptedNsm, World, parsed};

const CLOCK: Option<&str> = Some("kvm-clock\n");
const RANDOM: Option<&str> = Some("nsm-hwrng\n");

async fn refused(kernel: Files) -> BootError {
    let world = World::with(ScriptedNsm::new(Register::Works, Attests::Well), kernel);
    let Err(error) = world.boot().await else { panic!("it started") };
    assert!(world.nsm.asked.lock().unwrap().is_empty(), "the device was asked nothing");
    error
}

// R-1, C-1
#[tokio::test]
async fn the_kernels_files_may_end_with_a_newline_or_not() {
    for kernel in [Files(RANDOM, CLOCK), Files(Some("nsm-hwrng"), Some("kvm-clock"))] {
        let world = World::with(ScriptedNsm::new(Register::Works, Attests::Well), kernel);
        assert!(world.boot().await.is_ok());
    }
}

//
#[tokio::test]
async fn another_random_source_is_refused() {
    for other in [
        "",
        "\n",
        "none\n",
        "tpm-rng-0\n",
        "virtio_rng.0\n",
        "nsm-hwrng2\n",
        "nsm-hwrn\n",
        " nsm-hwrng\n",
        "NSM-HWRNG\n",
    ] {
        let error = refused(Files(Some(other), CLOCK)).await;
        assert!(matches!(error, BootError::RandomSource), "{other:?}: {error}");
    }
    let error = refused(Files(None, CLOCK)).await;
    assert!(matches!(error, BootError::Kernel { what: "random source", .. }), "{error}");
}

// C-1
#[tokio::test]
async fn another_clock_source_is_refused() {
    for other in ["", "\n", "tsc\n", "hpet\n", "acpi_pm\n", "kvm-clock2\n", "kvm\n", " kvm-clock\n"] {
        let error = refused(Files(RANDOM, Some(other))).await;
        assert!(matches!(error, BootError::ClockSource), "{other:?}: {error}");
    }
    let error = refused(Files(RANDOM, None)).await;
    assert!(matches!(error, BootError::Kernel { what: "clock source", .. }), "{error}");
}

// T-4
#[tokio::test]
async fn a_policy_that_cannot_be_used_is_refused_before_the_device_is_asked() {
    let world = World::new().edited("version = 1\nname", "version = 2\nname");
    let Err(error) = world.boot().await else { panic!("it started") };
    assert!(matches!(error, BootError::Policy(_)), "{error}");
    assert!(world.nsm.asked.lock().unwrap().is_empty());
}

// T-5
#[tokio::test]
async fn the_policy_is_in_a_locked_register_before_the_first_document() {
    let world = World::new();
    world.boot().await.unwrap();
    assert_eq!(*world.nsm.asked.lock().unwrap(), ["extend", "lock", "describe", "attest"]);
}

// T-5
#[tokio::test]
async fn a_register_that_cannot_be_extended_and_locked_is_refused_before_the_first_document() {
    for register in [
        Register::IsLocked,
        Register::ExtendFails,
        Register::LockFails,
        Register::StaysUnlocked,
        Register::HoldsOther,
    ] {
        let world = World::with(ScriptedNsm::new(register, Attests::Well), Files(RANDOM, CLOCK));
        let Err(error) = world.boot().await else { panic!("it started: {register:?}") };
        assert!(matches!(error, BootError::PolicyRegister), "{register:?}: {error}");
        assert!(!world.nsm.asked.lock().unwrap().contains(&"attest"), "{register:?}");
    }
}

// T-3
#[tokio::test]
async fn the_first_document_names_the_id_and_the_policy_and_answers_nobody() {
    let running = World::new().serve().await;
    let done = running.run().await.unwrap();
    assert_eq!(done.receipt.policy, PolicyDigest::of(running.world.policy.as_bytes()));
    let document = parsed(&done.document);
    assert_eq!(document.nonce, None);
    // The key that requests are sealed to, which is another than the one that signs.
    let sealing = SealingKey::try_from(document.public_key.unwrap().as_slice()).unwrap();
    assert_ne!(sealing.as_bytes(), running.id.as_bytes());
    let policy = done.receipt.policy;
    let statement = Statement { purpose: Purpose::Identity, subject: *running.id.as_bytes(), policy };
    assert_eq!(Statement::parse(&document.user_data.unwrap()), Ok(statement));
    assert_eq!(document.pcrs[&16], policy.as_bytes());
}

#[tokio::test]
async fn without_a_document_there_is_no_enclave() {
    for broken in [Attests::Fails, Attests::WithoutSense, Attests::Panics] {
        let world = World::with(ScriptedNsm::new(Register::Works, broken), Files(RANDOM, CLOCK));
        let Err(error) = world.boot().await else { panic!("it started: {broken:?}") };
        assert!(matches!(error, BootError::Attest(AttestError::Unavailable)), "{broken:?}: {error}");
    }
}

// K-16
#[tokio::test]
async fn roots_that_are_none_are_refused() {
    let world = World::new().edited("-----END CERTIFICATE-----", "-----END-----");
    let Err(error) = world.boot().await else { panic!("it started") };
    assert!(matches!(error, BootError::Roots(_)), "{error}");
}
