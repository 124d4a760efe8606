//! What tests of the whole pipeline share.

pub mod simulation;
