//! `adyton-sim`: a Nitro enclave and its surroundings on an ordinary Linux host.

fn main() {}
