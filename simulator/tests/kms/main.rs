//! The local KMS, asked over the wire by the AWS SDK.
//!
//! One program for all of it: the SDK takes longer to link than the tests to run.

mod accounts;
mod admin;
mod aliases;
mod asymmetric;
mod audit;
mod command;
mod crypto;
mod custom_key_store;
mod data_key_pair;
mod derive;
mod explain;
mod faults;
mod grants;
mod harness;
mod iam;
mod import;
mod keys;
mod load;
mod mac;
mod openssl;
mod persistence;
mod policy;
mod protocol;
mod quota;
mod recipient;
mod regions;
mod rotation;
mod states;
mod sts;
mod tags;
