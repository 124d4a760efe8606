//! What endpoints that contradict each other said of a slot, and who of them was wrong. Pure.
//!
//! The ledger writes the claims down, since it knows who delivered what; recovery judges, since it asks others. A referee
//! (RPC) decides by counts, parents and signatures, as long as one of the endpoints says the same: alone against all it
//! may be the one that is wrong. Where it decides nothing, or there is none, what more than half of the endpoints say
//! holds against the others. What an endpoint did not deliver is a loss and no lie.
//!
//! | claims | referee | wrong |
//! | --- | --- | --- |
//! | a, a, b | a | b |
//! | a, b | a | b |
//! | a, b | c | nobody: three say three things |
//! | a, a, b | none | b |
//! | a, b | none | nobody: one word against the other |

use smallvec::SmallVec;

use crate::batch::EndpointId;
use crate::block::Block;
use crate::frame::BlockMeta;
use crate::slot::{Hash, Slot};

/// A transaction as one bank delivered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Its index.
    pub index: u32,
    /// Its signature; no referee knows more of it byte by byte.
    pub signature: [u8; 64],
    /// The digest of all of it.
    pub digest: Hash,
}

/// What one bank of an endpoint said of a version.
#[derive(Debug, Clone)]
pub struct Testimony {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its block meta.
    pub meta: BlockMeta,
    /// One more than the highest index that it delivered.
    pub end: u32,
    /// Its transactions where not all banks delivered the same. Empty for banks without a number, which may be two.
    pub deliveries: Vec<Delivery>,
}

/// A version of a slot about which endpoints contradict each other.
#[derive(Debug, Clone)]
pub struct Dispute {
    /// The slot.
    pub slot: Slot,
    /// The version.
    pub blockhash: Hash,
    /// What each says.
    pub claims: Vec<Testimony>,
    /// Nothing more of the slot is looked at: these are all the claims that there will be.
    pub closed: bool,
}

/// What a referee says of a version.
#[derive(Debug, Clone)]
pub struct Referee {
    meta: BlockMeta,
    signatures: Vec<[u8; 64]>,
}

impl Referee {
    /// What `block` says; none if its transactions are not all there.
    pub fn of(block: &Block) -> Option<Self> {
        let updates = block.transactions.updates()?;
        let signatures = updates.iter().map(|update| update.frame.key().try_into());
        Some(Self { meta: block.meta, signatures: signatures.collect::<Result<_, _>>().ok()? })
    }

    /// Whether `block` is what this referee knows, as far as it knows.
    pub fn agrees_with(&self, block: &Block) -> bool {
        let same = |(update, signature): (&crate::batch::Update, &[u8; 64])| update.frame.key() == signature;
        let updates = block.transactions.updates().unwrap_or_default();
        same_meta(&self.meta, &block.meta) && updates.iter().zip(&self.signatures).all(same)
    }

    fn supports(&self, claim: &Testimony) -> bool {
        let holds = |delivery: &Delivery| {
            self.signatures.get(delivery.index as usize).is_none_or(|own| *own == delivery.signature)
        };
        same_meta(&self.meta, &claim.meta)
            && (claim.deliveries.is_empty() || claim.end as usize <= self.signatures.len())
            && claim.deliveries.iter().all(holds)
    }
}

impl Testimony {
    /// Whether both can be true.
    fn is_compatible(&self, other: &Self) -> bool {
        let mut others = other.deliveries.iter().peekable();
        let agrees = |delivery: &Delivery| {
            while others.next_if(|next| next.index < delivery.index).is_some() {}
            others.peek().is_none_or(|next| next.index != delivery.index || *next == delivery)
        };
        same_meta(&self.meta, &other.meta) && self.deliveries.iter().all(agrees)
    }
}

impl Dispute {
    /// The endpoints that were wrong, and about what.
    pub fn wrong(&self, referee: Option<&Referee>) -> Vec<(EndpointId, &'static str)> {
        let by_referee = referee.map(|referee| self.split(|claim| referee.supports(claim)));
        if let Some((true, wrong)) = by_referee.filter(|(_, wrong)| !wrong.is_empty()) {
            let reason = "its block is not the one that RPC has";
            return wrong.into_iter().map(|endpoint| (endpoint, reason)).collect();
        }
        if referee.is_some_and(|referee| !self.claims.iter().any(|claim| referee.supports(claim))) {
            return Vec::new();
        }
        let supporters = |claim: &&Testimony| self.supporters(claim);
        let Some(most) = self.claims.iter().max_by_key(supporters) else { return Vec::new() };
        if self.supporters(most) * 2 <= self.endpoints().len() {
            return Vec::new();
        }
        let (_, wrong) = self.split(|claim| claim.is_compatible(most));
        let reason = "its block is not the one that most endpoints have";
        wrong.into_iter().map(|endpoint| (endpoint, reason)).collect()
    }

    /// All endpoints that say anything.
    pub fn endpoints(&self) -> SmallVec<[EndpointId; 4]> {
        let mut endpoints: SmallVec<_> = self.claims.iter().map(|claim| claim.endpoint).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints
    }

