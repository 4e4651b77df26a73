//! The job client against enclaves that answer well, badly, or not at all.

mod command;
mod forge;
mod jobs;
mod policies;
mod receipts;
mod refusals;
mod sealing;
mod who;
