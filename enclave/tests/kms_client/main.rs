//! The enclave's KMS client against a scripted KMS behind TLS, a scripted parent and its own clock.

mod answers;
mod cache;
mod credentials;
mod generate;
mod release;
mod support;
mod transport;
