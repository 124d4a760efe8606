//! The pipeline TOML: what it may say, where it says it, and how what is wrong with it is shown.
//!
//! ```text
//!  text ─ document ─→ tables with spans ─ options ─→ each kind's own struct
//!            │  ▲                            │  ▲
//!            │  └ substitute: ${NAME}        │  └ schema: names, types, defaults
//!            │ layers: profile, environment, flags
//!            └──────────→ graph ←────────────┘
//!                           │
//!              diagnostic: everything that any of them found, in the order of the text
//! ```
//!
//! Nothing here knows a kind of node, opens a file or reads the environment: kinds come as types, texts and variables as
//! arguments.

pub mod diagnostic;
pub mod document;
pub mod graph;
pub mod layers;
pub mod options;
pub mod schema;
pub mod secret;
pub mod settings;
pub mod source;
pub mod spelling;
pub mod substitute;
pub mod units;

pub use secret::Secret;
