//! The message format against official messages, against itself, and against forgers.

mod header;
mod support;
mod vectors;
