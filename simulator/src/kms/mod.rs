//! The local key service: AWS KMS on an ordinary host.

pub mod sigv4;