    /// Bytes that it holds in memory, about.
    pub fn size_bytes(&self) -> usize {
        let of = |claim: &Testimony| size_of_val(claim) + size_of_val(claim.deliveries.as_slice());
        self.claims.iter().map(of).sum()
    }

    fn supporters(&self, claim: &Testimony) -> usize {
        let says = |endpoint: &&EndpointId| {
            self.claims.iter().any(|other| other.endpoint == **endpoint && other.is_compatible(claim))
        };
        self.endpoints().iter().filter(says).count()
    }

    /// Whether any endpoint holds what is `right`, and the endpoints of which no claim is.
    fn split(&self, right: impl Fn(&Testimony) -> bool) -> (bool, Vec<EndpointId>) {
        let holds = |endpoint: &EndpointId| {
            self.claims.iter().any(|claim| claim.endpoint == *endpoint && right(claim))
        };
        let endpoints = self.endpoints();
        let (holding, wrong): (Vec<EndpointId>, Vec<EndpointId>) = endpoints.into_iter().partition(holds);
        (!holding.is_empty(), wrong)
    }
}

/// Whether two metas count the same and build on the same.
pub(crate) fn same_meta(one: &BlockMeta, other: &BlockMeta) -> bool {
    let said = |meta: &BlockMeta| (meta.executed_transaction_count, meta.parent_slot, meta.parent_blockhash);
    said(one) == said(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Way;
    use crate::filter::TransactionFilters;
    use crate::fixtures::{TRANSACTIONS, meta, transaction};
    use crate::recovery::plan::assembler::Assembler;

    /// What `endpoint` says: transactions of these versions.
    fn claim(endpoint: EndpointId, versions: &[u8]) -> Testimony {
        let count = versions.len() as u64;
        let update = meta(endpoint, 1, 10, 0, (9, 0), count);
        let delivery = |(index, &version): (usize, &u8)| {
            let update = transaction(endpoint, 1, 10, version, index as u64);
            Delivery {
                index: index as u32,
                signature: update.frame.key().try_into().expect("a signature"),
                digest: Hash([version; 32]),
            }
        };
        Testimony {
            endpoint,
            meta: BlockMeta::read(update.frame.body()).expect("well-formed"),
            end: versions.len() as u32,
            deliveries: versions.iter().enumerate().map(delivery).collect(),
        }
    }

    fn referee(versions: &[u8]) -> Referee {
        let transactions =
            versions.iter().zip(0..).map(|(&version, index)| transaction(9, 0, 10, version, index));
        let updates = transactions.chain([meta(9, 0, 10, 0, (9, 0), versions.len() as u64)]).collect();
        let mut assembler = Assembler::new(TRANSACTIONS, TransactionFilters::Everything);
        let blocks = assembler.assemble(10, Way::Rpc, updates).expect("a whole block");
        Referee::of(&blocks[0]).expect("it is whole")
    }

    fn wrong(claims: Vec<Testimony>, referee: Option<&Referee>) -> Vec<EndpointId> {
        let dispute = Dispute { slot: 10, blockhash: claims[0].meta.blockhash, claims, closed: true };
        dispute.wrong(referee).into_iter().map(|(endpoint, _)| endpoint).collect()
    }

    #[test]
    fn the_table_of_the_module_holds() {
        let (a, b): (&[u8], &[u8]) = (&[0, 0, 0], &[0, 5, 0]);
        let (of_a, of_c) = (referee(a), referee(&[7, 7, 7]));
        assert_eq!(wrong(vec![claim(0, a), claim(1, a), claim(2, b)], Some(&of_a)), [2]);
        assert_eq!(wrong(vec![claim(0, a), claim(1, b)], Some(&of_a)), [1]);
        assert_eq!(wrong(vec![claim(0, a), claim(1, b)], Some(&of_c)), Vec::<EndpointId>::new());
        assert_eq!(wrong(vec![claim(0, a), claim(1, a), claim(2, b)], None), [2]);
        assert_eq!(wrong(vec![claim(0, a), claim(1, b)], None), Vec::<EndpointId>::new());
    }

    #[test]
    fn a_count_or_a_parent_alone_is_enough() {
        let honest = [0, 0, 0];
        let mut counts = claim(1, &honest);
        counts.meta.executed_transaction_count += 1;
        let mut builds = claim(2, &honest);
        builds.meta.parent_blockhash = Hash([1; 32]);
        let claims = vec![claim(0, &honest), counts, builds];
        assert_eq!(wrong(claims, Some(&referee(&honest))), [1, 2]);
    }

    #[test]
    fn what_was_lost_is_no_lie_and_what_only_the_status_differs_in_the_majority_decides() {
        let honest = [0, 0, 0];
        let mut lossy = claim(1, &honest);
        lossy.deliveries.remove(1);
        let mut other_status = claim(2, &honest);
        other_status.deliveries[0].digest = Hash([8; 32]);
        assert_eq!(wrong(vec![claim(0, &honest), lossy, other_status], Some(&referee(&honest))), [2]);
    }

    #[test]
    fn two_banks_of_one_endpoint_are_one_voice() {
        let (a, b): (&[u8], &[u8]) = (&[0, 0], &[0, 5]);
        assert_eq!(wrong(vec![claim(0, a), claim(0, a), claim(1, b)], None), Vec::<EndpointId>::new());
    }
}
