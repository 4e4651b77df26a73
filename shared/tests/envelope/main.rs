//! The message format against official messages, against itself, and against forgers.

mod forge;
mod header;
mod round_trip;
mod support;
mod tamper;
mod vectors;
