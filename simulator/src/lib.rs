//! What a Nitro enclave finds around it, on an ordinary Linux host: NSM, vsock and KMS.
//!
//! For trying things out and for tests. Nothing here protects anything: the "hypervisor" is a
//! library in the enclave's own process, and its root key lies in a folder.

pub mod auditor;
pub mod cli;
pub mod enclave;
pub mod kms;
mod kms_admin;
pub mod nsm;
pub mod policy;
pub mod process;
pub mod state;
pub mod vsock;
pub mod world;
