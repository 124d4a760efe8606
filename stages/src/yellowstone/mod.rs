//! The Yellowstone source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to reach an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EndpointOptions {
    /// The server's url.
    pub url: String,
}
