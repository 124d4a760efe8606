//! Recent transactions by their signatures.

use axum::Json;
use axum::extract::State;

use crate::api::problem::Problem;
use crate::api::query::{Nothing, Params, Segment};
use crate::api::shared::Shared;
use crate::api::state::TransactionView;

/// Characters of a signature's base58.
const SIGNATURE_LENGTHS: std::ops::RangeInclusive<usize> = 64..=88;

/// A recent transaction.
#[utoipa::path(
    get, path = "/api/v1/transactions/{signature}", tag = "slots",
    params((
        "signature" = String, Path, description = "The first signature, base58",
        pattern = "^[1-9A-HJ-NP-Za-km-z]{64,88}$", min_length = 64, max_length = 88
    )),
    responses((status = 200, description = "The transaction", body = TransactionView))
)]
pub(in crate::api) async fn transaction(
    State(api): Shared,
    Segment(signature): Segment<String>,
    Params(Nothing {}): Params<Nothing>,
) -> Result<Json<TransactionView>, Problem> {
    let bytes = bs58::decode(&signature).into_vec().ok();
    let Some(bytes) = bytes.filter(|_| SIGNATURE_LENGTHS.contains(&signature.len())) else {
        return Err(Problem::parameter("signature", "it is not base58 of 64 bytes"));
    };
    let unknown = || {
        let kept = api.options.recent_transactions;
        Problem::not_found(format!("it is not among the last {kept} transactions of this pipeline"))
    };
    let bytes: [u8; 64] = bytes.try_into().map_err(|_| unknown())?;
    let found = api.live().transactions.get(&bytes);
    found.map(Json).ok_or_else(unknown)
}
