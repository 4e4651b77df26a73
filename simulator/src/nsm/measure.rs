//! Measurements of a simulated image, in place of those that the hypervisor takes of an EIF.
//!
//! They say the same things as the real ones (0: everything, 1: kernel, 2: application and its
//! configuration), but are computed over an executable file and a policy, not over image sections.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA384};

use super::pcr::{Pcr, sha384};

/// Keeps a simulated PCR0 from ever being the hash of something else. Both parts that follow are
/// digests of fixed length, so no byte can move from one to the other.
const IMAGE_LABEL: &[u8] = b"adyton simulated image v1\0";
/// Stands for the kernel, which an ordinary process does not bring along.
const KERNEL_LABEL: &[u8] = b"adyton simulated kernel v1\0";

/// PCR0, PCR1 and PCR2 of an enclave made of this executable and this policy file.
///
/// # Errors
/// [`io::Error`] if one of the files cannot be read.
pub fn measure(executable: &Path, policy: &Path) -> io::Result<BTreeMap<u16, Pcr>> {
    measure_policy(executable, &fs_err::read(policy)?)
}

/// The same for a policy that has been read already, so that what is measured is what is used.
///
/// # Errors
/// [`io::Error`] if the executable cannot be read.
pub fn measure_policy(executable: &Path, policy: &[u8]) -> io::Result<BTreeMap<u16, Pcr>> {
    let executable = sha384_of_file(executable)?;
    let policy = sha384(&[policy]);
    Ok(BTreeMap::from([
        (0, sha384(&[IMAGE_LABEL, &executable, &policy])),
        (1, sha384(&[KERNEL_LABEL])),
        (2, policy),
    ]))
}

/// What PCR3 holds for the ARN of the parent's role, and PCR4 for its instance id: a register of
/// zeros extended once with the text.
///
/// Source: Nitro Enclaves user guide, "Where to get an enclave's measurements".
pub fn parent_pcr(identity: &str) -> Pcr {
    sha384(&[&[0; 48], identity.as_bytes()])
}

fn sha384_of_file(path: &Path) -> io::Result<Pcr> {
    let mut file = fs_err::File::open(path)?;
    let mut context = Context::new(&SHA384);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => context.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut value = [0; 48];
    value.copy_from_slice(context.finish().as_ref());
    Ok(value)
}
